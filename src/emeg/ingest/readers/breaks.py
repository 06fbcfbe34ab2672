"""Find the interruptions that the files of a recording state, as one list for all formats.

annotations, marker files, status bits, record times, trials ──▶ ``find_breaks`` ──▶ ``stretches_of`` ──▶ stretches

A stretch is what the amplifier recorded without a pause. Times in a file are counted in two ways. File time counts the
samples of the file: sample k lies at k / rate. The amplifier's clock goes on during a pause. EDF+D and Persyst state
annotations by the clock; all other formats, and the store, by file time.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from emeg.errors import RecordingError
from emeg.ingest.readers.epoched import EPOCH_SAMPLES
from emeg.ingest.readers.header_brainvision import new_segments
from emeg.ingest.readers.header_cnt import splices
from emeg.ingest.readers.header_ctf import trial_pauses
from emeg.ingest.readers.header_edf import annotations_by_clock, epoch_starts, record_pauses, status_rate
from emeg.ingest.readers.header_persyst import comments_by_clock, sample_times
from emeg.ingest.source import Source
from emeg.ingest.tables.sidecars import Rows, Sidecars
from emeg.ingest.units import seconds

if TYPE_CHECKING:
    import mne

SHORTEST_STRETCH_S = 2.0
"""Least length of the longest stretch of an interrupted recording, s: the length of the tokenizer's windows."""

_BOUNDARIES = frozenset({"boundary", "bad boundary", "edge boundary", "new segment", "bad_boundary", "edge_boundary"})
_SKIPS = frozenset({"bad_acq_skip", "bad acq skip"})
_WORDS = {
    "cnt": frozenset({"amplifier disconnected", "amplifier reconnected"}),
    "gdf": frozenset({"32766"}),
    "eeglab": frozenset({"-99"}),
}
"""Further annotations that mark a break: ANT Neuro's, the GDF event 0x7FFE (a new segment), EEGLAB's numeric code."""
_SKIP_WORDS = {"cnt": frozenset({"bad_disconnection"})}
_PREFIX = re.compile(r"^(comment|new segment)/(?=.)", re.IGNORECASE)
"""Prefix that MNE-Python adds to the text of a BrainVision marker."""


class Break(NamedTuple):
    """An interruption of the recording."""

    end_s: float
    """File time at which the stretch before it ends, s."""
    start_s: float
    """File time at which the next stretch begins, s; later than `end_s` where the file fills the pause with samples."""
    pause_s: float | None = 0.0
    """Time on the clock without samples in the file, s; None if it is not stated."""


class Stretch(NamedTuple):
    """Samples of the source that were recorded without a pause."""

    start: int
    """First sample."""
    stop: int
    """Sample after the last."""
    onset_s: float | None
    """Its start on the amplifier's clock, s after the recording's first sample; None if it is not stated."""


def find_breaks(raw: "mne.io.BaseRaw", source: Source, folder: Path, sidecars: Sidecars) -> tuple[Break, ...]:
    """Return every interruption that a recording's files state, in order.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The open file with all its channels.
    source : Source
    folder : Path
        Folder with the archive's files.
    sidecars : Sidecars
        Rows of the events table that are called boundary count as well.

    Raises
    ------
    RecordingError
        Time runs backwards in the file.
    """
    format_, path = source.format, folder / source.path
    length_s, tolerance_s = raw.n_times / float(raw.info["sfreq"]), 0.5 / float(raw.info["sfreq"])
    stated = _STATED.get(format_, _nothing)(path, raw)
    found = _annotated(raw, format_) + _tabled(sidecars.events or ())
    if format_ in BY_CLOCK:
        pauses = _merged(stated, length_s, tolerance_s)
        found = [_in_file_time(one, pauses) for one in found]
    return _merged(stated + found, length_s, tolerance_s)


def _in_file_time(one: Break, pauses: tuple[Break, ...]) -> Break:
    end, start = (to_file_time(at_s, pauses).time_s for at_s in (one.end_s, one.start_s))
    return Break(end, start, one.pause_s)


def is_boundary(text: str, format_: str = "") -> bool:
    """Return whether the text of an annotation or of a table's row means an interruption, as `find_breaks` reads it."""
    word = _word(text)
    return word in _BOUNDARIES | _SKIPS | _WORDS.get(format_, frozenset()) | _SKIP_WORDS.get(format_, frozenset())


def _word(text: str) -> str:
    return _PREFIX.sub("", text).strip().rstrip("/").lower()


def _nothing(_: Path, __: "mne.io.BaseRaw") -> list[Break]:
    return []


def _annotated(raw: "mne.io.BaseRaw", format_: str) -> list[Break]:
    """Return breaks from annotations that MNE-Python or the format reserve for them."""
    boundaries, skips = _BOUNDARIES | _WORDS.get(format_, frozenset()), _SKIPS | _SKIP_WORDS.get(format_, frozenset())
    found = []
    for onset, duration, text in zip(
        raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        word = _word(str(text))
        at_s = float(onset) - float(raw.first_time)
        if word in skips:
            found.append(Break(at_s, at_s + float(duration)))
        elif word in boundaries and not (format_ == "brainvision" and word == "new segment"):  # read with their dates
            # EEGLAB's duration is that of what was cut out: it has no samples.
            pause_s = float(duration) if format_ == "eeglab" and duration > 0.0 else None
            unsure_s = _unsure(float(onset), float(raw.info["sfreq"])) if format_ == "fif" else 0.0
            found.append(Break(at_s - unsure_s, at_s + unsure_s, pause_s))
    return found


def _unsure(onset_s: float, sfreq: float) -> float:
    """Return the largest error of an annotation's time in a FIF file, s; 0 if the time is exact to the sample.

    FIF files hold these times in single precision: after nine hours at 1 kHz they are two samples off.
    """
    spacing_s = float(np.spacing(np.float32(abs(onset_s)))) / 2.0
    return spacing_s if spacing_s * sfreq > _EARLIER else 0.0


_NO_CLASS = frozenset({"onset", "duration", "sample"})


def is_boundary_row(row: Mapping[str, str]) -> bool:
    """Return whether a row of an events table is an interruption: a cell of any column is a word for it."""
    return any(cell.strip().lower() in _BOUNDARIES | _SKIPS for name, cell in row.items() if name not in _NO_CLASS)


def _tabled(rows: Rows | tuple[()]) -> list[Break]:
    found = []
    for row in filter(is_boundary_row, rows):
        at_s, duration_s = seconds(row.get("onset", "")), seconds(row.get("duration", "")) or 0.0
        is_skip = any(cell.strip().lower() in _SKIPS for cell in row.values())
        if at_s is not None:
            found.append(Break(at_s, at_s + duration_s) if is_skip else Break(at_s, at_s, None))
    return found


def _merged(found: Iterable[Break], length_s: float, tolerance_s: float) -> tuple[Break, ...]:
    """Sort breaks, join those at one sample, and drop those at the file's ends."""
    merged: list[Break] = []
    for one in sorted(found, key=lambda one: (one.end_s, -one.start_s)):
        at_an_end = one.start_s <= tolerance_s or one.end_s >= length_s - tolerance_s
        if at_an_end and one.start_s - one.end_s <= tolerance_s:
            continue
        if merged and one.end_s <= merged[-1].start_s + tolerance_s:
            before = merged[-1]
            pauses = [p for p in (before.pause_s, one.pause_s) if p is not None]
            merged[-1] = Break(before.end_s, max(before.start_s, one.start_s), max(pauses, default=None))
        else:
            merged.append(one)
    return tuple(merged)


def _of_brainvision(path: Path, raw: "mne.io.BaseRaw") -> list[Break]:
    """Return the markers ``New Segment`` behind the first sample; their dates say how long the pause was."""
    sfreq = float(raw.info["sfreq"])
    marks = new_segments(path)
    found = []
    begun: datetime | None = next((date for sample, date in marks if sample == 0), None)
    last = 0
    for sample, date in marks:
        if sample == 0:
            continue
        pause_s: float | None = None
        if begun is not None and date is not None:
            pause_s = (date - begun).total_seconds() - (sample - last) / sfreq
            if abs(pause_s) <= 1.0 / sfreq:
                continue
        found.append(Break(sample / sfreq, sample / sfreq, pause_s if pause_s is None or pause_s > 0.0 else None))
        begun, last = date, sample
    return found


def _of_eeglab(_: Path, raw: "mne.io.BaseRaw") -> list[Break]:
    """Return the borders between epochs, which lie end to end."""
    length, sfreq = int((raw._raw_extras[0] or {}).get(EPOCH_SAMPLES, raw.n_times)), float(raw.info["sfreq"])
    return [Break(sample / sfreq, sample / sfreq, None) for sample in range(length, raw.n_times, length)]


def _of_edf(path: Path, _: "mne.io.BaseRaw") -> list[Break]:
    """Return gaps between records (EDF+D), and starts of BioSemi's epochs (bit 16 of ``Status``)."""
    found = [Break(at_s, at_s, pause_s) for at_s, pause_s in record_pauses(path, path.name)]
    rate = status_rate(path)
    found += [Break(sample / rate, sample / rate, None) for sample in epoch_starts(path)]
    return found


def _of_persyst(path: Path, raw: "mne.io.BaseRaw") -> list[Break]:
    return _by_times(sample_times(path), float(raw.info["sfreq"]), path.name)


_DAY_S = 86_400.0
_CLOCK_TOLERANCE_S = 0.1
"""Largest difference of a computer's clock from an amplifier's without a pause, s."""


def _by_times(times: list[tuple[int, float]], sfreq: float, name: str) -> list[Break]:
    """Return breaks between (sample, seconds of the day)."""
    found = []
    for (before, then), (sample, now) in itertools.pairwise(times):
        late = now - then - (sample - before) / sfreq
        late -= _DAY_S * round(late / _DAY_S) if late < 0.0 else 0.0
        if late < -_CLOCK_TOLERANCE_S:
            raise RecordingError(
                f"{name}: time stamps go back: sample {sample} is stated {-late:g} s too early for its number",
                next_action="cut the file there into two recordings",
            )
        if late > _CLOCK_TOLERANCE_S:
            found.append(Break(sample / sfreq, sample / sfreq, late))
    return found


def _of_ctf(path: Path, raw: "mne.io.BaseRaw") -> list[Break]:
    sfreq = float(raw.info["sfreq"])
    return [Break(sample / sfreq, sample / sfreq, pause_s) for sample, pause_s in trial_pauses(path, raw)]


def _of_bti(_: Path, raw: "mne.io.BaseRaw") -> list[Break]:
    """Return the borders between epochs: 4D writes a continuous acquisition as one."""
    sfreq = float(raw.info["sfreq"])
    lengths = [int(epoch["pts_in_epoch"]) for epoch in (raw._raw_extras[0] or {}).get("epochs", ())]
    return [Break(sample / sfreq, sample / sfreq, None) for sample in np.cumsum(lengths)[:-1].tolist()]


def _of_cnt(path: Path, raw: "mne.io.BaseRaw") -> list[Break]:
    sfreq = float(raw.info["sfreq"])
    return [Break(sample / sfreq, sample / sfreq, None) for sample in splices(path, raw)]


_STATED: dict[str, Callable[[Path, "mne.io.BaseRaw"], list[Break]]] = {
    "bdf": _of_edf,
    "brainvision": _of_brainvision,
    "bti": _of_bti,
    "cnt": _of_cnt,
    "ctf": _of_ctf,
    "edf": _of_edf,
    "eeglab": _of_eeglab,
    "persyst": _of_persyst,
}


_ROUNDING_S = 1e-6


class FileTime(NamedTuple):
    """A moment in file time, s, and whether it lies in a pause: the time is then where the pause is in the file."""

    time_s: float
    in_pause: bool


def to_file_time(clock_s: float, breaks: tuple[Break, ...]) -> FileTime:
    """Return the file time of a moment on the amplifier's clock."""
    shift = 0.0
    for one in breaks:
        if clock_s - shift < one.end_s:
            break
        shift += one.pause_s or 0.0
        if clock_s - shift < one.end_s:
            return FileTime(one.end_s, in_pause=True)
    return FileTime(clock_s - shift, in_pause=False)


def _recorded_part(
    onset_s: float, duration_s: float, text: str, breaks: tuple[Break, ...]
) -> tuple[float, float] | None:
    """Return onset and duration of an event in file time, s; None where its onset was not recorded.

    The duration counts recorded time alone. Bad data that begin in a pause go on behind it.
    """
    first, last = (to_file_time(at_s, breaks) for at_s in (onset_s, onset_s + duration_s))
    lasted_s = last.time_s - first.time_s
    if lasted_s > duration_s - _ROUNDING_S:
        lasted_s = duration_s  # no pause inside
    if first.in_pause and not (text.startswith("BAD") and lasted_s > 0.0):
        return None
    return first.time_s, lasted_s


_ANNOTATIONS: dict[str, Callable[[Path], list[tuple[float, float, str]]]] = {
    "bdf": annotations_by_clock,
    "edf": annotations_by_clock,
    "persyst": comments_by_clock,
}

BY_CLOCK = frozenset(_ANNOTATIONS)
"""Formats whose annotations, and the events tables beside them, count time by the amplifier's clock."""


def set_file_times(
    raw: "mne.io.BaseRaw", source: Source, folder: Path, breaks: tuple[Break, ...]
) -> tuple[str, ...] | None:
    """Replace annotations that count by the amplifier's clock by all those of the file, in file time.

    Returns
    -------
    tuple of str or None
        Notes on annotations that have no sample; None where clock and file time are one and nothing was changed.
    """
    import mne

    if source.format not in BY_CLOCK or not any(one.pause_s for one in breaks):
        return None
    stated = _ANNOTATIONS[source.format](folder / source.path)
    length_s = raw.n_times / float(raw.info["sfreq"])
    timed = [(_recorded_part(onset, duration, text, breaks), text) for onset, duration, text in stated]
    found = [(*part, text) for part, text in timed if part is not None]
    inside = [one for one in found if 0.0 <= one[0] < length_s]
    columns = zip(*inside, strict=True) if inside else ((), (), ())
    raw.set_annotations(mne.Annotations(*columns, orig_time=None), emit_warning=False)
    n_paused, n_outside = len(timed) - len(found), len(found) - len(inside)
    notes = [f"{n_paused} of {len(timed)} events lie in a pause of the recording"] if n_paused else []
    notes += [f"{n_outside} of {len(timed)} events lie outside the {length_s:.3f} s of data"] if n_outside else []
    return tuple(notes)


def table_in_file_time(sidecars: Sidecars, breaks: tuple[Break, ...]) -> Sidecars:
    """Return sidecars whose events table is in file time; rows inside a pause are left out, and a note counts them."""
    if not sidecars.events:
        return sidecars
    rows, n_paused = [], 0
    for row in sidecars.events:
        onset_s, duration_s = seconds(row.get("onset", "")), seconds(row.get("duration", ""))
        if onset_s is None:
            rows.append(row)
            continue
        part = _recorded_part(onset_s, max(0.0, duration_s or 0.0), row.get("trial_type", ""), breaks)
        n_paused += part is None
        if part is not None:
            stated = {"onset": repr(part[0]), "sample": ""}
            rows.append({**row, **stated} if duration_s is None else {**row, **stated, "duration": repr(part[1])})
    notes = sidecars.notes
    if n_paused:
        notes = (*notes, f"events.tsv: {n_paused} of {len(sidecars.events)} events lie in a pause of the recording")
    return replace(sidecars, events=rows, notes=notes)


_EARLIER = 0.3
"""Part of a sample by which a boundary may lie after a sample, because of rounding, and still count as at it."""


def stretches_of(breaks: tuple[Break, ...], n_times: int, sfreq: float) -> tuple[Stretch, ...]:
    """Return the stretches that breaks leave of a recording, in samples.

    Raises
    ------
    RecordingError
        There are breaks, and every stretch is shorter than `SHORTEST_STRETCH_S`.
    """
    if not breaks:
        return (Stretch(0, n_times, 0.0),)
    found, start, shift = [], 0, 0.0
    onset: float | None = 0.0
    for one in (*breaks, Break(math.inf, math.inf)):
        # A boundary that is stated between two samples lies before the later one.
        stop = n_times if one.end_s == math.inf else min(n_times, math.ceil(one.end_s * sfreq - _EARLIER))
        if stop > start:
            found.append(Stretch(start, stop, onset))
        if one.end_s == math.inf:
            break
        start = max(start, stop + round((one.start_s - one.end_s) * sfreq))
        if one.pause_s is None or onset is None:
            onset = None
        else:
            shift += one.pause_s
            onset = start / sfreq + shift
    longest_s = max((one.stop - one.start for one in found), default=0) / sfreq
    if longest_s < SHORTEST_STRETCH_S:
        raise RecordingError(
            f"the recording is interrupted {len(breaks)} times (pauses or boundaries) and its longest stretch without a"
            f" gap has {longest_s:.3g} s; {SHORTEST_STRETCH_S:g} s are needed",
            stage="signal",
            next_action="ingest the recording that the pieces were cut from",
        )
    return tuple(found)


def mark_breaks(raw: "mne.io.BaseRaw", stretches: tuple[Stretch, ...]) -> None:
    """Annotate an open file at the ends of its stretches, so that MNE-Python does not filter or fit across a pause."""
    if len(stretches) < 2:
        return
    sfreq, first_s = float(raw.info["sfreq"]), float(raw.first_time)
    for one, after in itertools.pairwise(stretches):
        at_s = one.stop / sfreq + first_s
        if after.start > one.stop:
            raw.annotations.append(at_s, (after.start - one.stop) / sfreq, "BAD_ACQ_SKIP")
        else:
            raw.annotations.append(at_s, 0.0, "EDGE boundary")
