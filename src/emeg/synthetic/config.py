"""What to synthesize, and what came of it."""

from pydantic import Field, PositiveFloat, field_validator, model_validator

from emeg.config import Config, runtime_field
from emeg.hashing import hash_json
from emeg.version import __version__

DEVICE_NAMES = ("standard19", "biosemi64", "hydrocel128", "vectorview306", "ctf275", "opm64")
"""Every device that can be simulated; `emeg.synthetic.devices` describes them."""


class SynthesizeConfig(Config):
    """An archive of simulated people recorded by simulated devices."""

    out: str = runtime_field(...)
    """Folder to write the BIDS dataset into: absent, empty, or a complete archive of the same settings."""

    n_subjects: int = Field(12, ge=1, le=999)
    """People. Every second one belongs to the group whose rhythms are slowed."""

    devices: tuple[str, ...] = DEVICE_NAMES
    """Devices in use: standard19, biosemi64, hydrocel128, vectorview306, ctf275, opm64."""

    imagery_device: str | None = "biosemi64"
    """Device that records everybody's imagery run; it takes no part in the rotation. None: no imagery runs."""

    devices_per_subject: int = Field(2, ge=0)
    """Of the other devices, how many record each person's short run, in rotation."""

    simultaneous: bool = True
    """Whether the devices of a person's short run see the same source activity at the same time."""

    n_trials: int = Field(28, ge=2)
    """Imagery trials in a run, half of them left."""

    imagery_s: PositiveFloat = 4.0
    """Duration of one imagery trial, seconds."""

    rest_s: PositiveFloat = 1.2
    """Mean rest after each trial, seconds."""

    short_s: PositiveFloat = 50.0
    """Duration of a short run (rest, or tones), seconds; rounded to a whole number."""

    bad_channels: float = Field(0.5, ge=0.0, le=1.0)
    """Probability that a recording has flat channels, and likewise noisy ones (1 % of its channels, at least one)."""

    seed: int = Field(0, ge=0)
    """Everything random follows from it."""

    workers: int = runtime_field(2, ge=1)
    """Processes that share the people between them."""

    @field_validator("devices")
    @classmethod
    def _known_devices(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(devices) - set(DEVICE_NAMES))
        if unknown:
            raise ValueError(f"no such device: {', '.join(unknown)}; known are {', '.join(DEVICE_NAMES)}")
        if not devices or len(set(devices)) < len(devices):
            raise ValueError("name at least one device, and each only once")
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
            raise ValueError("neither imagery nor short runs are asked for: nothing would be recorded")
        return self

    @property
    def rotation(self) -> tuple[str, ...]:
        """Devices that take turns in the short runs."""
        return tuple(name for name in self.devices if name != self.imagery_device)

    @property
    def archive_hash(self) -> str:
        """Name of the archive that these settings make with this version."""
        return hash_json({"config": self.product_fields(), "version": __version__})


class SynthesizeResult(Config):
    """What lies in the folder."""

    out: str
    """The dataset's folder."""
    archive: str
    """Hash of settings and version."""
    devices: tuple[str, ...]
    """Devices that recorded anything."""
    n_subjects: int
    """People."""
    n_recordings: int
    """Recordings, each with its sidecars."""
    n_simultaneous: int
    """Groups of recordings that saw the same source activity."""
    hours: float
    """Duration of all recordings together."""
    done_before: bool
    """The complete archive was there already."""
