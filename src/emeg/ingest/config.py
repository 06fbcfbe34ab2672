"""What ingest is told and what it answers."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from emeg.config import Config, runtime_field


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


class IngestConfig(Config):
    """Bring an archive into the store, recording by recording."""

    archive: str
    """Folder or fsspec URI with recordings; BIDS where possible."""
    root: str
    """Store to write to: folder or fsspec URI."""
    dataset: str | None = None
    """Short name of the dataset; the archive's last folder by default."""
    montage: str | None = None
    """MNE montage for electrode names that the 10-05 system does not know, such as ``biosemi128``."""
    standardise: StandardiseConfig = StandardiseConfig()
    """Signal processing."""
    workers: PositiveInt = runtime_field(2)
    """Processes that ingest side by side."""
    retry_quarantined: bool = runtime_field(False)
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
    n_new: int
    """Sources worked on in this run."""
    n_known: int
    """Sources that an earlier run had settled."""

    @property
    def done_before(self) -> bool:
        """Whether there was nothing left to do."""
        return self.n_new == 0
