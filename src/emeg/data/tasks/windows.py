"""Cut the labelled windows of a task from recordings."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data.batch import Batch, Sample, collate
from emeg.data.corpus.cutting import RecordingCache, is_usable, open_all
from emeg.data.tasks.definition import TaskConfig, event_label
from emeg.data.tasks.recipes import TaskRecipe
from emeg.data.tasks.spans import Span, find_spans, task_recordings
from emeg.errors import UserError
from emeg.sensors import positions_with_regions
from emeg.store import CatalogRow, Store, find_labels, read_catalog, read_events

MAX_BAD_CHANNELS = 0.5
"""Largest share of channels that may be flat or NaN in any second of a window."""

FEWEST_SAMPLES = 2
"""Samples of the shortest window: a single one has no spectrum and no deviation."""


@dataclass(frozen=True, eq=False)
class TaskWindows:
    """Labelled windows of a task; signals are read on demand."""

    task: TaskConfig | TaskRecipe
    classes: tuple[str, ...]
    """Names of the classes or stimuli, of which a label is an index; empty for regression."""
    labels: NDArray[np.int64]
    """(n,), 0 for regression."""
    targets: NDArray[np.float64] | None
    """(n,), target of a regression; None for other tasks."""
    subjects: NDArray[np.str_]
    """(n,), global names ``dataset/subject``."""
    sessions: NDArray[np.str_]
    """(n,), session labels."""
    datasets: NDArray[np.str_]
    """(n,)"""
    devices: NDArray[np.str_]
    """(n,)"""
    sources: NDArray[np.str_]
    """(n,), paths of the source files in their datasets."""
    recordings: NDArray[np.str_]
    """(n,)"""
    layouts: NDArray[np.str_]
    """(n,), layout of each window's recording."""
    channels: NDArray[np.int64]
    """(n,), channels of each window."""
    starts: NDArray[np.int64]
    """(n,), first sample in the recording."""
    n_samples: int
    """Samples of every window."""
    sfreq: float
    """Sampling rate, Hz."""
    left_out: Mapping[str, int]
    """Number of windows left out, by reason."""
    _opened: RecordingCache = field(repr=False)
    _numbers: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, subjects: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of the windows of some subjects, ascending."""
        return np.flatnonzero(np.isin(self.subjects, list(subjects))).astype(np.int64)

    def read(self, indices: Sequence[int] | NDArray[np.integer]) -> Batch:
        """Read windows in V, T or T/m, in the order given; missing channels are padded and masked.

        Parameters
        ----------
        indices : int, shape (windows,)
            Window indices; they become ``segments`` of the batch.
        """
        samples: dict[int, Sample] = {}
        wanted = [int(i) for i in indices]
        for i in sorted(set(wanted), key=lambda i: (self._numbers[i], self.starts[i])):
            recording = self._opened[int(self._numbers[i])]
            start = int(self.starts[i])
            signal = recording.read(start, start + self.n_samples)
            sensors = recording.sensors
            kind = self.task.sensors if isinstance(self.task, TaskRecipe) else None
            if kind is not None:
                own = {"eeg": sensors.is_eeg, "meg": sensors.is_meg, "ieeg": sensors.is_intracranial}[kind]
                signal, sensors = signal[own], sensors.take(own)
            samples[i] = Sample(signal, positions_with_regions(sensors), sensors.types, i)
        return collate([samples[i] for i in wanted])


class _Found(NamedTuple):
    """A window: index of its recording, first sample, label."""

    number: int
    start: int
    label: float


class _Cutting(NamedTuple):
    """How labelled stretches become windows."""

    name: str
    """Name of the task, for messages."""
    length_s: float
    offset_s: float
    stride_s: float | None
    label_of: Callable[[str], float | None]
    """Label of a text; None where the text belongs to no class."""
    wanted: str
    """What the labels should be, for messages."""
    merge: bool
    """Whether a window that occurs several times is used once, with the label that `classes` lists first."""


def task_windows(
    store: Store,
    task: TaskConfig | TaskRecipe,
    subjects: Sequence[str] | None = None,
    *,
    stimuli: Sequence[str] = (),
) -> TaskWindows:
    """Cut the windows of a task.

    A window starts at ``round((onset + offset_s) · sfreq)``; with `stride_s` set, windows tile the labelled stretch as
    long as they fit into its duration. A label of a recording makes one stretch of the whole recording. Windows of a
    recipe that occur several times, as where a table has a row for each channel, are used once.

    Parameters
    ----------
    subjects : sequence of str, optional
        Global names ``dataset/subject`` of the subjects to use; all if not given.
    stimuli : sequence of str
        Names of the stimuli of a retrieval or encoding task; events with other labels are not used.

    Raises
    ------
    UserError
        No recording or no event matches, or sampling rates differ.
    """
    if isinstance(task, TaskRecipe):
        rows = [row for row in task_recordings(store, task) if _is_one_of(row, subjects)]
        spans = find_spans(store, rows, task)
        cutting, classes = _cutting_of_recipe(task, stimuli)
    else:
        if len(task.classes) < 2:
            raise UserError(
                f"task {task.name}: {len(task.classes)} classes; at least 2 are needed;"
                " set task.classes to class: [trial types, or values of task.label]"
            )
        rows = _rows(store, task, subjects)
        spans = _spans(store, rows, task)
        cutting, classes = _cutting_of_config(task), tuple(task.classes)
    opened = open_all(store, rows)
    found, left_out, rates = _cut(rows, opened, spans, cutting)
    if len(rates) > 1:
        raise UserError(
            f"task {cutting.name}: recordings have {sorted(rates)} Hz; choose recordings of one rate with task.dataset"
        )
    return _assemble(task, classes, rows, opened, found, left_out, cutting.length_s, rates.pop())


def _cutting_of_config(task: TaskConfig) -> _Cutting:
    class_of = {label: float(k) for k, labels in enumerate(task.classes.values()) for label in labels}
    stride_s = task.window_s if task.label is not None and task.stride_s is None else task.stride_s
    wanted = f"its classes use {', '.join(sorted(class_of))}"
    return _Cutting(task.name, task.window_s, task.offset_s, stride_s, class_of.get, wanted, merge=False)


def _cutting_of_recipe(recipe: TaskRecipe, stimuli: Sequence[str]) -> tuple[_Cutting, tuple[str, ...]]:
    label_of: Callable[[str], float | None]
    if recipe.kind == "regression":
        classes: tuple[str, ...] = ()
        label_of, wanted = _number_of(recipe), "its target is a number"
    else:
        named = recipe.classes or {name: (name,) for name in stimuli}
        classes = tuple(named)
        class_of = {text: float(k) for k, texts in enumerate(named.values()) for text in texts}
        label_of, wanted = class_of.get, f"its classes use {', '.join(sorted(class_of)[:12])}"
    window = recipe.window
    return _Cutting(recipe.id, window.length_s, window.offset_s, recipe.stride_s, label_of, wanted, merge=True), classes


def _number_of(recipe: TaskRecipe) -> Callable[[str], float | None]:
    def number(text: str) -> float | None:
        if not text or text == "n/a":
            return None
        try:
            value = float(text)
        except ValueError as error:
            raise UserError(
                f"task {recipe.id}: the target of a regression is a number, but {recipe.labels.column or 'a label'} has"
                f" {text!r}; choose another column, or kind: classification"
            ) from error
        return value if np.isfinite(value) else None

    return number


def _is_one_of(row: CatalogRow, subjects: Sequence[str] | None) -> bool:
    return subjects is None or f"{row.dataset}/{row.subject}" in subjects


def _spans(store: Store, rows: Sequence[CatalogRow], task: TaskConfig) -> dict[str, list[Span]]:
    if task.label is None:
        return {
            row.recording: [Span(e.onset_s, e.duration_s, event_label(e)) for e in read_events(store, row.recording)]
            for row in rows
        }
    labels = find_labels(store, rows, task.label)
    return {
        row.recording: [Span(0.0, row.duration_s, labels[row.recording])] for row in rows if row.recording in labels
    }


def _cut(
    rows: Sequence[CatalogRow], opened: RecordingCache, spans: Mapping[str, Sequence[Span]], cutting: _Cutting
) -> tuple[list[_Found], dict[str, int], set[float]]:
    found: list[_Found] = []
    left_out: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    rates = set()
    for number, row in enumerate(rows):
        own = spans.get(row.recording, ())
        seen.update(span.value for span in own)
        labelled = [(label, span) for span in own if (label := cutting.label_of(span.value)) is not None]
        if not labelled:
            continue
        recording = opened[number]
        rates.add(recording.sfreq)
        n_samples = round(cutting.length_s * recording.sfreq)
        if n_samples < FEWEST_SAMPLES:
            raise UserError(
                f"task {cutting.name}: a window of {cutting.length_s:g} s has {n_samples} samples at"
                f" {recording.sfreq:g} Hz; set a length of at least {FEWEST_SAMPLES / recording.sfreq:g} s"
            )
        starts = [(start, label) for label, span in labelled for start in _starts(span, cutting, recording.sfreq)]
        if cutting.merge:
            n_all = len(starts)
            starts = list(dict(sorted(starts, reverse=True)).items())
            left_out["several times the same window"] += n_all - len(starts)
            starts.sort()
        for start, label in starts:
            if not 0 <= start <= recording.n_samples - n_samples:
                left_out["outside the recording"] += 1
            elif not recording.is_continuous(start, start + n_samples):
                left_out["across a pause of the recording"] += 1
            elif not is_usable(recording.bad, start, start + n_samples, recording.sfreq, MAX_BAD_CHANNELS):
                left_out["no signal in most channels"] += 1
            else:
                found.append(_Found(number, start, label))
    counts = {reason: n for reason, n in sorted(left_out.items()) if n}
    if not found:
        there = ", ".join(f"{k} {v}×" for k, v in sorted(seen.items())[:12]) or "no labels"
        raise UserError(
            f"task {cutting.name}: no window of {cutting.length_s} s fits; {cutting.wanted}, the recordings have"
            f" {there}{'; left out: ' + str(counts) if counts else ''}; set other classes or a shorter window"
        )
    return found, counts, rates


def _rows(store: Store, task: TaskConfig, subjects: Sequence[str] | None) -> list[CatalogRow]:
    rows = [
        row
        for row in read_catalog(store)
        if task.dataset in (None, row.dataset)
        and task.device in (None, row.device)
        and task.modality in (None, row.modality)
        and (subjects is None or f"{row.dataset}/{row.subject}" in set(subjects))
    ]
    if not rows:
        raise UserError(
            f"task {task.name}: no recording has dataset {task.dataset or 'any'}, device {task.device or 'any'},"
            f" modality {task.modality or 'any'}{'' if subjects is None else f' and one of {len(subjects)} subjects'};"
            " choose others, or ingest such recordings"
        )
    return rows


def _starts(span: Span, cutting: _Cutting, sfreq: float) -> list[int]:
    first = span.onset_s + cutting.offset_s
    if cutting.stride_s is None:
        return [round(first * sfreq)]
    # tolerance of half a sample: durations in sidecars are rounded
    remaining_s = span.duration_s - cutting.offset_s - cutting.length_s + 0.5 / sfreq
    n = int(remaining_s // cutting.stride_s) + 1 if remaining_s >= 0 else 0
    return [round((first + k * cutting.stride_s) * sfreq) for k in range(n)]


def _assemble(
    task: TaskConfig | TaskRecipe,
    classes: tuple[str, ...],
    rows: Sequence[CatalogRow],
    opened: RecordingCache,
    found: Sequence[_Found],
    left_out: dict[str, int],
    length_s: float,
    sfreq: float,
) -> TaskWindows:
    numbers = np.array([one.number for one in found], np.int64)
    values = np.array([one.label for one in found], np.float64)
    of_rows = {
        "subjects": np.array([f"{row.dataset}/{row.subject}" for row in rows]),
        "sessions": np.array([row.session for row in rows]),
        "datasets": np.array([row.dataset for row in rows]),
        "devices": np.array([row.device for row in rows]),
        "sources": np.array([row.source for row in rows]),
        "recordings": np.array([row.recording for row in rows]),
        "layouts": np.array([row.layout for row in rows]),
        "channels": np.array([row.n_channels for row in rows], np.int64),
    }
    return TaskWindows(
        task=task,
        classes=classes,
        labels=values.astype(np.int64) if classes else np.zeros(len(values), np.int64),
        targets=None if classes else values,
        starts=np.array([one.start for one in found], np.int64),
        n_samples=round(length_s * sfreq),
        sfreq=sfreq,
        left_out=left_out,
        _opened=opened,
        _numbers=numbers,
        **{name: values[numbers] for name, values in of_rows.items()},
    )
