"""What happened during a recording: from its events table, else its annotations, else its stim channels."""

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.ingest.pseudonyms import markers, without_dates
from emeg.ingest.tables.channels import channel_types
from emeg.ingest.tables.sidecars import Rows, Sidecars
from emeg.ingest.text_files import ABSENT
from emeg.store import Event

if TYPE_CHECKING:
    import mne

_STIM_NAMES = ("STI101", "STI 014", "STI014", "STI201", "Status", "STATUS", "UPPT001", "TRIGGER")
_STATUS_MASK = 0xFFFF
"""BioSemi keeps triggers in the lower 16 of 24 bits, the amplifier's state above."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_MOST_OUTSIDE = 0.5
"""Share of events outside the data from which a table is not this recording's."""
_SAMPLES_OFF = 1.01
"""Samples counted from 1 instead of 0 are no contradiction."""


class FoundEvents(NamedTuple):
    """Events in order of onset, seconds from the first sample, and what is to be said about them."""

    events: tuple[Event, ...]
    notes: tuple[str, ...]


def find_events(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> FoundEvents:
    """Collect a recording's events; those outside the data are dropped and counted in the notes.

    A table without rows says nothing: the file's own markers are used then.

    Raises
    ------
    RecordingError
        The events table has no column ``onset``, or most of it lies outside the data.
    """
    notes: list[str] = []
    duration_s = raw.n_times / raw.info["sfreq"]
    if sidecars.events:
        events = _from_table(sidecars, notes)
        _refuse_foreign(events, duration_s, float(raw.info["sfreq"]), sidecars.path("events"))
        _compare_samples(sidecars.events, float(raw.info["sfreq"]), notes)
    else:
        events = _from_annotations(raw) if len(raw.annotations) else _from_stim_channel(raw)
        if sidecars.events is not None:
            notes.append(f"events.tsv has no rows; {len(events)} events found in the file itself")
    events = _without_remarks(events, from_table=bool(sidecars.events))
    inside = [event for event in events if 0.0 <= event.onset_s < duration_s]
    if len(inside) < len(events):
        notes.append(f"{len(events) - len(inside)} of {len(events)} events lie outside the {duration_s:.3f} s of data")
    return FoundEvents(tuple(sorted(inside)), tuple(notes))


def _without_remarks(events: list[Event], *, from_table: bool) -> list[Event]:
    """Keep markers and the table's trial types; what a person typed becomes ``remark``, dates too."""
    values = markers([event.value for event in events])
    types = [e.trial_type for e in events] if from_table else markers([e.trial_type for e in events])
    return [
        event._replace(trial_type=without_dates(kind), value=value)
        for event, kind, value in zip(events, types, values, strict=True)
    ]


def _from_table(sidecars: Sidecars, notes: list[str]) -> list[Event]:
    table = sidecars.events or []
    if "onset" not in table[0]:
        raise RecordingError(f"{sidecars.path('events')} has no column 'onset'", next_action="repair the table")
    commas = [row for row in table if _DECIMAL_COMMA.fullmatch(row["onset"])]
    events = []
    for row in table:
        onset = _seconds(row["onset"])
        if onset is None:
            continue
        trial_type, value = (row.get(key, "") for key in ("trial_type", "value"))
        events.append(
            Event(
                onset_s=onset,
                duration_s=max(0.0, _seconds(row.get("duration", "")) or 0.0),
                trial_type="" if trial_type in ABSENT else trial_type,
                value="" if value in ABSENT else value,
            )
        )
    if commas:
        notes.append(f"events.tsv: {len(commas)} onsets with a decimal comma, such as {commas[0]['onset']!r}")
    if len(events) < len(table):
        notes.append(f"events.tsv: {len(table) - len(events)} of {len(table)} rows have no onset")
    return events


def _seconds(text: str) -> float | None:
    """Read a finite number; between tabs a comma can only be a decimal one."""
    try:
        found = float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _refuse_foreign(events: list[Event], duration_s: float, sfreq: float, path: str) -> None:
    """Most events outside the data: the onsets are in another unit, or the table is another recording's."""
    onsets = np.array([event.onset_s for event in events])
    outside = int(np.count_nonzero((onsets < 0.0) | (onsets >= duration_s)))
    if outside <= _MOST_OUTSIDE * len(onsets):
        return
    within = {unit: bool((onsets / per_s < duration_s).all()) for unit, per_s in _units(sfreq)}
    unit = next((unit for unit, fits in within.items() if fits and onsets.min() >= 0.0), "")
    # An onset in milliseconds fits as a sample's number too where the rate is a kilohertz or more: name both.
    cause = f"they seem to be in {unit} instead of seconds" if unit else "the table is probably another recording's"
    raise RecordingError(
        f"{path}: {outside} of {len(onsets)} events lie outside the {duration_s:.3f} s of data: {cause}",
        next_action="correct the onsets, or remove the table if the file has markers of its own",
    )


def _units(sfreq: float) -> tuple[tuple[str, float], ...]:
    return ("samples", sfreq), ("milliseconds", 1e3), ("microseconds", 1e6)


def _compare_samples(table: Rows, sfreq: float, notes: list[str]) -> None:
    """BIDS counts onsets; a column of samples that disagrees by more than one sample is noted."""
    pairs = [(_seconds(row["onset"]), _seconds(row.get("sample", ""))) for row in table]
    both = np.array([(onset, sample) for onset, sample in pairs if onset is not None and sample is not None])
    if len(both) and (n := int(np.count_nonzero(np.abs(both[:, 0] * sfreq - both[:, 1]) > _SAMPLES_OFF))):
        notes.append(
            f"events.tsv: {n} of {len(both)} values of sample contradict the onset at {sfreq:g} Hz; onsets were used"
        )


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
    names = [name for name, kind in zip(raw.ch_names, channel_types(raw), strict=True) if kind == "stim"]
    return next((name for name in _STIM_NAMES if name in names), names[0] if names else None)
