"""Labelled windows as fine-tuning reads them, and the result of one fold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from emeg.data.batch import Batch, Sample, collate
from emeg.data.tasks.folds import Fold

MEMORY_BYTES = 2 * 2**30
"""Windows are kept in memory up to this size: they are read in every epoch of every fold."""


class Windows(Protocol):
    """Labelled windows of a task; `emeg.data.TaskWindows` is one."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of every window, (n,)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    def read(self, indices: Sequence[int]) -> Batch:
        """Read windows in physical units; absent channels are padded and masked."""


FoldIndices = Fold[NDArray[np.int64]]
"""Indices of the windows of each side of a fold."""


@dataclass(frozen=True)
class FoldOutcome:
    """Result of one fold."""

    probabilities: NDArray[np.float64]
    """(test windows, classes), rows sum to 1, in the order of `FoldIndices.test`."""
    validation_balanced_accuracy: float
    """Validation score of the chosen settings."""
    chosen: dict[str, float]
    """``learning_rate`` and ``epoch``, or ``penalty``: what validation chose."""
    history: list[dict[str, float]]
    """A row for each epoch (full) or penalty (probe) tried."""
    state: dict[str, Tensor] | None
    """Weights of encoder, backbone and head (full), or of the linear map (probe); `None` unless requested."""


class InMemoryWindows:
    """Windows kept in memory.

    Parameters
    ----------
    samples : list of Sample
    labels : int64, shape (windows,)
        Class index of every window.
    classes : tuple of str
        Names of the classes.
    """

    def __init__(self, samples: list[Sample], labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
        self._samples = samples
        self.labels = labels
        self.classes = classes

    def read(self, indices: Sequence[int]) -> Batch:
        """Put windows side by side."""
        return collate([self._samples[i] for i in indices])


def in_memory(windows: Windows, *, limit_bytes: int = MEMORY_BYTES, at_once: int = 64) -> Windows:
    """Read all windows into memory where they fit in `limit_bytes`; otherwise give them back as they are."""
    n = len(windows.labels)
    if isinstance(windows, InMemoryWindows) or n == 0 or windows.read([0]).signal.nbytes * n > limit_bytes:
        return windows
    samples: list[Sample] = []
    for start in range(0, n, at_once):
        samples += _samples(windows.read(range(start, min(n, start + at_once))))
    return InMemoryWindows(samples, np.asarray(windows.labels), tuple(windows.classes))


def _samples(batch: Batch) -> Iterator[Sample]:
    for b, mask in enumerate(batch.channel_mask):
        yield Sample(batch.signal[b, mask], batch.pos[b, mask], batch.sensor_type[b, mask], int(batch.segments[b]))


def class_weights(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return weights, float64 of shape (classes,), equal in sum for every class; their mean over the windows is 1.

    Parameters
    ----------
    labels : int64, shape (windows,)
        Class index of every window.
    n_classes : int
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    return len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1.0))
