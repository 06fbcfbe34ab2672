"""What happened during a recording: from its events table, else its annotations, else its stim channels."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.ingest.sidecars import ABSENT, Rows, Sidecars, number
from emeg.store import Event

if TYPE_CHECKING:
    import mne

_STIM_NAMES = ("STI101", "STI 014", "STI014", "STI201", "Status", "STATUS", "UPPT001", "TRIGGER")
_STATUS_MASK = 0xFFFF
"""BioSemi keeps triggers in the lower 16 of 24 bits, the amplifier's state above."""


class FoundEvents(NamedTuple):
    """Events in order of onset, seconds from the first sample, and what is to be said about them."""

    events: tuple[Event, ...]
    notes: tuple[str, ...]


def find_events(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> FoundEvents:
    """Collect a recording's events; those outside the data are dropped and counted in the notes.

    Raises
    ------
    RecordingError
        The events table has no column ``onset``.
    """
    notes: list[str] = []
    if sidecars.events is not None:
        events = _from_table(sidecars.events, notes)
    elif len(raw.annotations):
        events = _from_annotations(raw)
    else:
        events = _from_stim_channel(raw)
    duration_s = raw.n_times / raw.info["sfreq"]
    inside = [event for event in events if 0.0 <= event.onset_s < duration_s]
    if len(inside) < len(events):
        notes.append(f"{len(events) - len(inside)} of {len(events)} events lie outside the {duration_s:.3f} s of data")
    return FoundEvents(tuple(sorted(inside)), tuple(notes))


def _from_table(table: Rows, notes: list[str]) -> list[Event]:
    if table and "onset" not in table[0]:
        raise RecordingError("events.tsv has no column 'onset'", next_action="repair the table")
    events = []
    for row in table:
        if row["onset"] in ABSENT or not _is_number(row["onset"]):
            continue
        trial_type, value = (row.get(key, "") for key in ("trial_type", "value"))
        events.append(
            Event(
                onset_s=number(row["onset"]),
                duration_s=max(0.0, number(row.get("duration", ""))),
                trial_type="" if trial_type in ABSENT else trial_type,
                value="" if value in ABSENT else value,
            )
        )
    if len(events) < len(table):
        notes.append(f"events.tsv: {len(table) - len(events)} of {len(table)} rows have no onset")
    return events


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _from_annotations(raw: "mne.io.BaseRaw") -> list[Event]:
    # MNE counts annotations from the start of the acquisition; data of FIF files begin `first_time` later.
    onsets = np.asarray(raw.annotations.onset, np.float64) - raw.first_time
    return [
        Event(onset_s=round(float(onset), 9), duration_s=float(duration), trial_type=str(text), value="")
        for onset, duration, text in zip(onsets, raw.annotations.duration, raw.annotations.description, strict=True)
    ]


def _from_stim_channel(raw: "mne.io.BaseRaw") -> list[Event]:
    """Rises to a new value that is not zero; the value names the event."""
    name = _stim_channel(raw)
    if name is None:
        return []
    values_N = np.nan_to_num(raw.get_data(picks=[name])[0]).round().astype(np.int64)
    if name.upper() == "STATUS":
        values_N &= _STATUS_MASK
    starts = np.flatnonzero((np.diff(values_N, prepend=values_N[:1]) != 0) & (values_N != 0))
    return [_stim_event(values_N, int(start), raw.info["sfreq"]) for start in starts]


def _stim_event(values_N: NDArray[np.int64], start: int, sfreq: float) -> Event:
    code = str(values_N[start])
    return Event(onset_s=start / sfreq, duration_s=0.0, trial_type=code, value=code)


def _stim_channel(raw: "mne.io.BaseRaw") -> str | None:
    names = [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "stim"]
    return next((name for name in _STIM_NAMES if name in names), names[0] if names else None)
