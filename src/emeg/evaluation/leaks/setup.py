"""What the leak checks look at: the windows of a task, their sides in every fold, and what was trained on.

Shape letters: B batch, C channels, N samples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_LISTED = 6
"""Most examples of a leak that a check lists."""
WITHIN = frozenset({"within_subject_blocks", "cross_session", "unseen_stimuli"})
"""Split rules under which a subject may be on several sides."""


class Check(NamedTuple):
    """Result of one check."""

    name: str
    title: str
    """What must hold."""
    passed: bool
    stops: bool
    """Whether a failure stops the evaluation; otherwise it is shown beside the figures."""
    found: tuple[str, ...]
    """Examples of what is wrong, at most `MOST_LISTED`."""


class FitRecord(NamedTuple):
    """Windows that something was fitted or chosen on."""

    what: str
    """Name, such as ``scaler`` or ``penalty``."""
    purpose: Literal["preprocessing", "setting", "model"]
    fold: int
    rows: NDArray[np.int64]
    """Indices of the windows."""


class Sides(NamedTuple):
    """Indices of the windows on each side of a fold; windows on no side are in none."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    shown: NDArray[np.int64]
    """Windows of test or validation subjects that may be fitted on: labelled support, unlabelled calibration."""

    def pairs(self) -> Iterator[tuple[str, str, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the names and windows of each pair of sides that must not share anything."""
        yield "train", "validation", self.train, self.validation
        yield "train", "test", self.train, self.test
        yield "validation", "test", self.validation, self.test
        yield "support or calibration", "test", self.shown, self.test


@dataclass(frozen=True, eq=False)
class Setup:
    """An evaluation before its first fit. Arrays without a note have one entry for each of the B windows."""

    rule: str
    """Split rule."""
    folds: tuple[Sides, ...]
    labels: NDArray[Any]
    """Class index, target or stimulus index."""
    subjects: NDArray[np.str_]
    """Global names ``dataset/subject``."""
    recordings: NDArray[np.str_]
    starts: NDArray[np.int64]
    """First sample in the recording."""
    n_samples: int
    """Samples of a window."""
    datasets: NDArray[np.str_]
    devices: NDArray[np.str_]
    layouts: NDArray[np.str_]
    """Layout of the recording: hash of sensor types and positions, which a network reads."""
    has_classes: bool = True
    """Whether labels are class indices."""
    signal_BCN: NDArray[np.float32] | None = None  # noqa: N815
    """V, T or T/m; None if windows are not compared by content."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels; empty if every subject has channels of its own."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Key shared by the names of one person or one family, by global name."""
    fingerprints: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """`emeg.curation.fingerprints` of recordings of the task and of pretraining."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """Global name of the subject of each fingerprinted recording."""
    pretraining: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Split of every subject, by corpus that the model or its tokenizer was trained on."""
    pretraining_datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of datasets that the card of imported weights declares, by model."""
    dataset_ids: Mapping[str, str] = field(default_factory=dict)
    """Registry id of each dataset of the task; the dataset's name where it has none."""
    fits: tuple[FitRecord, ...] = ()

    @property
    def may_share_subjects(self) -> bool:
        """Whether the split rule puts windows of a subject on several sides."""
        return self.rule in WITHIN

    def person(self, subject: str) -> str:
        """Return the key of the person behind a global name."""
        return self.groups.get(subject, subject)

    @property
    def tested(self) -> NDArray[np.int64]:
        """Indices of the windows that any fold tests."""
        parts = [fold.test for fold in self.folds]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
