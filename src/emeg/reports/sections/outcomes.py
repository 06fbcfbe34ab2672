"""What models predicted: confusion matrices with the recall of every class, targets, and ranks of stimuli.

Shape letters: K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emeg.evaluation.comparisons import interval
from emeg.evaluation.protocol.products import GridTask, ModelKey
from emeg.reports.grid_plots import cumulative_ranks, targets
from emeg.reports.markup import Cell, Column, Figure, Picture, Row, Table, number, span
from emeg.reports.plots import confusion
from emeg.reports.sections.comparison import Shown, fullest, networks_and_best

MOST_CLASSES = 12
"""Most classes of a confusion matrix that is drawn."""
RIVALS_DRAWN = 1
"""Rivals whose predictions are drawn beside those of networks."""


class Outcomes(NamedTuple):
    """Pictures and tables of the predictions of one task, and their numbers."""

    pictures: list[Picture]
    tables: list[Table]
    figures: list[Figure]
    missing: str = ""
    """Why there are none."""


class _Predicted(NamedTuple):
    """Predictions of one model on one task: one row for each window, seed and fold."""

    subjects: NDArray[np.str_]
    labels: NDArray[np.float64]
    predicted: list[list[float]]


def outcomes_of(task: GridTask, shown: Sequence[Shown], predictions: Mapping[str, pa.Table | None]) -> Outcomes:
    """Draw the predictions of networks and of the best rival on a task.

    Parameters
    ----------
    task : GridTask
    shown : sequence of Shown
        Scores of all models.
    predictions : mapping of str to Table or None
        ``predictions.parquet`` of each evaluation.
    """
    own = fullest([one for one in shown if one.score.task == task.id])
    names = networks_and_best(own, [task.id], RIVALS_DRAWN)
    drawn = [one for one in own if one.model in names and one.score.key.labels == "real"]
    if not drawn:
        return Outcomes([], [], [], "no model has scores of subjects, so that no predictions are drawn")
    found: list[tuple[Shown, _Predicted]] = []
    for one in drawn:
        table = predictions[one.evaluation]
        if table is not None and len(rows := _select(table, task.id, one.score.key)):
            found.append((one, _predicted(rows)))
    if not found:
        return Outcomes([], [], [], "this evaluation has no predictions.parquet, so that no predictions are drawn")
    return _OF_KIND[task.kind](task, found)


def _select(table: pa.Table, task: str, key: ModelKey) -> pa.Table:
    condition = pc.field("task") == task
    for name, value in key.model_dump().items():
        condition &= pc.field(name).is_null() if value is None else pc.field(name) == value
    return table.filter(condition)


def _predicted(rows: pa.Table) -> _Predicted:
    return _Predicted(
        np.array(rows["subject"].to_pylist(), str), rows["label"].to_numpy(), rows["prediction"].to_pylist()
    )


def _with_classes(task: GridTask, found: Sequence[tuple[Shown, _Predicted]]) -> Outcomes:
    """Draw confusion matrices, and list the recall of every class with its interval over subjects."""
    n_classes = len(task.classes)
    pictures, rows, figures = [], [], []
    for one, predicted in found:
        truth, guess = predicted.labels.astype(int), np.array([np.argmax(row) for row in predicted.predicted])
        matrix_KK = np.zeros((n_classes, n_classes), np.int64)
        np.add.at(matrix_KK, (truth, guess), 1)
        if n_classes <= MOST_CLASSES:
            pictures.append(confusion_picture(one.name, matrix_KK, task.classes))
        for k, name in enumerate(task.classes):
            row, own = _recall(one, predicted.subjects[truth == k], guess[truth == k] == k, name)
            rows.append(row)
            figures.append(own)
        figures += [
            Figure("confusion", one.evaluation, task.id, one.name, f"{a} as {b}", "windows", float(matrix_KK[i, j]))
            for i, a in enumerate(task.classes)
            for j, b in enumerate(task.classes)
        ]
    columns = (
        Column("model"),
        Column("class"),
        Column("recall over windows", is_number=True),
        Column("windows", is_number=True),
        Column("mean over subjects", is_number=True),
        Column("95 % interval", is_number=True),
        Column("subjects", is_number=True),
    )
    caption = f"Share of the windows of each class that was recognised, {task.id}; windows of all seeds"
    return Outcomes(pictures, [Table(caption, columns, tuple(rows))], [_named(one, task.id) for one in figures])


def _recall(one: Shown, subjects: NDArray[np.str_], right: NDArray[np.bool_], name: str) -> tuple[Row, Figure]:
    by_subject = [float(right[subjects == subject].mean()) for subject in np.unique(subjects)]
    over = interval(by_subject)
    low, high = (None, None) if over is None else (over.low, over.high)
    pooled = float(right.mean()) if len(right) else None
    mean = float(np.mean(by_subject)) if by_subject else None
    texts = (one.name, name, number(pooled), str(len(right)), number(mean), span(low, high), str(len(by_subject)))
    row = Row(tuple(Cell(text) for text in texts), strong=one.is_own)
    return row, Figure("recall", one.evaluation, "", one.name, name, "recall", mean, low, high, len(by_subject))


def _named(one: Figure, task: str) -> Figure:
    return one._replace(task=task)


def confusion_picture(name: str, matrix_KK: NDArray[np.int64], classes: Sequence[str]) -> Picture:
    """Draw a confusion matrix; the text beside it has the same shares.

    Parameters
    ----------
    name : str
        Compared model.
    matrix_KK : int64, shape (classes, classes)
        Number of windows by true (row) and predicted (column) class, dimensionless.
    classes : sequence of str
    """
    share_KK = matrix_KK / np.maximum(matrix_KK.sum(axis=1, keepdims=True), 1)
    parts = [
        f"{true} as " + ", ".join(f"{guess} {share_KK[i, j]:.2f}" for j, guess in enumerate(classes))
        for i, true in enumerate(classes)
    ]
    return Picture(confusion(matrix_KK, classes), f"Confusion matrix of {name}: {'; '.join(parts)}.", name)


def _regression(task: GridTask, found: Sequence[tuple[Shown, _Predicted]]) -> Outcomes:
    """Draw the mean prediction of each subject and target over the target."""
    pictures, figures = [], []
    for one, predicted in found:
        values = np.array([row[0] for row in predicted.predicted])
        keys = sorted(set(zip(predicted.subjects.tolist(), predicted.labels.tolist(), strict=True)))
        per_subject = len(keys) == len(set(predicted.subjects.tolist()))
        if per_subject:
            means = [values[predicted.subjects == subject].mean() for subject, _ in keys]
            pairs = [(label, float(mean)) for (_, label), mean in zip(keys, means, strict=True)]
        else:
            pairs = list(zip(predicted.labels.tolist(), values.tolist(), strict=True))
        unit = "subjects" if per_subject else "windows"
        truth, mean = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
        correlation = float(np.corrcoef(truth, mean)[0, 1]) if truth.std() > 0 and mean.std() > 0 else None
        alt = f"Predicted over true target of {one.name}, {len(pairs)} {unit}; correlation {number(correlation)}."
        pictures.append(Picture(targets(truth, mean, unit), alt, f"{one.name}; r = {number(correlation)}"))
        figures.append(Figure("targets", one.evaluation, task.id, one.name, unit, "pearson", correlation, n=len(pairs)))
    return Outcomes(pictures, [], figures)


def _retrieval(task: GridTask, found: Sequence[tuple[Shown, _Predicted]]) -> Outcomes:
    """Draw the share of windows whose stimulus is among the first k candidates, over k."""
    series, figures = {}, []
    for one, predicted in found:
        ranks = np.array([row[0] for row in predicted.predicted])
        n_candidates = max(int(max(row[1] for row in predicted.predicted)), 1)
        series[one.name] = np.array([np.mean(ranks < k) for k in range(1, n_candidates + 1)])
        figures += [
            Figure("ranks", one.evaluation, task.id, one.name, f"first {k}", "share", float(series[one.name][k - 1]),
                   n=len(ranks))
            for k in (1, 5, 10)
            if k <= n_candidates
        ]  # fmt: skip
    firsts = "; ".join(f"{name} {values[0]:.2f}" for name, values in series.items())
    alt = f"Share of windows whose stimulus is among the first k candidates; for k = 1: {firsts}."
    return Outcomes([Picture(cumulative_ranks(series), alt, "Dotted: chance.")], [], figures)


def _encoding(task: GridTask, found: Sequence[tuple[Shown, _Predicted]]) -> Outcomes:
    del task, found
    return Outcomes([], [], [], "an encoding model predicts signals; its correlations are in the table")


_OF_KIND: Mapping[str, Callable[[GridTask, Sequence[tuple[Shown, _Predicted]]], Outcomes]] = {
    "classification": _with_classes,
    "diagnosis": _with_classes,
    "regression": _regression,
    "retrieval": _retrieval,
    "encoding": _encoding,
}
