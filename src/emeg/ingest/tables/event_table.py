"""Read the events of `events.tsv`: onsets, durations, values, and the class from whichever column holds it."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from emeg.errors import RecordingError
from emeg.ingest.pseudonyms import markers
from emeg.ingest.refusals import quoted
from emeg.ingest.tables.sidecars import Rows
from emeg.ingest.text_files import ABSENT, has_decimal_comma, number
from emeg.ingest.units import seconds
from emeg.store import Event

CLASS_COLUMNS = (
    *("event_type", "stim_type", "stimulus_type", "trigger_type", "trialtype", "eventtype", "stimtype", "type"),
    *("condition", "event_name", "event", "stimulus", "stim", "category", "class", "label", "marker", "description"),
    *("event_code", "trigger_code", "stim_code", "code", "trigger", "task", "response", "response_type"),
)
"""Columns that hold an event's class where `trial_type` does not, the likeliest first."""

_KNOWN = frozenset({"onset", "duration", "trial_type", "value", "sample"})
_MOST_CLASSES, _LONGEST_CLASS = 60, 60
_PLAIN_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_.\- ]{0,39}")

_MOST_OUTSIDE = 0.5
"""Share of events outside the data from which a table is not this recording's."""
_SAMPLES_OFF = 1.01
"""Samples counted from 1 instead of 0 are no contradiction."""


class _Classes(NamedTuple):
    """Class of every row, and notes on the columns."""

    texts: list[str]
    notes: list[str]


def events_of_table(table: Rows, path: str, *, duration_s: float, sfreq: float, notes: list[str]) -> list[Event]:
    """Return the events of a table with at least one row; rows without an onset are counted in `notes`.

    Parameters
    ----------
    table : list of dict
        Rows of `events.tsv`.
    path : str
        Path of the table, for messages.
    duration_s : float
        Length of the recording, s.
    sfreq : float
        Sampling rate of the source, Hz.
    notes : list of str
        Extended in place.

    Raises
    ------
    RecordingError
        The table has no column ``onset``, or most of its events lie outside the data.
    """
    if "onset" not in table[0]:
        raise RecordingError(f"{path} has no column 'onset'", next_action="repair the table")
    classes = _classes(table)
    events, unreadable = [], 0
    for row, trial_type in zip(table, classes.texts, strict=True):
        onset = seconds(row["onset"])
        if onset is None:
            continue
        stated = row.get("duration", "")
        duration = seconds(stated)
        unreadable += stated not in ABSENT and (duration is None or duration < 0.0)
        events.append(Event(onset, max(0.0, duration or 0.0), trial_type, _entry(row, "value")))
    commas = [row["onset"] for row in table if has_decimal_comma(row["onset"])]
    if commas:
        notes.append(f"events.tsv: {len(commas)} onsets with a decimal comma, such as {commas[0]!r}")
    if 0 < len(events) < len(table):
        notes.append(f"events.tsv: {len(table) - len(events)} of {len(table)} rows have no onset")
    if unreadable:
        notes.append(f"events.tsv: {unreadable} durations are no lengths of time; these events are taken as instants")
    notes += classes.notes
    _refuse_foreign(events, duration_s, sfreq, path)
    _compare_samples(table, sfreq, notes)
    return events


def _entry(row: dict[str, str], column: str) -> str:
    text = row.get(column, "")
    return "" if text in ABSENT else text


def _classes(table: Rows) -> _Classes:
    """Return the class of each row from `trial_type`, else from the likeliest other column; name columns not kept."""
    own = [_entry(row, "trial_type") for row in table]
    others = [column for column in _filled(table) if column not in _KNOWN and _holds_classes(table, column)]
    notes = []
    if not any(own) and others:
        column = min(others, key=_rank)
        own = markers([_entry(row, column) for row in table])
        own = [text if _entry(row, column) else "" for text, row in zip(own, table, strict=True)]
        notes.append(f"events.tsv: trial_type is absent or empty; classes taken from column {_shown(column)}")
        others.remove(column)
    if others:
        listed = ", ".join(_shown(column) for column in others[:6]) + (" and others" if len(others) > 6 else "")
        notes.append(f"events.tsv: further columns that may hold classes are not kept: {listed}")
    return _Classes(own, notes)


def _rank(column: str) -> int:
    """Order columns by how likely they hold the class."""
    folded = re.sub(r"[\s.\-]+", "_", column.strip().lower())
    return CLASS_COLUMNS.index(folded) if folded in CLASS_COLUMNS else len(CLASS_COLUMNS)


def _filled(table: Rows) -> list[str]:
    """Return the columns that have an entry in some row, in their order."""
    columns = dict.fromkeys(column for row in table for column in row)
    return [column for column in columns if column and any(_entry(row, column) for row in table)]


def _holds_classes(table: Rows, column: str) -> bool:
    """Check whether a column may hold classes: few different entries, short ones, no files, no measured numbers."""
    entries = [entry for row in table if (entry := _entry(row, column))]
    counts = Counter(entries)
    if len(counts) > min(_MOST_CLASSES, max(2, len(entries) // 2)) or max(map(len, counts)) > _LONGEST_CLASS:
        return False
    if column in CLASS_COLUMNS or _rank(column) < len(CLASS_COLUMNS):
        return True
    measured = all((value := number(entry)) is not None and not value.is_integer() for entry in counts)
    return len(counts) > 1 and not measured and not any(re.search(r"\.\w{2,4}$", entry) for entry in counts)


def _shown(column: str) -> str:
    return repr(column) if _PLAIN_COLUMN.fullmatch(column) else quoted(column)


def _refuse_foreign(events: list[Event], duration_s: float, sfreq: float, path: str) -> None:
    """Refuse a table most of whose events lie outside the data: another unit, or another recording's table."""
    onsets = np.array([event.onset_s for event in events])
    outside = int(np.count_nonzero((onsets < 0.0) | (onsets >= duration_s)))
    if outside <= _MOST_OUTSIDE * len(onsets):
        return
    within = {unit: bool((onsets / per_s < duration_s).all()) for unit, per_s in _onset_units(sfreq)}
    unit = next((unit for unit, fits in within.items() if fits and onsets.min() >= 0.0), "")
    # An onset in milliseconds fits as a sample's number too where the rate is a kilohertz or more: name both.
    cause = f"they seem to be in {unit} instead of seconds" if unit else "the table is probably another recording's"
    raise RecordingError(
        f"{path}: {outside} of {len(onsets)} events lie outside the {duration_s:.3f} s of data: {cause}",
        next_action="correct the onsets, or remove the table if the file has markers of its own",
    )


def _onset_units(sfreq: float) -> tuple[tuple[str, float], ...]:
    return ("samples", sfreq), ("milliseconds", 1e3), ("microseconds", 1e6)


def _compare_samples(table: Rows, sfreq: float, notes: list[str]) -> None:
    """Note where a column of samples disagrees with the onsets by more than one sample; BIDS counts onsets."""
    pairs = [(seconds(row["onset"]), number(row.get("sample", ""))) for row in table]
    both = np.array([(onset, sample) for onset, sample in pairs if onset is not None and sample is not None])
    if len(both) and (n := int(np.count_nonzero(np.abs(both[:, 0] * sfreq - both[:, 1]) > _SAMPLES_OFF))):
        notes.append(
            f"events.tsv: {n} of {len(both)} values of sample contradict the onset at {sfreq:g} Hz; onsets were used"
        )
