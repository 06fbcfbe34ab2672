"""An entry of the dataset registry, with the rules that a single entry must follow."""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from emeg.config import Config

Role = Literal["pretrain", "task", "unseen_device", "extra"]
Code = Annotated[str, Field(pattern=r"^[RPDCKU](, [RPDCKU])*$")]
"""Source of a fact: R reference release, P paper, D the dataset's own files, C catalogue, K computed, U unverified."""

Range = PositiveInt | tuple[PositiveInt, PositiveInt]
"""A number, or a range as (smallest, largest)."""

LEAKING = frozenset({"identical_ids", "mapped_ids", "same_cohort", "subset"})
"""Certainty of shared subjects that joins datasets; ``suspected`` only warns."""


class Device(Config):
    """Recording device."""

    vendor: str
    """Manufacturer; empty if not known."""
    model: str = ""
    """Model of the amplifier or helmet."""
    sensor_kinds: tuple[Literal["EEG", "MAG", "GRAD_PLANAR", "GRAD_AXIAL", "OPM", "SEEG", "ECOG", "DBS"], ...] = Field(
        min_length=1
    )
    """Sensor types."""


class Channels(Config):
    """Channel count of the recordings."""

    expected: Range | None
    """EEG and MEG channels after exclusions: a number or a range; None if not known."""
    raw: Range | None = None
    """Channels as stored in the files."""
    tolerate_missing: bool = False
    """Whether recordings with fewer channels are expected."""

    def fits(self, n: int) -> bool:
        """Return whether a recording with `n` channels is as expected."""
        if self.expected is None:
            return True
        least, most = self.expected if isinstance(self.expected, tuple) else (self.expected, self.expected)
        return (self.tolerate_missing or n >= least) and n <= most


class Origin(Config):
    """Where the dataset can be downloaded."""

    kind: Literal["s3", "https", "osf", "figshare", "synapse", "physionet", "hf", "webdav", "rsync", "manual"]
    """Kind of host."""
    uri: str
    """Address of the dataset."""
    anonymous: bool
    """Whether it can be read without an account."""


class Montage(Config):
    """Source of the electrode positions."""

    kind: Literal["in_file", "standard", "custom", "bids_electrodes"]
    """``standard``: a built-in montage of MNE; ``custom``: names of the 10-05 system or of a cap."""
    name: str | None = None
    """Name of the built-in montage."""
    axes: Literal["RAS", "ALS"] = "RAS"
    """Axes of the published coordinates: nose along +y (RAS) or along +x (ALS)."""
    unit: Literal["m", "mm", "unit_sphere"] = "m"
    """Unit of the published coordinates."""

    @model_validator(mode="after")
    def _standard_has_a_name(self) -> Self:
        if self.kind == "standard" and not self.name:
            raise ValueError("montage: kind standard needs a name; add the name of a montage of MNE")
        return self


class Pattern(Config):
    """A rule that renames channels: each match of `pattern` is replaced by `to`."""

    pattern: str
    """Regular expression."""
    to: str
    """Replacement; ``\\1`` and ``\\g<name>`` insert groups."""

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is not a regular expression: {error}") from error
        return self


class Hpi(Config):
    """Head position indicator coils."""

    remove: bool
    """Whether the reference release removes their frequencies."""
    freqs_hz: tuple[PositiveFloat, ...] = ()
    """Frequencies of the coils, Hz."""


class Events(Config):
    """Source of the events."""

    table: str
    """Path of the table relative to the recording, as a pattern."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column of the table for each meaning."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Event name for each value in the table."""


class LabelSource(Config):
    """Source of the class of a window."""

    kind: Literal["path", "participants", "events", "annotations", "variable", "index", "table"]
    """Kind of source."""
    column: str | None = None
    """Name of the column or variable."""
    rule: str = ""
    """How a value is turned into a class, in words."""


class Task(Config):
    """A downstream task."""

    name: str
    """Name of the task."""
    window_s: PositiveFloat
    """Length of a window, s."""
    stride_s: PositiveFloat | None = None
    """Distance between windows, s; one window per event if not set."""
    start_s: float = 0.0
    """Start of a window relative to its event, s."""
    classes: dict[str, int]
    """Class index of each label; labels may share a class."""
    label: LabelSource
    """Source of the labels."""
    drop_groups: tuple[str, ...] = ()
    """Labels that are ignored."""
    include: tuple[str, ...] = ()
    """Recordings that belong to the task; all if none is given."""
    metric: str = "balanced_accuracy"
    """Primary metric."""
    split: Literal["people", "official_eval"] = "people"
    """Folds by subject, or the evaluation part of the dataset as test set."""
    modality: Literal["eeg", "meg", "eeg+meg", "ieeg"] | None = None
    """Sensors used if the dataset has EEG and MEG; all if not set."""
    known_defects: tuple[str, ...] = ()
    """Errors in the reference release or the paper."""
    published: dict[str, float] = Field(default_factory=dict)
    """Balanced accuracy in version 1 of the paper, by model size."""


class SubjectKey(Config):
    """How the id of a subject is derived; it must identify the person, not the session or the label."""

    from_: Literal["path", "table", "fixed"] = Field(alias="from")
    """``path``: an entity or a pattern on the path; ``table``: a column; ``fixed``: a single subject."""
    entity: str | None = None
    """BIDS entity that holds the id."""
    pattern: str | None = None
    """Regular expression with groups, matched on the path."""
    to: str = "\\g<subject>"
    """Template of the id, with the groups."""
    column: str | None = None
    """Column of the participants table."""
    exceptions: tuple[Pattern, ...] = ()
    """Exceptions to the rule: id for each pattern on the path."""

    def subject(self, path: str) -> str:
        """Return the id of the subject recorded in `path`; empty if the rule does not apply."""
        for exception in self.exceptions:
            if re.search(exception.pattern, path):
                return exception.to
        found = re.search(self.pattern, path) if self.pattern else None
        return found.expand(self.to) if found else ""


class SharedSubjects(Config):
    """Another dataset with the same subjects."""

    id: str
    """Id of the other dataset."""
    kind: Literal["identical_ids", "mapped_ids", "same_cohort", "subset", "suspected"]
    """How the subjects of both correspond."""
    source: Code
    """Certainty of the correspondence."""


class Treatment(Config):
    """How an entry or a file mapping treats the recordings of a dataset."""

    montage: str | None = None
    """MNE montage for electrode names."""
    mains_hz: Literal[50, 60] | None = None
    """Mains frequency if the sidecars state none, Hz."""
    mains_certain: bool = False
    """Whether a sidecar with another mains frequency is an error."""
    units_scale: PositiveFloat = 1.0
    """Factor to volt or tesla if the reader returns other units."""
    rename: dict[str, str] | tuple[Pattern, ...] = Field(default_factory=dict)
    """Channel renames, applied before exclusions."""
    exclude_channels: tuple[str, ...] = ()
    """Channels to exclude, after renaming; ``*`` and ``?`` are wildcards."""
    force_types: dict[str, str] = Field(default_factory=dict)
    """MNE channel type by channel name; ``*`` and ``?`` are wildcards."""
    expected: Channels | None = None
    """Expected channel count; a recording that differs gets a note."""

    def new_name(self, name: str) -> str:
        """Return the name of a channel after renaming."""
        if isinstance(self.rename, dict):
            return self.rename.get(name, name)
        for rule in self.rename:
            name = re.sub(rule.pattern, rule.to, name)
        return name

    def excludes(self, name: str) -> bool:
        """Return whether a channel, by its new name, is excluded."""
        return any(fnmatchcase(name, pattern) for pattern in self.exclude_channels)

    def forced_type(self, name: str) -> str | None:
        """Return the type that overrides the type of a channel in its file, or None."""
        return next((kind for pattern, kind in self.force_types.items() if fnmatchcase(name, pattern)), None)


def _one_or_more(value: Any) -> Any:  # noqa: ANN401 - YAML
    return (value,) if isinstance(value, dict) else value


class Entry(Config):
    """A dataset of the registry."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Id of the dataset, without a version."""
    title: str = Field(min_length=1)
    """Title as published."""
    roles: tuple[Role, ...] = Field(min_length=1)
    """Role of the dataset."""
    modality: tuple[Literal["eeg", "meg", "ieeg"], ...] = Field(min_length=1)
    """Modality; both if recorded simultaneously."""
    device: Device
    """Recording device."""
    other_devices: tuple[Device, ...] = ()
    """Further devices of the dataset."""
    channels: Channels
    """Channel count."""
    source_rate_hz: PositiveFloat | tuple[PositiveFloat, ...] | None
    """Sampling rates of the files, Hz; None if not known."""
    band_high_hz: PositiveFloat | None = None
    """Upper edge of the pass band, Hz, if the sampling rate does not allow 96 Hz."""
    mains_hz: Literal[50, 60] | None
    """Mains frequency at the site, Hz; from sidecar or spectrum if None."""
    subjects: PositiveInt
    """Number of subjects."""
    recordings: PositiveInt | None = None
    """Nominal number of recordings."""
    hours: PositiveFloat | None = None
    """Nominal duration, h."""
    hours_source: Code | None = None
    """Certainty of the duration."""
    licence: str = Field(min_length=1)
    """Licence, as an SPDX identifier if possible; ``unknown`` if the host states none."""
    licence_flags: tuple[
        Literal["share_alike", "non_commercial", "no_redistribution", "derived_data_must_be_open", "no_cloud_copy"], ...
    ] = ()
    """Conditions of the licence."""
    access_tier: Literal["open", "agreement", "request"]
    """``open``: anonymous download; ``agreement``: terms to accept; ``request``: approval by a person."""
    doi: str | None
    """DOI of the dataset; None if not known."""
    source: Origin
    """Download source."""
    snapshot: str | None
    """Version tag to download; None if the host has no tags."""
    paper_snapshot: str | dict[str, str] | None = None
    """Version tag that the paper or the release used."""
    layout: Literal["bids", "tuh", "flat", "mat_trials", "pkl_trials"]
    """Layout of the files."""
    include: tuple[str, ...] = ()
    """Globs of recordings to include; all if none is given."""
    exclude_paths: tuple[str, ...] = ()
    """Globs to exclude, in addition to derivatives, source data, empty rooms and noise runs."""
    reader: Literal[
        "fif", "ctf", "kit", "bti", "edf", "bdf", "brainvision", "eeglab", "cnt", "gdf", "mat", "pickle", "hdf5"
    ]
    """Format of the recordings; the most frequent one if there are several."""
    units_scale: PositiveFloat = 1.0
    """Factor to volt or tesla if the reader does not return SI units."""
    montage: Montage
    """Source of the electrode positions."""
    rename: dict[str, str] | tuple[Pattern, ...] = Field(default_factory=dict)
    """Channel renames, applied before exclusions."""
    exclude_channels: tuple[str, ...] = ()
    """Channels to exclude, after renaming; ``*`` and ``?`` are wildcards."""
    force_types: dict[str, str] = Field(default_factory=dict)
    """MNE channel type by channel name."""
    hpi: Hpi = Hpi(remove=False)
    """Head position indicator coils."""
    events: Events | None = None
    """Source of the events if the dataset is not BIDS."""
    task: Annotated[tuple[Task, ...], BeforeValidator(_one_or_more)] = ()
    """Downstream tasks."""
    subject_key: SubjectKey
    """How the id of a subject is derived."""
    same_subjects_as: tuple[SharedSubjects, ...]
    """Datasets with the same subjects; an empty list must be explicit."""
    never_pretrain: bool
    """Whether it must not be used in pretraining: true for task datasets and all that share subjects with one."""
    unseen_device: bool
    """Whether its device must not occur in pretraining."""
    provenance: dict[str, Code]
    """Sources of the facts, by field."""
    notes: tuple[str, ...] = ()
    """Further remarks."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "task" in self.roles and not self.never_pretrain:
            raise ValueError("role task needs never_pretrain: true; set it")
        if self.unseen_device != ("unseen_device" in self.roles):
            raise ValueError("unseen_device: true and the role unseen_device need each other; set both or neither")
        if ("task" in self.roles) != bool(self.task):
            raise ValueError("a dataset with the role task needs tasks, and other roles must have none")
        unknown = sorted(set(self.provenance) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"provenance of unknown fields: {', '.join(unknown)}")
        if self.source.kind == "s3" and self.access_tier != "open" and self.source.anonymous:
            raise ValueError(
                "access_tier other than open and an anonymous source contradict each other; correct one of them"
            )
        return self

    @property
    def treatment(self) -> Treatment:
        """How the recordings are treated."""
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
