"""The corpus of faults: code makes each kind from a good recording and states the correct outcome.

The outcome follows from the meaning of the data: what is still certain is kept, and nothing unknown is guessed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from tests.ingest.faults.intact import FOLDER, LABELS, NAMES, STEM


@dataclass(frozen=True)
class Ready:
    """Kept. Every kept channel must carry its electrode's signal, in volts, at its electrode's position.

    Parameters
    ----------
    channels : int
        How many are kept.
    bad, dropped : tuple of str
        Exactly these.
    events : int
        How many are kept; with `lost` it must be the number in the source.
    lost : int
        How many were left out, as the notes count them.
    notes : tuple of str
        Words that stand in the notes.
    electrodes : mapping
        Electrode behind a channel's name where it is not the name itself.
    compared, placed : bool
        Whether signal and place can be compared with the truth.
    """

    channels: int = len(NAMES)
    bad: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    events: int = len(LABELS)
    lost: int = 0
    notes: tuple[str, ...] = ()
    electrodes: Mapping[str, str] = field(default_factory=dict)
    compared: bool = True
    placed: bool = True


@dataclass(frozen=True)
class Refused:
    """Quarantined; the reason names the file at fault and holds these words."""

    words: str
    file: str = ""
    more: tuple[str, ...] = ()


Outcome = Ready | Refused


@dataclass(frozen=True)
class Fault:
    """One kind of fault: `make` writes the archive, `outcomes` has the correct outcome of each listed source."""

    name: str
    make: Callable[[Path], None]
    outcomes: Mapping[str, Outcome]
    source_events: int


FAULTS: dict[str, Fault] = {}


def fault(
    outcomes: Outcome | Mapping[str, Outcome], *, extension: str = "edf", source_events: int = len(LABELS)
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register a kind. A single outcome is that of the usual file with `extension`."""

    def register(make: Callable[[Path], None]) -> Callable[[Path], None]:
        by_path = {f"{FOLDER}/{STEM}.{extension}": outcomes} if isinstance(outcomes, Ready | Refused) else outcomes
        assert make.__name__ not in FAULTS
        FAULTS[make.__name__] = Fault(make.__name__, make, by_path, source_events)
        return make

    return register


def corpus() -> dict[str, Fault]:
    """Return all kinds by name."""
    for subject in ("headers", "sidecars", "event_tables", "signals", "positions", "companions", "paths"):
        import_module(f"tests.ingest.faults.{subject}")
    return FAULTS
