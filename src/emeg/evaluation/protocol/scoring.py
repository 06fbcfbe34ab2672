"""Metrics of every kind of task, for all windows of a fold and for each subject, and the score that chooses settings.

Predictions are probabilities (classification, diagnosis), targets (regression), stimulus embeddings (retrieval) or
responses (encoding).

Shape letters: B batch, D features.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.metrics import METRICS, Score, score
from emeg.evaluation.protocol.interfaces import Kind
from emeg.metrics import normalised_product

OF_KIND: dict[Kind, tuple[str, ...]] = {
    "classification": METRICS,
    "diagnosis": METRICS,
    "regression": ("pearson", "spearman", "r2", "mae"),
    "retrieval": ("top1", "top5", "mean_rank"),
    "encoding": ("correlation", "noise_ceiling", "share_of_ceiling"),
}
"""Metrics of each kind of task in the order of tables. ``mean_rank``: 0 for always first, 1 for always last."""
LOWER_IS_BETTER = frozenset({"mae", "mean_rank"})


class Outcomes(NamedTuple):
    """Test windows of a fold with their predictions."""

    truth: NDArray[Any]
    """Class indices, targets or stimulus indices; for encoding the responses, shape (windows, outputs)."""
    predicted: NDArray[np.float64]
    """Shape (windows, outputs)."""
    subjects: NDArray[np.str_]
    stimuli: NDArray[np.int64]
    """Stimulus index of each window; zeros where the kind has no stimuli."""
    table_BD: NDArray[np.float64] | None = None  # noqa: N815
    """Features of every stimulus, for retrieval."""


class Figure(NamedTuple):
    """One value of one metric."""

    subject: str
    unit: str
    metric: str
    value: float | None
    n: int
    note: str


def figures(kind: Kind, tested: Outcomes) -> Iterator[Figure]:
    """Yield the metrics of a fold: all test windows, each subject, and subjects as units where that is defined."""
    measure = _MEASURES[kind]
    names = np.unique(tested.subjects)
    pooled = kind != "encoding"  # responses of subjects with different sensors have no common measure
    if pooled:
        yield from _named("", "window", measure(tested), len(tested.truth))
    by_subject = {str(name): measure(_only(tested, tested.subjects == name)) for name in names}
    for name, scores in by_subject.items():
        yield from _named(name, "window", scores, int(np.sum(tested.subjects == name)))
    if not pooled:
        yield from _named("", "window", _mean(list(by_subject.values())), len(tested.truth))
    if (averaged := subject_means(kind, tested)) is not None:
        yield from _named("", "subject", measure(averaged), len(averaged.truth))


def _named(subject: str, unit: str, scores: dict[str, Score], n: int) -> Iterator[Figure]:
    for metric, found in scores.items():
        yield Figure(subject, unit, metric, found.value, n, found.note)


def _only(tested: Outcomes, rows: NDArray[np.bool_]) -> Outcomes:
    return tested._replace(
        truth=tested.truth[rows],
        predicted=tested.predicted[rows],
        subjects=tested.subjects[rows],
        stimuli=tested.stimuli[rows],
    )


def _mean(scores: list[dict[str, Score]]) -> dict[str, Score]:
    found = {}
    for metric in scores[0]:
        values = [own[metric].value for own in scores]
        defined = [value for value in values if value is not None]
        missing = len(values) - len(defined)
        note = f"{missing} of {len(values)} subjects have no value" if missing else ""
        found[metric] = Score(float(np.mean(defined)) if defined else None, note)
    return found


def subject_means(kind: Kind, tested: Outcomes) -> Outcomes | None:
    """Return the mean prediction of each subject; None unless every subject has one label, as in a diagnosis."""
    if kind not in ("diagnosis", "regression"):
        return None
    names, owner = np.unique(tested.subjects, return_inverse=True)
    first = np.array([np.flatnonzero(owner == k)[0] for k in range(len(names))])
    if any(len(np.unique(tested.truth[owner == k])) > 1 for k in range(len(names))):
        return None
    averaged = np.stack([tested.predicted[owner == k].mean(axis=0) for k in range(len(names))])
    return tested._replace(truth=tested.truth[first], predicted=averaged, subjects=names, stimuli=tested.stimuli[first])


def _classification(tested: Outcomes) -> dict[str, Score]:
    return score(tested.truth, tested.predicted)


def _regression(tested: Outcomes, names: Collection[str] = OF_KIND["regression"]) -> dict[str, Score]:
    return {name: _REGRESSION[name](np.asarray(tested.truth, np.float64), tested.predicted[:, 0]) for name in names}


def _mae(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> Score:
    return Score(float(np.mean(np.abs(truth - predicted))))


def _r2(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> Score:
    from sklearn.metrics import r2_score

    fault = _flat_target(truth)
    return Score(None, fault) if fault else Score(float(r2_score(truth, predicted)))


def _pearson(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> Score:
    from scipy.stats import pearsonr

    fault = _flat_target(truth) or _flat_prediction(predicted)
    return Score(None, fault) if fault else Score(float(pearsonr(truth, predicted).statistic))


def _spearman(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> Score:
    from scipy.stats import spearmanr

    fault = _flat_target(truth) or _flat_prediction(predicted)
    return Score(None, fault) if fault else Score(float(spearmanr(truth, predicted).statistic))


def _flat_target(truth: NDArray[np.float64]) -> str:
    if len(truth) >= 3 and np.ptp(truth) > 0:
        return ""
    return "the target does not vary" if len(truth) else "no windows"


def _flat_prediction(predicted: NDArray[np.float64]) -> str:
    return "all predictions are equal" if np.ptp(predicted) == 0 else ""


_REGRESSION = {"pearson": _pearson, "spearman": _spearman, "r2": _r2, "mae": _mae}


def ranks(tested: Outcomes) -> tuple[NDArray[np.int64], int]:
    """Return the rank of the right stimulus for every window, from 0, and the number of candidates.

    Candidates are the stimuli of the test windows of all subjects; similarity is the cosine. A tie counts against the
    right stimulus.
    """
    if tested.table_BD is None:
        raise ValueError("retrieval needs the features of the stimuli")
    candidates = np.unique(tested.stimuli)
    return _ranks_among(tested, candidates), len(candidates)


def _ranks_among(tested: Outcomes, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    assert tested.table_BD is not None
    similarity = _unit(tested.predicted) @ _unit(tested.table_BD[candidates]).T
    right = np.searchsorted(candidates, tested.stimuli)
    own = similarity[np.arange(len(right)), right]
    return np.asarray(np.sum(similarity >= own[:, None], axis=1) - 1, np.int64)


def _unit(rows_BD: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(rows_BD, axis=1, keepdims=True)
    return np.asarray(rows_BD / np.maximum(norm, 1e-12))


def _retrieval(tested: Outcomes) -> dict[str, Score]:
    return _of_ranks(*ranks(tested))


def _of_ranks(found: NDArray[np.int64], n_candidates: int) -> dict[str, Score]:
    note = f"among {n_candidates} unseen stimuli"
    mean_rank = Score(float(np.mean(found)) / (n_candidates - 1), note) if n_candidates > 1 else Score(None, note)
    return {
        "top1": Score(float(np.mean(found < 1)), note),
        "top5": Score(float(np.mean(found < 5)), note),
        "mean_rank": mean_rank,
    }


def _encoding(tested: Outcomes) -> dict[str, Score]:
    """Correlate predicted with mean measured responses over the stimuli, and state how well anything could do.

    A prediction that is the same for all stimuli has a correlation of 0.
    """
    names = np.unique(tested.stimuli)
    if len(names) < 3:
        missing = Score(None, f"{len(names)} stimuli; a correlation needs 3")
        return dict.fromkeys(OF_KIND["encoding"], missing)
    measured = np.stack([tested.truth[tested.stimuli == k].mean(axis=0) for k in names])
    predicted = np.stack([tested.predicted[tested.stimuli == k].mean(axis=0) for k in names])
    varies = measured.std(axis=0) > 0
    if not varies.any():
        return dict.fromkeys(OF_KIND["encoding"], Score(None, "the responses do not vary"))
    a, b = (x[:, varies] - x[:, varies].mean(axis=0) for x in (measured, predicted))
    # a mean of equal values differs from them by rounding
    b[:, b.std(axis=0) <= 1e-9 * np.abs(predicted).max()] = 0.0
    correlations = normalised_product((a * b).sum(axis=0), (a**2).sum(axis=0), (b**2).sum(axis=0))
    correlation = float(np.mean(correlations))
    ceiling = noise_ceiling(tested.truth[:, varies], tested.stimuli)
    if ceiling.value is None:
        share = Score(None, ceiling.note)
    elif ceiling.value < 0.05:
        share = Score(None, "the noise ceiling is below 0.05: the responses do not repeat")
    else:
        share = Score(correlation / ceiling.value)
    return {"correlation": Score(correlation), "noise_ceiling": ceiling, "share_of_ceiling": share}


def noise_ceiling(responses_BD: NDArray[np.float64], stimuli: NDArray[np.int64]) -> Score:
    """Estimate the largest correlation that any model can reach with the mean responses, averaged over outputs.

    It is the square root of the reliability of the mean response, (MSB - MSW) / MSB of a one-way analysis of variance
    with stimuli as groups.

    Parameters
    ----------
    responses_BD : float64, shape (windows, outputs)
        Responses in any unit.
    stimuli : int64, shape (windows,)
        Stimulus index of every window.

    References
    ----------
    Shrout and Fleiss, Psychological Bulletin 86:420-428, 1979, ICC(1, k).
    """
    names, owner = np.unique(stimuli, return_inverse=True)
    counts = np.bincount(owner)
    if len(names) < 2 or counts.max() < 2:
        return Score(None, "no stimulus is repeated")
    means = np.stack([responses_BD[owner == k].mean(axis=0) for k in range(len(names))])
    between = (counts[:, None] * (means - responses_BD.mean(axis=0)) ** 2).sum(axis=0) / (len(names) - 1)
    within = ((responses_BD - means[owner]) ** 2).sum(axis=0) / max(len(responses_BD) - len(names), 1)
    reliability = np.clip((between - within) / np.maximum(between, 1e-300), 0.0, 1.0)
    return Score(float(np.mean(np.sqrt(reliability))))


def choice(kind: Kind, metric: str, tested: Outcomes) -> tuple[float, float]:
    """Return a score for the choice of settings on validation windows; larger is better, the second breaks ties."""
    if kind == "regression":
        error = float(np.mean((np.asarray(tested.truth, np.float64) - tested.predicted[:, 0]) ** 2))
        return -error, 0.0
    if kind == "retrieval":
        found, n_candidates = ranks(tested)
        return _signed(metric, _of_ranks(found, n_candidates)), -float(np.mean(found))
    if kind == "encoding":
        return _signed(metric, _encoding(tested)), 0.0
    # only the metric that chooses: the others would take most of the time of a cell
    first = _signed(metric, {metric: one_metric(kind, metric, tested)})
    own = tested.predicted[np.arange(len(tested.truth)), tested.truth]
    return first, float(np.mean(np.log(np.maximum(own, 1e-12))))


def one_metric(kind: Kind, metric: str, tested: Outcomes) -> Score:
    """Compute a single metric of a task with classes or a target, without the others of its kind."""
    if kind == "regression":
        return _regression(tested, [metric])[metric]
    return score(tested.truth, tested.predicted, [metric])[metric]


def _signed(metric: str, scores: dict[str, Score]) -> float:
    """Return the value of a metric such that larger is better; minus infinity where it is not defined."""
    value = scores[metric].value
    if value is None:
        return -np.inf
    return -value if metric in LOWER_IS_BETTER else value


_MEASURES: dict[Kind, Callable[[Outcomes], dict[str, Score]]] = {
    "classification": _classification,
    "diagnosis": _classification,
    "regression": _regression,
    "retrieval": _retrieval,
    "encoding": _encoding,
}
