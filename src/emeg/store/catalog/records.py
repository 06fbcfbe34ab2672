"""The rows and attributes that the store keeps beside the signals."""

from enum import IntFlag
from typing import Any, NamedTuple

from pydantic import Field

from emeg.config import Config


class BadReason(IntFlag):
    """Why a second of a channel is not good data; bits of the array ``bad``."""

    FLAT = 1
    NOISY = 2
    NAN = 4
    CLIPPED = 8
    INTERPOLATED = 16
    MARKED = 32
    BEYOND_GATE = 64
    UNCORRELATED = 128


class Stretch(NamedTuple):
    """Part of a recording that the amplifier recorded without a pause; no filter and no segment reaches beyond it."""

    start: int
    """First sample."""
    stop: int
    """Sample after the last."""
    onset_s: float | None = None
    """When it began on the amplifier's clock, s after the recording's first sample; None where no file states it."""


class RecordingAttributes(Config):
    """Attributes of a recording's Zarr group, except for its sensors."""

    sfreq: float
    """Sampling rate, Hz."""
    pass_band: tuple[float, float]
    """Lower and upper edge of the band that the signal keeps, Hz."""
    notches: tuple[float, ...] = ()
    """Frequencies removed as mains hum, Hz."""
    device: str = ""
    """Amplifier or helmet, as far as the files tell."""
    layout: str
    """Layout id of the sensors."""
    source: str
    """Path of the source file in its dataset."""
    dataset: str
    """Name of the dataset."""
    subject: str
    """Subject label in the dataset."""
    licence: str = ""
    """Licence of the dataset, as declared."""
    config_hash: str
    """Hash of the standardising configuration."""
    version: str
    """Version of emeg that wrote the recording."""
    stretches: tuple[Stretch, ...] = ()
    """Stretches of an interrupted recording, in order; empty for one without interruption."""


class CatalogRow(Config):
    """One recording in the catalogue; an empty text means that the dataset has no such entity."""

    recording: str
    """Recording id."""
    dataset: str
    """Name of the dataset."""
    subject: str = ""
    """Subject label."""
    session: str = ""
    """Session label."""
    task: str = ""
    """Task label."""
    run: str = ""
    """Run label."""
    acquisition: str = ""
    """Acquisition label."""
    device: str = ""
    """Amplifier or helmet."""
    modality: str
    """``eeg``, ``meg``, ``eeg+meg`` or ``ieeg``."""
    source: str
    """Path of the source file in its dataset."""
    n_channels: int
    """Channels in the recording."""
    n_eeg: int
    """EEG channels."""
    n_magnetometers: int
    """Magnetometers."""
    n_gradiometers: int
    """Gradiometers."""
    layout: str
    """Layout id."""
    sfreq_source: float
    """Sampling rate of the source, Hz."""
    duration_s: float
    """Length, seconds."""
    pass_band_low: float
    """Lower edge of the band kept, Hz."""
    pass_band_high: float
    """Upper edge of the band kept, Hz."""
    notches: tuple[float, ...] = ()
    """Frequencies removed as mains hum, Hz."""
    mains: float = 0.0
    """Mains frequency, Hz; 0 where none is known or found."""
    bad_channels: tuple[str, ...] = ()
    """Channels found or marked bad."""
    interpolated: tuple[str, ...] = ()
    """Channels replaced by interpolation."""
    dropped: dict[str, str] = Field(default_factory=dict)
    """Channels left out, and why."""
    compensation_grade: int = 0
    """Gradient compensation of the source (CTF)."""
    sss: bool = False
    """Whether signal space separation was applied."""
    tsss: bool = False
    """Whether its temporal form was applied."""
    rank: int = 0
    """Rank of the channels before bad ones were replaced, after SSS and applied projectors, according to the header."""
    internal_shielding: bool = False
    """Whether the signal contains the fields of active shielding coils."""
    hpi: str = ""
    """Head position coils: ``continuous``, ``before`` the recording, or none."""
    contents: str = "brain"
    """What was measured: ``brain``, ``phantom`` or ``empty room``; a corpus contains ``brain`` only."""
    n_projectors: int = 0
    """Projectors found in the source."""
    n_events: int = 0
    """Events kept beside the recording."""
    bad_share: float | None = None
    """Share of channel-seconds marked bad for any reason; null, as all below, if an older version ingested."""
    flat_s: float | None = None
    """Share of channel-seconds without a signal."""
    noisy_s: float | None = None
    """Share of channel-seconds with noise: amplitude or high frequencies differ much from other channels or seconds."""
    clipped_s: float | None = None
    """Share of channel-seconds in which the source stays at its extreme value."""
    beyond_gate_s: float | None = None
    """Share of channel-seconds with an amplitude outside the range of their sensor type."""
    uncorrelated_s: float | None = None
    """Share of channel-seconds that do not correlate with neighbouring sensors."""
    mains_ratio: float | None = None
    """Ratio of the source's power at the mains frequency and harmonics to that at frequencies beside them; median."""
    high_frequency_ratio: float | None = None
    """Ratio of the amplitude above 50 Hz to that at 1-50 Hz, median; null also if the pass band ends below."""
    neighbour_correlation: float | None = None
    """Largest correlation with one of the six nearest sensors, 1-50 Hz; median."""
    licence: str = ""
    """Licence of the dataset, as declared."""
    notes: tuple[str, ...] = ()
    """Further remarks, one sentence each."""
    config_hash: str
    """Hash of the standardising configuration."""
    version: str
    """Version of emeg that wrote the recording."""


class Event(NamedTuple):
    """Something that happened during a recording."""

    onset_s: float
    duration_s: float
    trial_type: str
    value: str


class QuarantineRecord(Config):
    """A source that was refused."""

    source: str
    """Path in the dataset."""
    dataset: str
    """Name of the dataset."""
    stage: str
    """Stage of ingest that refused it."""
    reason: str
    """What is wrong."""
    next_action: str = ""
    """What the user can do about it."""
    sensors: tuple[dict[str, Any], ...] = ()
    """Sensor records, as far as they were read."""
    layout: str = ""
    """Layout id, where the sensors were read."""
    recording: str = ""
    """Name that the recording would have: hash of its content and of the settings under which it was refused."""
    config_hash: str = ""
    """Hash of the standardising configuration."""
