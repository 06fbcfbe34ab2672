"""Parameters and result of ``synthesize``."""

from pydantic import Field, PositiveFloat, field_validator, model_validator

from emeg.config import Config, runtime_field
from emeg.hashing import hash_json
from emeg.version import __version__

DEVICE_NAMES = ("standard19", "biosemi64", "hydrocel128", "vectorview306", "ctf275", "opm64")
"""Devices simulated by default; `emeg.synthetic.devices` describes them."""

INTRACRANIAL_NAMES = ("seeg", "ecog")
"""Devices with other electrodes in every subject, simulated where they are named."""


class SynthesizeConfig(Config):
    """Write a BIDS archive of simulated EEG, MEG and intracranial recordings."""

    out: str = runtime_field(..., group="data")
    """Folder of the BIDS dataset; must be absent, empty or a complete archive of the same settings."""

    n_subjects: int = Field(12, ge=1, le=999)
    """Number of subjects; every second one has slowed rhythms."""

    devices: tuple[str, ...] = DEVICE_NAMES
    """Devices: standard19, biosemi64, hydrocel128, vectorview306, ctf275, opm64; intracranial: seeg, ecog."""

    imagery_device: str | None = "biosemi64"
    """Device of the imagery runs, not used in short runs; no imagery runs if None."""

    devices_per_subject: int = Field(2, ge=0)
    """Number of other devices, in rotation, that record each subject's short run."""

    simultaneous: bool = True
    """Record a short run simultaneously with all its devices."""

    n_trials: int = Field(28, ge=2)
    """Imagery trials of a run, half of them left."""

    imagery_s: PositiveFloat = 4.0
    """Duration of an imagery trial, s."""

    rest_s: PositiveFloat = 1.2
    """Mean rest after each trial, s."""

    short_s: PositiveFloat = 50.0
    """Duration of a short run (rest or tones), s; rounded to a whole number."""

    bad_channels: float = Field(0.5, ge=0.0, le=1.0)
    """Probability that a recording has flat channels, and likewise noisy channels."""

    seed: int = Field(0, ge=0)
    """Seed of all random draws."""

    workers: int = runtime_field(2, ge=1)
    """Number of processes."""

    @field_validator("devices")
    @classmethod
    def _known_devices(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        known = (*DEVICE_NAMES, *INTRACRANIAL_NAMES)
        unknown = sorted(set(devices) - set(known))
        if unknown:
            raise ValueError(f"no such device: {', '.join(unknown)}; known are {', '.join(known)}")
        if not devices or len(set(devices)) < len(devices):
            raise ValueError("devices must name at least one device, and each only once")
        return devices

    @model_validator(mode="after")
    def _consistent(self) -> "SynthesizeConfig":
        if self.imagery_device is not None and self.imagery_device not in self.devices:
            raise ValueError(f"imagery_device {self.imagery_device!r} is not among devices {', '.join(self.devices)}")
        if self.devices_per_subject > len(self.rotation):
            raise ValueError(
                f"devices_per_subject is {self.devices_per_subject}, but {len(self.rotation)} are in rotation"
            )
        if self.imagery_device is None and self.devices_per_subject == 0:
            raise ValueError("no runs to record: set imagery_device, or devices_per_subject above 0")
        return self

    @property
    def rotation(self) -> tuple[str, ...]:
        """Devices that alternate in the short runs."""
        return tuple(name for name in self.devices if name != self.imagery_device)

    @property
    def archive_hash(self) -> str:
        """Hash of the settings and the version."""
        return hash_json({"config": self.product_fields(), "version": __version__})


class SynthesizeResult(Config):
    """Summary of the archive."""

    out: str
    """Folder of the dataset."""
    archive: str
    """Hash of settings and version."""
    devices: tuple[str, ...]
    """Devices with recordings."""
    n_subjects: int
    """Number of subjects."""
    n_recordings: int
    """Number of recordings."""
    n_simultaneous: int
    """Groups of simultaneous recordings."""
    hours: float
    """Duration of all recordings, h."""
    done_before: bool
    """Whether the archive existed before."""
