"""What ingest is told and what it answers."""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from emeg.config import Config, runtime_field


class CleaningConfig(Config):
    """Steps before standardising, all off by default; each needs the whole recording in memory."""

    remove_hpi: bool = False
    """Take out continuous head position coils, by MNE-Python's `filter_chpi`."""
    maxwell: bool = False
    """Signal space separation of MEG, by MNE-Python's `maxwell_filter`, without calibration files."""
    maxwell_window_s: PositiveFloat | None = None
    """Window of temporal signal space separation, s; none by default."""
    reference: str | None = None
    """Reference of EEG: ``average``, or channels joined by commas; as recorded by default."""
    ica_labels: bool = False
    """Take out independent components of EEG that ICLabel calls eye, muscle, heart, mains or channel noise;
    the rest has the average reference."""
    ica_min_probability: float = Field(default=0.8, ge=0.0, le=1.0)
    """How sure ICLabel must be of a component."""
    ica_min_channels: PositiveInt = 16
    """With fewer EEG channels nothing is taken apart."""


class StandardiseConfig(Config):
    """How every recording is brought to one rate, one band and one set of units."""

    sfreq: PositiveFloat = 256.0
    """Sampling rate after resampling, Hz."""
    l_freq: PositiveFloat = 0.1
    """Lower end of the pass band, Hz."""
    h_freq: PositiveFloat = 96.0
    """Upper end of the pass band, Hz; lower where the source's rate or low-pass is."""
    notch: bool = True
    """Take out the mains frequency and its harmonics below the upper end of the pass band."""
    bad_channels: Literal["interpolate", "mark"] = "interpolate"
    """What becomes of a bad channel: its neighbours' estimate, or its own signal with a mark."""
    meg_frame: Literal["device", "head"] = "device"
    """Frame of MEG sensor positions."""
    max_bad_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """A recording with a larger share of bad channels is quarantined."""
    cleaning: CleaningConfig = CleaningConfig()
    """Steps of other libraries before it, off by default."""

    def product_fields(self) -> dict[str, Any]:
        """Fields that can change a result; steps that are off leave names as they were before there were such steps."""
        fields = super().product_fields()
        if self.cleaning == CleaningConfig():
            del fields["cleaning"]
        return fields


class TransferConfig(Config):
    """How files of a bucket are fetched; nothing of it can change a result."""

    connections: PositiveInt = runtime_field(8)
    """Files of a recording that are fetched at once, in each worker."""
    attempts: PositiveInt = runtime_field(8)
    """How often a request is made before it is given up, with growing, random waits between."""
    timeout_s: PositiveFloat = runtime_field(30.0)
    """A request without an answer, or without a further byte, for so long has failed, s."""
    piece_mib: PositiveFloat = runtime_field(8.0)
    """Bytes asked for in one request, MiB; what has arrived need not be fetched again."""
    scratch: str | None = runtime_field(None)
    """Folder for files on their way; a folder for temporary files by default."""
    scratch_gib: PositiveFloat = runtime_field(64.0)
    """Files of all workers on their way take no more than this, GiB; a larger recording goes alone."""

    @property
    def piece_bytes(self) -> int:
        """Bytes asked for in one request."""
        return max(1, round(self.piece_mib * 2**20))


class IngestConfig(Config):
    """Bring an archive into the store, recording by recording."""

    option_group: ClassVar[str] = "data"

    archive: str
    """Folder or URI of recordings, BIDS where possible: a path, s3://…, anonymous:s3://…, openneuro:ds000117."""
    root: str
    """Store to write to: folder or fsspec URI."""
    dataset: str | None = None
    """Short name of the dataset; the archive's last folder by default."""
    recipe: str | None = None
    """YAML file that says what the files of a folder are that is not BIDS."""
    montage: str | None = None
    """MNE montage for electrode names that the 10-05 system does not know, such as ``biosemi128``."""
    standardise: StandardiseConfig = StandardiseConfig()
    """Signal processing."""
    transfer: TransferConfig = runtime_field(TransferConfig())
    """How files are fetched from a bucket."""
    memory_mib: PositiveFloat = runtime_field(256.0)
    """A signal that is longer lies in a scratch file while a worker standardises it, MiB."""
    workers: NonNegativeInt = runtime_field(2)
    """Processes that ingest side by side; 0: all in the calling process, for a debugger, without a time limit."""
    dask: str | None = runtime_field(None, group="cluster")
    """Scheduler of a Dask cluster that ingests instead of processes here, such as ``tcp://host:8786``."""
    time_limit_s: PositiveFloat = runtime_field(7200.0)
    """A recording that takes longer is given up and quarantined, s."""
    retry_quarantined: bool = runtime_field(False, group="data")
    """Try sources again that were refused before, though neither they nor the settings have changed."""


class IngestResult(Config):
    """What one ingest found and did."""

    dataset: str
    """Short name of the dataset."""
    ready: tuple[str, ...]
    """Recording ids in the store, sorted."""
    quarantined: tuple[str, ...]
    """Sources that were refused, as paths in the dataset, sorted."""
    skipped: dict[str, int]
    """Files left aside by rule (derivatives, empty rooms, …) and how many."""
    vanished: tuple[str, ...] = ()
    """Sources of recordings in the store that the archive does not have any more; their recordings stay."""
    replaced: tuple[str, ...] = ()
    """Recordings that were removed, since their source has changed and the new one is in the store."""
    snapshot: str = ""
    """Version tag that the archive bears, where it has one."""
    people: str = ""
    """How people are named: keyed, or, where no key was set, what that means."""
    n_new: int
    """Sources worked on in this run."""
    n_known: int
    """Sources that an earlier run had settled."""

    @property
    def done_before(self) -> bool:
        """Whether there was nothing left to do."""
        return self.n_new == 0
