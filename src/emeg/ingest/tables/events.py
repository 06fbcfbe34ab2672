"""What happened during a recording: its events table, its annotations and its trigger channels, each event once.

Annotations that mark bad data (``BAD_muscle``, ``BAD_ACQ_SKIP``) stay events under their names, and their stretches
are handed on as `FoundEvents.bad`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.pseudonyms import REMARK, is_technical, markers, without_dates
from emeg.ingest.tables.event_table import events_of_table
from emeg.ingest.tables.sidecars import Sidecars
from emeg.ingest.tables.triggers import near, trigger_events, trigger_names
from emeg.store import Event

if TYPE_CHECKING:
    import mne

_RESERVED = re.compile(r"(?P<kind>bad|edge)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
"""Annotations that MNE-Python reserves: ``BAD…`` marks bad data, ``EDGE…`` a seam between joined recordings."""

_RESERVED_WORDS = frozenset({"acq", "skip", "boundary", "muscle", "eog", "ecg", "emg", "blink", "flat", "jump"})
_SEAMS = re.compile(r"(?:bad|edge|new segment|boundary|recording (?:start|end)).*", re.IGNORECASE | re.DOTALL)
"""Annotations about the recording itself: a trigger at the same time is another event."""

_SAME_S, _SAME_SAMPLES = 1e-3, 1.01
"""Two sources show one event if their times differ by no more than this, in s or in samples, whichever is longer."""

_SHIFT_SPREAD_S, _LARGEST_SHIFT_S = 5e-3, 1.0
"""A table whose onsets are all later or earlier by one time (a projector's delay) lists the same events."""


class BadStretch(NamedTuple):
    """Data that an annotation calls bad: start and length in seconds, and the channels, empty for all of them."""

    onset_s: float
    duration_s: float
    channels: tuple[str, ...] = ()


class FoundEvents(NamedTuple):
    """Events in order of onset, seconds from the first sample, notes about them, and stretches marked as bad."""

    events: tuple[Event, ...]
    notes: tuple[str, ...]
    bad: tuple[BadStretch, ...] = ()


def find_events(raw: "mne.io.BaseRaw", sidecars: Sidecars) -> FoundEvents:
    """Collect a recording's events from all their sources; count those outside the data in the notes.

    An event that several sources show at one time is one event: its class is the table's, else the annotation's, and
    the trigger's code becomes its value. Events of the file that the table does not list are added, and the notes say
    how many.

    Raises
    ------
    RecordingError
        The events table has no column ``onset``, or most of it lies outside the data.
    """
    notes: list[str] = []
    sfreq = float(raw.info["sfreq"])
    duration_s = raw.n_times / sfreq
    tolerance_s = max(_SAME_S, _SAME_SAMPLES / sfreq)
    marked, bad = _annotations(raw)
    events = _joined(_public(marked, trigger_names(raw)), trigger_events(raw), tolerance_s)
    if sidecars.events:
        path = sidecars.path("events")
        table = events_of_table(sidecars.events, path, duration_s=duration_s, sfreq=sfreq, notes=notes)
        values = markers([event.value for event in table])
        types = [without_dates(event.trial_type) for event in table]
        table = [e._replace(trial_type=t, value=v) for e, t, v in zip(table, types, values, strict=True)]
        bad += [BadStretch(e.onset_s, e.duration_s) for e in table if _is_bad(e.trial_type)]
        events = _with_table(table, events, tolerance_s, notes)
    elif sidecars.events is not None:
        notes.append(f"events.tsv has no rows; {len(events)} events found in the file itself")
    inside = [event for event in events if 0.0 <= event.onset_s < duration_s]
    if len(inside) < len(events):
        notes.append(f"{len(events) - len(inside)} of {len(events)} events lie outside the {duration_s:.3f} s of data")
    stretches = dict.fromkeys(stretch for stretch in bad if stretch.duration_s > 0.0)
    return FoundEvents(tuple(sorted(inside)), tuple(notes), tuple(sorted(stretches)))


def _annotations(raw: "mne.io.BaseRaw") -> tuple[list[Event], list[BadStretch]]:
    """Return the annotations, each once, with onsets from the first sample, and the bad stretches among them."""
    # MNE counts annotations from the start of the acquisition; data of FIF files begin `first_time` later.
    notes = raw.annotations
    onsets = np.asarray(notes.onset, np.float64) - raw.first_time
    events: dict[Event, None] = {}
    bad = []
    for onset, duration, text, channels in zip(onsets, notes.duration, notes.description, notes.ch_names, strict=True):
        event = Event(round(float(onset), 9), float(duration), str(text), "")
        events[event] = None
        if _is_bad(event.trial_type):
            bad.append(BadStretch(event.onset_s, event.duration_s, tuple(map(str, channels))))
    return list(events), bad


def _is_bad(text: str) -> bool:
    found = _RESERVED.match(text)
    return found is not None and found["kind"].lower() == "bad"


def _public(events: list[Event], own_names: Sequence[str]) -> list[Event]:
    """Replace free texts by `REMARK`; marks of bad data, seams and names of trigger channels keep their meaning."""
    texts = markers([event.trial_type for event in events])
    kept = []
    for event, text in zip(events, texts, strict=True):
        reserved = _RESERVED.match(event.trial_type)
        if text == REMARK and event.trial_type in own_names:
            text = without_dates(event.trial_type)
        elif text == REMARK and reserved is not None:
            words = re.findall(r"[A-Za-z]+|\d+", reserved["rest"])
            plain = all(word.lower() in _RESERVED_WORDS or is_technical(word) for word in words)
            text = event.trial_type if plain else f"{reserved['kind'].upper()} {REMARK}"
        kept.append(event._replace(trial_type=text))
    return kept


def _joined(marked: list[Event], triggers: list[Event], tolerance_s: float) -> list[Event]:
    """Join annotations and triggers; a trigger at the time of an annotation gives it its code."""
    left = sorted(triggers)
    onsets = np.array([event.onset_s for event in left])
    used: set[int] = set()
    events = []
    for event in marked:
        index = None
        if event.trial_type != REMARK and not _SEAMS.match(event.trial_type):
            index = _nearest(onsets, event.onset_s, tolerance_s, used)
        if index is None:
            events.append(event)
            continue
        used.add(index)
        events.append(event._replace(value=event.value or left[index].value))
    return [*events, *(event for index, event in enumerate(left) if index not in used)]


def _nearest(onsets: NDArray[np.float64], onset_s: float, tolerance_s: float, used: set[int]) -> int | None:
    """Return the index of the nearest onset that is not used, within the tolerance."""
    first, stop = np.searchsorted(onsets, [onset_s - tolerance_s, onset_s + tolerance_s], side="left")
    near = [int(index) for index in range(first, min(int(stop) + 1, len(onsets))) if index not in used]
    near = [index for index in near if abs(onsets[index] - onset_s) <= tolerance_s]
    return min(near, key=lambda index: abs(onsets[index] - onset_s), default=None)


def _with_table(table: list[Event], own: list[Event], tolerance_s: float, notes: list[str]) -> list[Event]:
    """Return the table's events and those of the file that the table lacks; say in a note how many were added."""
    left = sorted(own)
    onsets = np.array([event.onset_s for event in left])
    used: set[int] = set()
    events = []
    for event in table:
        index = _nearest(onsets, event.onset_s, tolerance_s, used)
        if index is not None:
            used.add(index)
            if not event.trial_type and not event.value:
                event = event._replace(trial_type=left[index].trial_type, value=left[index].value)
        events.append(event)
    listed = near(onsets, np.array(sorted(event.onset_s for event in table)), tolerance_s)
    rest = [event for index, event in enumerate(left) if index not in used and not listed[index]]
    added = [event for group in _by_label(rest).values() for event in group if not _is_shifted(group, table)]
    if added:
        counts = Counter(event.trial_type or event.value for event in added)
        named = ", ".join(f"{n} × {label!r}" for label, n in counts.most_common(4))
        named += ", …" if len(counts) > 4 else ""
        notes.append(f"events.tsv lists {len(table)} events; {len(added)} that only the file has were added: {named}")
    return events + added


def _by_label(events: list[Event]) -> dict[str, list[Event]]:
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        groups[event.trial_type or event.value].append(event)
    return groups


def _is_shifted(group: list[Event], table: list[Event]) -> bool:
    """Check whether the table lists a group of at least two events, later or earlier by a time common to all."""
    if len(group) < 2:
        return False
    onsets = np.array([event.onset_s for event in group])
    candidates = [np.array(sorted(e.onset_s for e in table))]
    candidates += [np.array(sorted(e.onset_s for e in one)) for one in _by_label(table).values()]
    for listed in candidates:
        if len(listed) == len(onsets):
            shifts = listed - onsets
            if np.ptp(shifts) <= _SHIFT_SPREAD_S and abs(shifts).max() <= _LARGEST_SHIFT_S:
                return True
    return False
