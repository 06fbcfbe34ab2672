"""Collect the events of a recording from its events table, its annotations and its trigger channels, each event once.

Annotations that mark bad data (``BAD_muscle``) stay events under their names, and their stretches are returned as
`FoundEvents.bad`. Boundaries and skips are no events: the recording's list of stretches holds them.
"""

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.pseudonyms import REMARK, header_texts, is_technical, markers, without_dates
from emeg.ingest.readers.breaks import is_boundary, is_boundary_row
from emeg.ingest.tables.event_table import events_of_table
from emeg.ingest.tables.sidecars import Sidecars
from emeg.ingest.tables.triggers import near, trigger_events, trigger_names
from emeg.store import Event

if TYPE_CHECKING:
    import mne

_RESERVED = re.compile(r"(?P<kind>bad|edge)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
"""Annotations that MNE-Python reserves: ``BAD…`` marks bad data, ``EDGE…`` a seam between joined recordings."""

_RESERVED_WORDS = frozenset({"acq", "skip", "boundary", "muscle", "eog", "ecg", "emg", "blink", "flat", "jump"})
_NAMED_MARKERS = frozenset({"RawCTF", "RawEGI", "RawMff"})
"""Readers whose annotations are classes of markers that the acquisition defines, not texts typed during it."""

_LONGEST_NAME = 40
_MARKER_TYPE = re.compile(r"[A-Za-z][A-Za-z ]{0,19}")
_SEAMS = re.compile(r"(?:bad|edge|new segment|boundary|recording (?:start|end)).*", re.IGNORECASE | re.DOTALL)
"""Annotations about the recording itself: a trigger at the same time is another event."""

_SAME_S, _SAME_SAMPLES = 1e-3, 1.01
"""Two sources show one event if their times differ by no more than this, in s or in samples, whichever is longer."""

_SHIFT_SPREAD_S, _LARGEST_SHIFT_S, _FEWEST_SHIFTED = 5e-3, 1.0, 2
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


def find_events(raw: "mne.io.BaseRaw", sidecars: Sidecars, format_: str = "") -> FoundEvents:
    """Collect a recording's events from all their sources; count those outside the data in the notes.

    An event that several sources show at one time is one event: its class is the table's, else the annotation's, and
    the trigger's code becomes its value. Kinds of events that only the file has are added to the table's, and the notes
    name them.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    sidecars : Sidecars
    format_ : str
        Format of the recording: some have boundaries in words of their own.

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
    marked = [event for event in marked if not is_boundary(event.trial_type, format_)]
    events = _joined(_public(marked, raw), trigger_events(raw), tolerance_s)
    if sidecars.events is not None:
        table = _table_events(sidecars, duration_s, sfreq, notes)
        # in capitals, as MNE-Python writes its annotations: "bad_feedback" is a class of an experiment
        bad += [BadStretch(e.onset_s, e.duration_s) for e in table if e.trial_type.startswith("BAD")]
        if table:
            events = _with_table(table, events, tolerance_s, notes)
        elif not sidecars.events or not all(map(is_boundary_row, sidecars.events)):
            empty = "no row has an onset" if sidecars.events else "has no rows"
            notes.append(f"events.tsv: {empty}; {len(events)} events found in the file itself")
    inside = [event for event in events if 0.0 <= event.onset_s < duration_s]
    if len(inside) < len(events):
        notes.append(f"{len(events) - len(inside)} of {len(events)} events lie outside the {duration_s:.3f} s of data")
    stretches = dict.fromkeys(stretch for stretch in bad if stretch.duration_s > 0.0)
    return FoundEvents(tuple(sorted(inside)), tuple(notes), tuple(sorted(stretches)))


def _table_events(sidecars: Sidecars, duration_s: float, sfreq: float, notes: list[str]) -> list[Event]:
    """Return the events of the table; trial types stay as they are but for dates, values only if they are codes."""
    rows = [row for row in sidecars.events or () if not is_boundary_row(row)]
    if not rows:
        return []
    path = sidecars.path("events")
    found = events_of_table(rows, path, duration_s=duration_s, sfreq=sfreq, notes=notes)
    values = markers([event.value for event in found])
    types = [without_dates(event.trial_type) for event in found]
    return [e._replace(trial_type=kind, value=v) for e, kind, v in zip(found, types, values, strict=True)]


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


def _public(events: list[Event], raw: "mne.io.BaseRaw") -> list[Event]:
    """Replace free texts by `REMARK`; marks of bad data, seams and names of markers keep their meaning."""
    reader = type(raw).__name__
    texts = markers([event.trial_type for event in events])
    if reader == "RawBrainVision":
        texts = _with_types(events, texts)
    own_names = set(trigger_names(raw))
    if reader in _NAMED_MARKERS:
        persons = [text.lower() for text in header_texts(raw.info)]
        own_names |= {
            event.trial_type
            for event in events
            if len(event.trial_type) <= _LONGEST_NAME
            and not any(person in event.trial_type.lower() for person in persons)
        }
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


def _with_types(events: list[Event], texts: list[str]) -> list[str]:
    """Restore BrainVision markers whose description is a code; the type before the slash names their channel."""
    parts = [event.trial_type.partition("/") for event in events]
    codes = markers([description or kind for kind, _, description in parts])
    return [
        event.trial_type if kind.lower() != "comment" and _MARKER_TYPE.fullmatch(kind) and code != REMARK else text
        for event, (kind, _, _), code, text in zip(events, parts, codes, texts, strict=True)
    ]


def _joined(marked: list[Event], triggers: list[Event], tolerance_s: float) -> list[Event]:
    """Join annotations and triggers; an annotation takes the code of a trigger at its time."""
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
    """Return the table's events, and of the file those whose kind the table does not list at all.

    A kind is all events with one label. Where the table has some of a kind, at the same times or all shifted by one
    time, it decides which of them count, because its author has selected them.
    """
    stated = {(event.trial_type, round(event.onset_s / tolerance_s)) for event in table}
    seams = [event for event in own if _SEAMS.match(event.trial_type)]
    seams = [event for event in seams if (event.trial_type, round(event.onset_s / tolerance_s)) not in stated]
    left = sorted(event for event in own if not _SEAMS.match(event.trial_type))
    events, free_s = _named_by(table, left, tolerance_s)
    added, left_out = _unlisted(table, left, free_s, tolerance_s)
    for what, found in (("added, since the table has none of their kind", added), ("left out", left_out)):
        if found:
            notes.append(f"events.tsv: events of the file at no onset of the table, {what}: {_counted(found)}")
    return [*events, *added, *seams]


def _named_by(table: list[Event], own: list[Event], tolerance_s: float) -> tuple[list[Event], list[float]]:
    """Return the table's events, those without a class named by the file's, and the onsets that the file lacks."""
    onsets = np.array([event.onset_s for event in own])
    used: set[int] = set()
    events, free_s = [], []
    for event in table:
        index = _nearest(onsets, event.onset_s, tolerance_s, used)
        if index is None:
            free_s.append(event.onset_s)
            events.append(event)
            continue
        used.add(index)
        blank = not event.trial_type and not event.value
        events.append(event._replace(trial_type=own[index].trial_type, value=own[index].value) if blank else event)
    return events, sorted(free_s)


def _unlisted(
    table: list[Event], own: list[Event], free_s: list[float], tolerance_s: float
) -> tuple[list[Event], list[Event]]:
    """Return the events at no onset of the table: those of kinds that it lacks, and those of kinds that it lists."""
    onsets = np.array([event.onset_s for event in own])
    at_listed = near(onsets, np.array(sorted(event.onset_s for event in table)), tolerance_s)
    kinds: dict[str, list[int]] = defaultdict(list)
    for index, event in enumerate(own):
        kinds[_label(event)].append(index)
    added: list[Event] = []
    left_out: list[Event] = []
    for indices in kinds.values():
        rest = [own[index] for index in indices if not at_listed[index]]
        listed = len(rest) < len(indices) or _is_shifted(rest, free_s)
        (left_out if listed else added).extend(rest)
    return added, left_out


def _label(event: Event) -> str:
    return event.trial_type or event.value


def _counted(events: list[Event]) -> str:
    counts = Counter(map(_label, events)).most_common()
    return ", ".join(f"{n} × {label!r}" for label, n in counts[:4]) + (", …" if len(counts) > 4 else "")


def _is_shifted(kind: list[Event], listed_s: list[float]) -> bool:
    """Check whether most events of a kind lie one and the same time before or after an onset of the table."""
    if len(kind) < _FEWEST_SHIFTED or not listed_s:
        return False
    onsets, listed = np.array([event.onset_s for event in kind]), np.array(listed_s)
    after = np.minimum(np.searchsorted(listed, onsets), len(listed) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(listed[after] - onsets) <= np.abs(listed[before] - onsets), after, before)
    shifts = listed[nearest] - onsets
    shift = float(np.median(shifts))
    agreeing = int(np.count_nonzero(np.abs(shifts - shift) <= _SHIFT_SPREAD_S))
    return abs(shift) <= _LARGEST_SHIFT_S and agreeing > len(shifts) / 2 and agreeing >= _FEWEST_SHIFTED
