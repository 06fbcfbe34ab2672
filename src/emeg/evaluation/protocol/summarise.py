"""From the rows of all cells to scores with intervals over subjects, and paired comparisons corrected over tasks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emeg.evaluation.comparisons import holm, interval, metric_interval, sign_flip_p
from emeg.evaluation.protocol.compute import Compared
from emeg.evaluation.protocol.products import GridComparison, GridInterval, GridScore, GridTask, ModelKey
from emeg.evaluation.protocol.scoring import LOWER_IS_BETTER, Outcomes, one_metric, subject_means
from emeg.evaluation.protocol.task_data import TaskData

ALPHA = 0.05
"""Level of the corrected tests."""
NO_SIGNAL = frozenset({"chance", "dummy"})
"""Rivals that do not look at the windows."""

Question = Literal["chance", "random_weights", "permuted_labels", "best_rival"]


class _Group(NamedTuple):
    task: str
    key: ModelKey


def summarise_task(data: TaskData, *, uses_signal: bool) -> GridTask:
    """Return definition and size of a task."""
    recipe, windows = data.recipe, data.windows
    counts = np.bincount(windows.labels, minlength=len(windows.classes))[: len(windows.classes)].tolist()
    first = next(iter(data.manifests.values()))
    splits = {
        f"seed {seed}" + ("" if examples is None else f", {examples} examples"): manifest.identity
        for (seed, examples), manifest in data.manifests.items()
    }
    n_channels = None
    if uses_signal:
        n_channels = 0 if data.signal is None else data.signal.signal_BCN.shape[1]
    return GridTask(
        id=recipe.id,
        title=recipe.title,
        kind=recipe.kind,
        metric=recipe.metric,
        split_rule=data.rule,
        definition=recipe.product_fields(),
        classes=windows.classes,
        datasets=tuple(sorted(set(windows.datasets.tolist()))),
        devices=tuple(sorted(set(windows.devices.tolist()))),
        n_subjects=len(set(windows.subjects.tolist())),
        n_recordings=len(set(windows.recordings.tolist())),
        n_windows=len(windows),
        windows_per_class=dict(zip(windows.classes, counts, strict=True)),
        n_channels=n_channels,
        left_out=dict(windows.left_out),
        n_seen=data.n_seen,
        n_folds=len(first),
        splits=splits,
        notices=tuple(sorted({manifest.notice for manifest in data.manifests.values() if manifest.notice})),
        published=recipe.published,
    )


def scores_of(
    tasks: Mapping[str, TaskData], compared: Mapping[str, Sequence[Compared]], results: pa.Table, predictions: pa.Table
) -> list[GridScore]:
    """Return the primary metric of every model on every task, in the order of the tasks and models.

    Parameters
    ----------
    tasks : mapping of str to TaskData
    compared : mapping of str to sequence of Compared
        Models of each task.
    results, predictions : Table
        Rows of all cells.
    """
    rows = _grouped(results.to_pylist())
    predicted = _grouped(predictions.to_pylist())
    found = []
    for name, data in tasks.items():
        of_key = {_model_key(one): one for one in compared[name]}
        for key in [group.key for group in rows if group.task == name]:
            group = _Group(name, key)
            one = of_key[key.model, key.weights, key.mode, key.read_out, key.labels, key.condition]
            found.append(_score(data, group, one, rows[group], predicted.get(group, [])))
    return found


def _model_key(one: Compared) -> tuple[str, str, str, str, str, str]:
    return one.model, one.weights, one.mode, one.read_out, one.labels, one.condition


def _grouped(rows: Sequence[dict[str, Any]]) -> dict[_Group, list[dict[str, Any]]]:
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    fields = tuple(ModelKey.model_fields)
    for row in rows:
        grouped[row["task"], *(row[field] for field in fields)].append(row)
    return {
        _Group(task, ModelKey(**dict(zip(fields, values, strict=True)))): own
        for (task, *values), own in grouped.items()
    }


def _score(
    data: TaskData, group: _Group, one: Compared, rows: Sequence[dict[str, Any]], predicted: Sequence[dict[str, Any]]
) -> GridScore:
    metric = data.recipe.metric
    pooled = [
        row["value"] for row in rows if not row["subject"] and row["unit"] == "window" and row["metric"] == metric
    ]
    values = [value for value in pooled if value is not None]
    subjects, subject_metric = _by_subject(rows, metric), metric
    if not any(value is not None for value in subjects.values()) and data.recipe.kind == "regression":
        subjects, subject_metric = _by_subject(rows, "mae"), "mae"
    over = interval([value for value in subjects.values() if value is not None])
    whole = _as_units(data, metric, predicted)
    return GridScore(
        task=group.task,
        key=group.key,
        title=one.title,
        family=one.rival.family,
        metric=metric,
        mean=float(np.mean(values)) if values else None,
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        n_runs=len(pooled),
        subject_metric=subject_metric,
        subjects=subjects,
        interval=None if over is None else GridInterval(**over._asdict()),
        by_subject=None if whole is None else whole.mean,
        by_subject_interval=None if whole is None else whole.interval,
    )


def _by_subject(rows: Sequence[dict[str, Any]], metric: str) -> dict[str, float | None]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["subject"] and row["unit"] == "window" and row["metric"] == metric:
            found[row["subject"]] += [] if row["value"] is None else [row["value"]]
    return {name: float(np.mean(values)) if values else None for name, values in sorted(found.items())}


class _AsUnits(NamedTuple):
    """Primary metric with subjects as units, mean over seeds."""

    mean: float
    interval: GridInterval | None


def _as_units(data: TaskData, metric: str, predicted: Sequence[dict[str, Any]]) -> _AsUnits | None:
    """Return the primary metric with subjects as units over all folds of a seed, averaged over seeds.

    None unless every subject has one label.
    """
    kind = data.recipe.kind
    by_seed: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in predicted:
        by_seed[row["seed"]].append(row)
    if kind not in ("diagnosis", "regression") or not by_seed:
        return None
    averaged = [subject_means(kind, _outcomes(data, own)) for own in by_seed.values()]
    whole = [one for one in averaged if one is not None]
    if len(whole) < len(averaged):
        return None

    def measure(rows: NDArray[np.intp]) -> float | None:
        drawn = [one._replace(truth=one.truth[rows], predicted=one.predicted[rows]) for one in whole]
        values = [one_metric(kind, metric, one).value for one in drawn]
        defined = [value for value in values if value is not None]
        return float(np.mean(defined)) if defined else None

    first = whole[0]
    mean = measure(np.arange(len(first.truth)))
    if mean is None:
        return None
    if any(not np.array_equal(one.subjects, first.subjects) for one in whole):
        return _AsUnits(mean, None)
    # permuted labels differ between seeds, so that subjects have no class to resample in
    has_class = kind == "diagnosis" and all(np.array_equal(one.truth, first.truth) for one in whole)
    found = metric_interval(measure, first.truth if has_class else np.zeros(len(first.truth)))
    n = len(first.truth)
    return _AsUnits(mean, None if found is None else GridInterval(mean=mean, low=found[0], high=found[1], n_subjects=n))


def _outcomes(data: TaskData, rows: Sequence[dict[str, Any]]) -> Outcomes:
    labels = np.array([row["label"] for row in rows])
    return Outcomes(
        truth=labels.astype(np.int64) if data.n_classes else labels,
        predicted=np.array([row["prediction"] for row in rows], np.float64),
        subjects=np.array([row["subject"] for row in rows]),
        stimuli=np.zeros(len(rows), np.int64),
    )


def compare(scores: Sequence[GridScore]) -> list[GridComparison]:
    """Compare every pretrained model, and the features of stimuli, with chance, controls and the best rival.

    The controls are random weights and permuted labels.

    The best rival is chosen on the test subjects, in favour of the rival. p-values are corrected over all
    tests of one network and question: over tasks, read-outs, modes, conditions and numbers of examples.
    """
    pairs: list[tuple[GridScore, GridScore, Question]] = []
    for score in scores:
        key = score.key
        if not key.is_judged:
            continue
        same = [
            other
            for other in scores
            if other.task == score.task
            and other.key != key
            and (other.key.condition, other.key.examples_per_class) == (key.condition, key.examples_per_class)
        ]
        pairs += [(score, rival, question) for question in _QUESTIONS if (rival := _rival(score, same, question))]
    tests = [_paired(score, rival) for score, rival, _ in pairs]
    corrected: dict[int, float] = {}
    families: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, (score, _, question) in enumerate(pairs):
        if tests[number].p is not None:
            families[score.key.model, question].append(number)
    for numbers in families.values():
        corrected |= dict(zip(numbers, holm([tests[k].p or 0.0 for k in numbers]), strict=True))
    return [
        _comparison(score, rival, question, tests[number], corrected.get(number))
        for number, (score, rival, question) in enumerate(pairs)
    ]


_QUESTIONS: tuple[Question, ...] = ("chance", "random_weights", "permuted_labels", "best_rival")


def _rival(score: GridScore, others: Sequence[GridScore], question: Question) -> GridScore | None:
    key = score.key
    if question == "chance":
        return next((one for one in others if one.key.model == "chance"), None)
    fitted = key.model, key.mode, key.read_out
    network = [one for one in others if (one.key.model, one.key.mode, one.key.read_out) == fitted]
    if question == "permuted_labels":
        return next((one for one in network if one.key.labels == "permuted"), None)
    if question == "random_weights":
        return next((one for one in network if one.key.weights == "random" and one.key.labels == "real"), None)
    rivals = [one for one in others if not one.key.weights and one.key.model not in NO_SIGNAL]
    scored = [(_mean(one), one) for one in rivals if one.key.labels == "real"]
    defined = [(value, one) for value, one in scored if value is not None]
    return max(defined, key=lambda pair: pair[0])[1] if defined else None


def _sign(metric: str) -> float:
    return -1.0 if metric in LOWER_IS_BETTER else 1.0


def _mean(score: GridScore) -> float | None:
    values = [value for value in score.subjects.values() if value is not None]
    return _sign(score.subject_metric) * float(np.mean(values)) if values else None


class _Paired(NamedTuple):
    difference: GridInterval | None
    p: float | None


def _paired(score: GridScore, rival: GridScore) -> _Paired:
    if score.subject_metric != rival.subject_metric:
        return _Paired(None, None)
    sign = _sign(score.subject_metric)
    both = [(score.subjects[name], rival.subjects.get(name)) for name in score.subjects]
    differences = [sign * (a - b) for a, b in both if a is not None and b is not None]
    found = interval(differences)
    if found is None:
        return _Paired(None, None)
    return _Paired(GridInterval(**found._asdict()), sign_flip_p(differences))


def _comparison(
    score: GridScore, rival: GridScore, question: Question, test: _Paired, corrected: float | None
) -> GridComparison:
    passed = None
    if test.difference is not None and corrected is not None:
        passed = test.difference.mean > 0 and corrected < ALPHA
    return GridComparison(
        task=score.task,
        key=score.key,
        rival=rival.key,
        question=question,
        difference=test.difference,
        p=test.p,
        p_corrected=corrected,
        passed=passed,
    )
