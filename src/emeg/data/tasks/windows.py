"""Cut the labelled windows of a task from recordings, at their events."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emeg.data.batch import Batch, Sample, collate
from emeg.data.corpus.cutting import RecordingCache, is_usable, open_all
from emeg.data.tasks.definition import TaskConfig, event_label
from emeg.errors import UserError
from emeg.store import CatalogRow, Event, Store, find_labels, read_catalog, read_events

MAX_BAD_CHANNELS = 0.5
"""Largest share of channels that may be flat or NaN in any second of a window."""


@dataclass(frozen=True, eq=False)
class TaskWindows:
    """Labelled windows of a task; signals are read on demand."""

    task: TaskConfig
    classes: tuple[str, ...]
    """Names of the classes; a label is an index into them."""
    labels: NDArray[np.int64]
    """(n,)"""
    subjects: NDArray[np.str_]
    """(n,), global names ``dataset/subject``."""
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
            samples[i] = Sample(signal, sensors.model_positions(), sensors.types, i)
        return collate([samples[i] for i in wanted])


def task_windows(store: Store, task: TaskConfig, subjects: Sequence[str] | None = None) -> TaskWindows:
    """Cut the windows of a task.

    A window starts at ``round((onset + offset_s) · sfreq)``; with `stride_s` set, windows tile the event as long as
    they fit into its duration. With a label, the whole recording is one event.

    Parameters
    ----------
    subjects : sequence of str, optional
        Global names ``dataset/subject`` of the subjects to use; all if not given.

    Raises
    ------
    UserError
        No recording or no event matches, or sampling rates differ.
    """
    if len(task.classes) < 2:
        raise UserError(
            f"task {task.name}: {len(task.classes)} classes; at least 2 are needed;"
            " set task.classes to class: [trial types, or values of task.label]"
        )
    rows = _rows(store, task, subjects)
    opened = open_all(store, rows)
    events_of = _labelled_stretches(store, rows, task) if task.label is not None else None
    tiled = task if task.label is None or task.stride_s is not None else _tiling(task)
    class_of = {label: k for k, labels in enumerate(task.classes.values()) for label in labels}
    found: list[tuple[int, int, int]] = []
    left_out: Counter[str] = Counter()
    rates = set()
    seen: Counter[str] = Counter()
    for number, row in enumerate(rows):
        events = read_events(store, row.recording) if events_of is None else events_of.get(row.recording, [])
        seen.update(event_label(e) for e in events)
        wanted = [(class_of[event_label(e)], e) for e in events if event_label(e) in class_of]
        if wanted:
            recording = opened[number]
            rates.add(recording.sfreq)
            n_samples = round(task.window_s * recording.sfreq)
            for label, event in wanted:
                for start in _starts(event, tiled, recording.sfreq):
                    if not 0 <= start <= recording.n_samples - n_samples:
                        left_out["outside the recording"] += 1
                    elif not recording.is_continuous(start, start + n_samples):
                        left_out["across a pause of the recording"] += 1
                    elif not is_usable(recording.bad, start, start + n_samples, recording.sfreq, MAX_BAD_CHANNELS):
                        left_out["no signal in most channels"] += 1
                    else:
                        found.append((number, start, label))
    if not found:
        there = ", ".join(f"{k} {v}×" for k, v in sorted(seen.items())[:12]) or f"no {task.label or 'events'}"
        raise UserError(
            f"task {task.name}: no window of {task.window_s} s fits; its classes use {', '.join(sorted(class_of))}, the"
            f" recordings have {there}"
            f"{'; left out: ' + str(dict(left_out)) if left_out else ''}"
        )
    if len(rates) > 1:
        raise UserError(
            f"task {task.name}: recordings have {sorted(rates)} Hz; choose recordings of one rate with task.dataset"
        )
    return _assemble(task, rows, opened, found, dict(sorted(left_out.items())), rates.pop())


def _labelled_stretches(store: Store, rows: Sequence[CatalogRow], task: TaskConfig) -> dict[str, list[Event]]:
    """Return one event for each recording that has a label: the whole recording, named by the label."""
    labels = find_labels(store, rows, task.label or "")
    return {
        row.recording: [Event(0.0, row.duration_s, labels[row.recording], "")]
        for row in rows
        if row.recording in labels
    }


def _tiling(task: TaskConfig) -> TaskConfig:
    """Return the task with windows side by side."""
    return task.model_copy(update={"stride_s": task.window_s})


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
            f" modality {task.modality or 'any'}{'' if subjects is None else f' and one of {len(subjects)} subjects'}"
        )
    return rows


def _starts(event: Event, task: TaskConfig, sfreq: float) -> list[int]:
    first = event.onset_s + task.offset_s
    if task.stride_s is None:
        return [round(first * sfreq)]
    # tolerance of half a sample: durations in sidecars are rounded
    remaining_s = event.duration_s - task.offset_s - task.window_s + 0.5 / sfreq
    n = int(remaining_s // task.stride_s) + 1 if remaining_s >= 0 else 0
    return [round((first + k * task.stride_s) * sfreq) for k in range(n)]


def _assemble(
    task: TaskConfig,
    rows: Sequence[CatalogRow],
    opened: RecordingCache,
    found: Sequence[tuple[int, int, int]],
    left_out: dict[str, int],
    sfreq: float,
) -> TaskWindows:
    numbers, starts, labels = (np.array(column, np.int64) for column in zip(*found, strict=True))
    of_rows = {
        "subjects": np.array([f"{row.dataset}/{row.subject}" for row in rows]),
        "recordings": np.array([row.recording for row in rows]),
        "layouts": np.array([row.layout for row in rows]),
        "channels": np.array([row.n_channels for row in rows], np.int64),
    }
    return TaskWindows(
        task=task,
        classes=tuple(task.classes),
        labels=labels,
        starts=starts,
        n_samples=round(task.window_s * sfreq),
        sfreq=sfreq,
        left_out=left_out,
        _opened=opened,
        _numbers=numbers,
        **{name: values[numbers] for name, values in of_rows.items()},
    )
