"""An entry of the dataset registry: every field and every rule that one entry alone can break."""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from emeg.config import Config

Role = Literal["pretrain", "task", "unseen_device", "extra"]
Code = Annotated[str, Field(pattern=r"^[RPDCKU](, [RPDCKU])*$")]
"""Source of a fact: R reference release, P paper, D the dataset's own files, C catalogue, K computed, U unverified."""

Range = PositiveInt | tuple[PositiveInt, PositiveInt]
"""A number, or the least and the most."""

LEAKING = frozenset({"identical_ids", "mapped_ids", "same_cohort", "subset"})
"""Kinds of shared people that bind datasets together; ``suspected`` only warns."""


class Device(Config):
    """What recorded it."""

    vendor: str
    """Maker, empty where it is not known."""
    model: str = ""
    """Amplifier or helmet."""
    sensor_kinds: tuple[Literal["EEG", "MAG", "GRAD_PLANAR", "GRAD_AXIAL", "OPM"], ...] = Field(min_length=1)
    """Kinds of sensors."""


class Channels(Config):
    """How many channels a recording has."""

    expected: Range | None
    """EEG and MEG channels after exclusions; one number, or least and most. None: not known."""
    raw: Range | None = None
    """Channels as stored."""
    tolerate_missing: bool = False
    """Whether fewer are nothing to speak of."""

    def fits(self, n: int) -> bool:
        """Whether a recording with `n` channels is as expected."""
        if self.expected is None:
            return True
        least, most = self.expected if isinstance(self.expected, tuple) else (self.expected, self.expected)
        return (self.tolerate_missing or n >= least) and n <= most


class Origin(Config):
    """Where the data lie."""

    kind: Literal["s3", "https", "osf", "figshare", "synapse", "physionet", "hf", "webdav", "rsync", "manual"]
    """Kind of host."""
    uri: str
    """Address."""
    anonymous: bool
    """Whether it answers without an account."""


class Montage(Config):
    """Where positions come from."""

    kind: Literal["in_file", "standard", "custom", "bids_electrodes"]
    """``standard``: a built-in montage of MNE by name; ``custom``: names that the 10-05 system or a cap places."""
    name: str | None = None
    """Name of the built-in montage."""
    axes: Literal["RAS", "ALS"] = "RAS"
    """Axes of the published coordinates: nose along +y (RAS) or along +x (ALS)."""
    unit: Literal["m", "mm", "unit_sphere"] = "m"
    """Unit of the published coordinates."""

    @model_validator(mode="after")
    def _standard_has_a_name(self) -> Self:
        if self.kind == "standard" and not self.name:
            raise ValueError("a standard montage needs its name")
        return self


class Pattern(Config):
    """A rule for names: where `pattern` is found it becomes `to`."""

    pattern: str
    """Regular expression."""
    to: str
    """What takes its place; ``\\1`` and ``\\g<name>`` stand for groups."""

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is no regular expression: {error}") from error
        return self


class Hpi(Config):
    """Head position coils."""

    remove: bool
    """Whether the reference release takes their lines out."""
    freqs_hz: tuple[PositiveFloat, ...] = ()
    """Their frequencies, Hz."""


class Events(Config):
    """Where events lie."""

    table: str
    """Pattern of the table, relative to the recording."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Meaning -> column."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Value in the table -> name."""


class LabelSource(Config):
    """Where a window's class is read."""

    kind: Literal["path", "participants", "events", "annotations", "variable", "index", "table"]
    """Kind of place."""
    column: str | None = None
    """Column or variable."""
    rule: str = ""
    """How the value becomes a class, in words."""


class Task(Config):
    """A downstream task."""

    name: str
    """Name of the task."""
    window_s: PositiveFloat
    """Length of a window, s."""
    stride_s: PositiveFloat | None = None
    """Step between windows, s. None: one window an event."""
    start_s: float = 0.0
    """Start of a window relative to its event, s."""
    classes: dict[str, int]
    """Label -> class index; several labels may share a class."""
    label: LabelSource
    """Where labels are read."""
    drop_groups: tuple[str, ...] = ()
    """Labels left out."""
    include: tuple[str, ...] = ()
    """Recordings that belong to the task; none given: all of the entry."""
    metric: str = "balanced_accuracy"
    """Primary metric."""
    split: Literal["people", "official_eval"] = "people"
    """Folds by person, or the corpus' own evaluation part as test set."""
    modality: Literal["eeg", "meg", "eeg+meg"] | None = None
    """Sensors used, where the dataset has both. None: all."""
    known_defects: tuple[str, ...] = ()
    """What the reference release or the paper gets wrong."""
    published: dict[str, float] = Field(default_factory=dict)
    """Balanced accuracy in version 1 of the paper, by model size."""


class SubjectKey(Config):
    """How a person's id is derived; it must be the person, not the session or the label."""

    from_: Literal["path", "table", "fixed"] = Field(alias="from")
    """``path``: an entity or a pattern on the path; ``table``: a column; ``fixed``: one person."""
    entity: str | None = None
    """BIDS entity."""
    pattern: str | None = None
    """Regular expression on the path with groups."""
    to: str = "\\g<subject>"
    """How the groups become the id."""
    column: str | None = None
    """Column of the participants table."""
    exceptions: tuple[Pattern, ...] = ()
    """Paths that the rule would read wrongly: pattern on the path, and the id."""

    def subject(self, path: str) -> str:
        """Id of the person recorded in `path`; empty where the rule says nothing."""
        for exception in self.exceptions:
            if re.search(exception.pattern, path):
                return exception.to
        found = re.search(self.pattern, path) if self.pattern else None
        return found.expand(self.to) if found else ""


class SharedSubjects(Config):
    """Another dataset with the same people."""

    id: str
    """Its id."""
    kind: Literal["identical_ids", "mapped_ids", "same_cohort", "subset", "suspected"]
    """How the people correspond."""
    source: Code
    """How sure it is."""


class Treatment(Config):
    """What an entry or a recipe says about the recordings themselves."""

    montage: str | None = None
    """MNE montage for electrode names."""
    mains_hz: Literal[50, 60] | None = None
    """Mains frequency where the sidecars state none, Hz."""
    mains_certain: bool = False
    """Whether a sidecar that says otherwise is an error."""
    units_scale: PositiveFloat = 1.0
    """Factor to volt or tesla where the reader gives something else."""
    rename: dict[str, str] | tuple[Pattern, ...] = Field(default_factory=dict)
    """Channel renames, before exclusions."""
    exclude_channels: tuple[str, ...] = ()
    """Channels to leave out, after renaming; ``*`` and ``?`` stand for characters."""
    force_types: dict[str, str] = Field(default_factory=dict)
    """Channel (``*`` and ``?`` as above) -> MNE-Python channel type."""
    expected: Channels | None = None
    """How many channels are left; a recording that differs is noted."""

    def new_name(self, name: str) -> str:
        """Name of a channel after renaming."""
        if isinstance(self.rename, dict):
            return self.rename.get(name, name)
        for rule in self.rename:
            name = re.sub(rule.pattern, rule.to, name)
        return name

    def excludes(self, name: str) -> bool:
        """Whether a channel, under its new name, is left out."""
        return any(fnmatchcase(name, pattern) for pattern in self.exclude_channels)

    def forced_type(self, name: str) -> str | None:
        """Type that a channel is given, whatever its file says."""
        return next((kind for pattern, kind in self.force_types.items() if fnmatchcase(name, pattern)), None)


def _one_or_more(value: Any) -> Any:  # noqa: ANN401 - YAML
    return (value,) if isinstance(value, dict) else value


class Entry(Config):
    """One dataset."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Key in the whole project; never contains the version."""
    title: str = Field(min_length=1)
    """Title as published."""
    roles: tuple[Role, ...] = Field(min_length=1)
    """What it is used for."""
    modality: tuple[Literal["eeg", "meg"], ...] = Field(min_length=1)
    """Both: recorded at the same time."""
    device: Device
    """What recorded it."""
    other_devices: tuple[Device, ...] = ()
    """Further devices of the same dataset."""
    channels: Channels
    """How many channels."""
    source_rate_hz: PositiveFloat | tuple[PositiveFloat, ...] | None
    """Rates stored in the files, Hz. None: not known."""
    band_high_hz: PositiveFloat | None = None
    """Upper edge of the band where the source's rate allows no 96 Hz, Hz."""
    mains_hz: Literal[50, 60] | None
    """Mains frequency at the site, Hz. None: not known; sidecar or spectrum decide."""
    subjects: PositiveInt
    """People, not recordings and not sessions."""
    recordings: PositiveInt | None = None
    """Nominal number of recordings."""
    hours: PositiveFloat | None = None
    """Nominal duration, h."""
    hours_source: Code | None = None
    """How sure the hours are."""
    licence: str = Field(min_length=1)
    """SPDX-like; ``unknown`` where the host states none."""
    licence_flags: tuple[
        Literal["share_alike", "non_commercial", "no_redistribution", "derived_data_must_be_open", "no_cloud_copy"], ...
    ] = ()
    """What the licence asks for."""
    access_tier: Literal["open", "agreement", "request"]
    """``open``: anonymous download; ``agreement``: terms to accept; ``request``: a person approves."""
    doi: str | None
    """DOI of the dataset. None: none known."""
    source: Origin
    """Where it lies."""
    snapshot: str | None
    """Version tag to fetch. None: the host has no tags."""
    paper_snapshot: str | dict[str, str] | None = None
    """Tag that paper or release used."""
    layout: Literal["bids", "tuh", "flat", "mat_trials", "pkl_trials"]
    """How the files are arranged."""
    include: tuple[str, ...] = ()
    """Globs of recordings; none given: all that the layout has."""
    exclude_paths: tuple[str, ...] = ()
    """Globs left aside besides derivatives, source data, empty rooms and noise runs."""
    reader: Literal[
        "fif", "ctf", "kit", "bti", "edf", "bdf", "brainvision", "eeglab", "cnt", "gdf", "mat", "pickle", "hdf5"
    ]
    """Format of the recordings, of most of them where there are several."""
    units_scale: PositiveFloat = 1.0
    """Factor to volt or tesla where the reader does not give SI units."""
    montage: Montage
    """Where positions come from."""
    rename: dict[str, str] | tuple[Pattern, ...] = Field(default_factory=dict)
    """Channel renames, before exclusions."""
    exclude_channels: tuple[str, ...] = ()
    """Channels left out after renaming; ``*`` and ``?`` stand for characters."""
    force_types: dict[str, str] = Field(default_factory=dict)
    """Channel -> MNE-Python channel type."""
    hpi: Hpi = Hpi(remove=False)
    """Head position coils."""
    events: Events | None = None
    """Where events lie, where it is not BIDS that says so."""
    task: Annotated[tuple[Task, ...], BeforeValidator(_one_or_more)] = ()
    """Downstream tasks."""
    subject_key: SubjectKey
    """How a person's id is derived."""
    same_subjects_as: tuple[SharedSubjects, ...]
    """Datasets with the same people; an empty list must be explicit."""
    never_pretrain: bool
    """True for every task dataset and for all that share people with one."""
    unseen_device: bool
    """True when the device must not occur in pretraining."""
    provenance: dict[str, Code]
    """Field -> how sure it is."""
    notes: tuple[str, ...] = ()
    """What else a reader should know."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "task" in self.roles and not self.never_pretrain:
            raise ValueError("a task dataset has never_pretrain: true")
        if self.unseen_device != ("unseen_device" in self.roles):
            raise ValueError("unseen_device and the role of that name go together")
        if ("task" in self.roles) != bool(self.task):
            raise ValueError("a dataset with the role task describes its task, and no other does")
        unknown = sorted(set(self.provenance) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"provenance of unknown fields: {', '.join(unknown)}")
        if self.source.kind == "s3" and self.access_tier != "open" and self.source.anonymous:
            raise ValueError("what needs an agreement is not anonymous")
        return self

    @property
    def treatment(self) -> Treatment:
        """What the entry says about the recordings themselves."""
        return Treatment(
            montage=self.montage.name if self.montage.kind == "standard" else None,
            mains_hz=self.mains_hz,
            mains_certain=self.mains_hz is not None and "U" not in self.provenance.get("mains_hz", "U"),
            units_scale=self.units_scale,
            rename=self.rename,
            exclude_channels=self.exclude_channels,
            force_types=self.force_types,
            expected=self.channels,
        )
