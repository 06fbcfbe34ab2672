"""Configuration and result of the verb ingest."""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from emeg.config import Config, runtime_field


class CleaningConfig(Config):
    """Steps before standardising, all off by default; each needs the whole recording in memory."""

    remove_hpi: bool = False
    """Remove the signals of continuous head position coils with MNE-Python's `filter_chpi`."""
    maxwell: bool = False
    """Apply signal space separation to MEG with MNE-Python's `maxwell_filter`, without calibration files."""
    maxwell_window_s: PositiveFloat | None = None
    """Window of temporal signal space separation, s; not applied by default."""
    reference: str | None = None
    """Reference of EEG and of each kind of intracranial electrodes: ``average`` of the kind, or channel names joined
    by commas; as recorded by default."""
    ica_labels: bool = False
    """Remove EEG components that ICLabel classifies as artefacts; the rest has the average reference."""
    ica_min_probability: float = Field(default=0.8, ge=0.0, le=1.0)
    """Least probability with which ICLabel must classify a component that is removed."""
    ica_min_channels: PositiveInt = 16
    """Least number of EEG channels for a decomposition; with fewer, no component is removed."""


class StandardiseConfig(Config):
    """How every recording is brought to one rate, one band and one set of units."""

    sfreq: PositiveFloat = 256.0
    """Sampling rate after resampling, Hz."""
    l_freq: PositiveFloat = 0.1
    """Lower edge of the pass band, Hz."""
    h_freq: PositiveFloat = 96.0
    """Upper edge of the pass band, Hz; lower where the source's sampling rate or low-pass requires it."""
    notch: bool = True
    """Remove the mains frequency and its harmonics below the upper edge of the pass band."""
    bad_channels: Literal["interpolate", "mark"] = "interpolate"
    """Replace a bad channel by an estimate from its neighbours, or keep its signal and mark it."""
    meg_frame: Literal["device", "head"] = "device"
    """Coordinate frame of MEG sensor positions."""
    max_bad_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Largest share of bad channels; a recording with more is quarantined."""
    cleaning: CleaningConfig = CleaningConfig()
    """Steps of other libraries before standardising, off by default."""

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result; steps that are off leave the names of recordings unchanged."""
        fields = super().product_fields()
        if self.cleaning == CleaningConfig():
            del fields["cleaning"]
        return fields


class TransferConfig(Config):
    """How files are fetched from a bucket; no field can change a result."""

    connections: PositiveInt = runtime_field(8)
    """Files of a recording that a worker fetches at once."""
    attempts: PositiveInt = runtime_field(8)
    """Attempts at a request before it fails, with growing random waits between them."""
    timeout_s: PositiveFloat = runtime_field(30.0)
    """Time without a further byte after which a request has failed, s."""
    piece_mib: PositiveFloat = runtime_field(8.0)
    """Bytes of one request, MiB; an interrupted transfer resumes after the last complete request."""
    scratch: str | None = runtime_field(None)
    """Folder for fetched files; the system's folder for temporary files by default."""
    scratch_gib: PositiveFloat = runtime_field(64.0)
    """Most space that fetched files of all workers take at once, GiB; a larger recording is fetched alone."""

    @property
    def piece_bytes(self) -> int:
        """Bytes of one request."""
        return max(1, round(self.piece_mib * 2**20))


class IngestConfig(Config):
    """Ingest an archive into the store, recording by recording."""

    option_group: ClassVar[str] = "data"

    archive: str
    """Folder or URI with recordings, BIDS or not: a path, s3://…, anonymous:s3://…, openneuro:ds000117."""
    root: str
    """Store to write to: folder or fsspec URI."""
    dataset: str | None = None
    """Short name of the dataset in the store; the archive's last folder by default."""
    same_dataset: bool = runtime_field(False, group="data")
    """Accept the archive as a newer version of the dataset of the same name, whatever its content."""
    mapping: str | None = None
    """YAML file that maps the files of an archive without BIDS names to subjects, sessions, tasks and runs."""
    montage: str | None = None
    """MNE montage for electrode names that the 10-05 system does not have, such as ``biosemi128``."""
    standardise: StandardiseConfig = StandardiseConfig()
    """Signal processing."""
    transfer: TransferConfig = runtime_field(TransferConfig())
    """How files are fetched from a bucket."""
    memory_mib: PositiveFloat = runtime_field(256.0)
    """Largest signal that a worker holds in memory, MiB; a larger one is held in a scratch file."""
    workers: NonNegativeInt = runtime_field(2)
    """Worker processes; 0 works in the calling process, for a debugger, without a time limit."""
    dask: str | None = runtime_field(None, group="cluster")
    """Scheduler of a Dask cluster to work on instead of processes of this machine, such as ``tcp://host:8786``."""
    time_limit_s: PositiveFloat = runtime_field(7200.0)
    """Time limit of a recording, s; one that takes longer is stopped and quarantined."""
    retry_quarantined: bool = runtime_field(False, group="data")
    """Try quarantined sources again although neither they nor the settings have changed."""


class IngestResult(Config):
    """Result of one ingest."""

    dataset: str
    """Short name of the dataset."""
    ready: tuple[str, ...]
    """Recording ids in the store, sorted."""
    quarantined: tuple[str, ...]
    """Sources that were refused, as paths in the dataset, sorted."""
    skipped: dict[str, int]
    """Files left aside by rule (derivatives, empty rooms, …): reason and number."""
    skipped_examples: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The first files left aside for each reason, as paths in the dataset."""
    vanished: tuple[str, ...] = ()
    """Sources of recordings in the store that the archive no longer has; their recordings stay."""
    replaced: tuple[str, ...] = ()
    """Recordings that were removed, since their source has changed and the new one is in the store."""
    snapshot: str = ""
    """Version tag of the archive, where it has one."""
    registry: str = ""
    """Entry of the registry that was applied, and what it was found by; empty where the dataset has none."""
    people: str = ""
    """How subjects are named: with a key, or what the lack of one means."""
    columns_left_out: dict[str, str] = Field(default_factory=dict)
    """Columns of participants.tsv, sessions.tsv and scans.tsv that are not kept because they may identify a person, and
    why."""
    n_new: int
    """Recordings and refusals that this run itself made."""
    n_known: int
    """Sources that an earlier run, or another run at the same time, had settled."""

    @property
    def done_before(self) -> bool:
        """Whether there was nothing left to do."""
        return self.n_new == 0
