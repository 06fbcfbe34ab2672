"""What ingest knows of one recording: one object that every step reads from and adds to.

``open_header`` ──▶ raw, sidecars, table, events ──▶ ``pick_sensors`` ──▶ picked, misplaced
──▶ ``prepare`` ──▶ compensation_grade, state, device ──▶ ``write_signal`` ──▶ signal

Shape letters: C channels.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emeg.dsp.response import Band
from emeg.errors import RecordingError
from emeg.ingest.config import IngestConfig
from emeg.ingest.readers.breaks import Break, Stretch
from emeg.ingest.readers.rates import RateGroup
from emeg.ingest.signal.bad_channels import BadChannels
from emeg.ingest.signal.interpolation import Interpolation
from emeg.ingest.signal.meg_state import State
from emeg.ingest.source import Source
from emeg.ingest.tables.channels import ChannelTable
from emeg.ingest.tables.datatype import is_intracranial
from emeg.ingest.tables.events import FoundEvents
from emeg.ingest.tables.sidecars import Sidecars
from emeg.sensors import PickedSensors, Sensors
from emeg.store.recordings.measures import Measures

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class Standardised:
    """A standardised recording that is not written yet; its signal is in a `ChannelRows`."""

    n_samples: int
    sensors: Sensors
    bad: NDArray[np.uint8]
    """`BadReason` bits, shape (channels, seconds)."""
    measures: Measures
    channels: BadChannels
    interpolation: Interpolation
    band: Band
    mains: float
    """Mains frequency, Hz; 0 where it is unknown."""
    notes: tuple[str, ...]


@dataclass
class RecordingFacts:
    """Everything that ingest knows of one recording.

    The first three fields are known from the start. Each step adds its own fields; reading a field before its step has
    run raises `AttributeError` with the name of the step, so no default can stand in for a fact.
    """

    source: Source
    config: IngestConfig
    recording: str
    """Recording id."""
    secrets: tuple[str, ...] = ()
    """Texts of the header that messages must not repeat."""
    notes: list[str] = field(default_factory=list)
    """Remarks for the catalogue, in the order in which they were made."""

    raw: "mne.io.BaseRaw" = field(init=False, metadata={"step": "open_header"})
    """The open file; its header changes as tables are applied."""
    sidecars: Sidecars = field(init=False, metadata={"step": "open_header"})
    table: ChannelTable = field(init=False, metadata={"step": "open_header"})
    breaks: tuple[Break, ...] = field(init=False, metadata={"step": "open_header"})
    """Interruptions that the files state."""
    excluded: dict[str, str] = field(init=False, metadata={"step": "open_header"})
    """Channels that the dataset's entry leaves out, and why."""
    events: FoundEvents = field(init=False, metadata={"step": "open_header"})
    picked: PickedSensors = field(init=False, metadata={"step": "pick_sensors"})
    groups: tuple[RateGroup, ...] = field(init=False, metadata={"step": "pick_sensors"})
    """The chosen channels by their rate in the file; one group where the file has one rate."""
    stretches: tuple[Stretch, ...] = field(init=False, metadata={"step": "pick_sensors"})
    """Samples of the source that were recorded without a pause."""
    misplaced: RecordingError | None = field(init=False, metadata={"step": "pick_sensors"})
    """Fault of the sensor positions, which is raised later, together with a wrong unit of the signal."""
    compensation_grade: int = field(init=False, metadata={"step": "prepare"})
    state: State = field(init=False, metadata={"step": "prepare"})
    device: str = field(init=False, metadata={"step": "prepare"})
    signal: Standardised = field(init=False, metadata={"step": "write_signal"})

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - called for absent attributes only
        """Raise for a field whose step has not run."""
        steps = {one.name: one.metadata.get("step") for one in fields(self)}
        if name in steps:
            raise AttributeError(f"{name} is not known yet: the step {steps[name]} fills it in")
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def knows(self, name: str) -> bool:
        """Return whether the step that fills a field has run."""
        return name in self.__dict__

    @property
    def is_intracranial(self) -> bool:
        """Whether the recording's datatype is ``ieeg``."""
        return is_intracranial(self.source.path)

    @property
    def sfreq_source(self) -> float:
        """Sampling rate of the source, Hz."""
        return float(self.raw.info["sfreq"])

    def add_notes(self, notes: tuple[str, ...] | list[str]) -> None:
        """Append remarks for the catalogue."""
        self.notes.extend(notes)

    def scrubbed(self, text: str) -> str:
        """Return a text without the private texts of this recording."""
        return self.source.scrubbed(text, self.secrets)

    def scratch_folder(self) -> Path | None:
        """Return the folder for temporary files; None means the system's."""
        scratch = self.config.transfer.scratch
        return Path(scratch) if scratch else None
