"""Compare models on the same held-out subjects: bootstrap intervals over subjects, and the gates of the report.

Subjects, not windows, are resampled: windows of one subject are not independent.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.products import EvaluationSummary, ModelSummary

LEVEL = 0.95
"""Confidence level of all intervals."""
N_RESAMPLES = 9999
"""Bootstrap resamples of an interval."""
N_RESAMPLES_OF_METRIC = 1999
"""Resamples of a metric that is computed anew for each; its 2.5 % points vary by less than a hundredth."""
MIN_SUBJECTS = 5
"""Fewest subjects for an interval; with fewer, the percentiles of the bootstrap mean little."""
CLASSICAL = ("band_power", "tangent_space")
"""Baselines that use the signal, among which the best is the rival of the second gate."""


class Interval(NamedTuple):
    """Mean over subjects with its bootstrap interval."""

    mean: float
    low: float
    high: float
    n_subjects: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Gate(NamedTuple):
    """A condition that a reviewer would require, and whether the evaluation meets it."""

    question: str
    difference: Interval | None
    """Balanced accuracy of the pretrained model minus that of its rival, paired by subject; None if not computed."""
    passed: bool | None
    """Whether the interval lies above 0; None if it could not be computed."""
    reason: str = ""
    """Why it could not be computed."""


def interval(values: Sequence[float]) -> Interval | None:
    """Return the mean of one value per subject with its percentile bootstrap interval; None for too few subjects."""
    from scipy.stats import bootstrap

    data = np.asarray(values, np.float64)
    if len(data) < MIN_SUBJECTS:
        return None
    found = bootstrap(
        (data,),
        np.mean,
        n_resamples=N_RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(data.mean()), float(found.low), float(found.high), len(data))


def metric_interval(
    measure: Callable[[NDArray[np.intp]], float | None], groups: NDArray[Any]
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a metric that has one value for all subjects together.

    Subjects are resampled within their groups, so that every resample has the classes of the data. Resamples in which
    the metric is not defined are left out.

    Parameters
    ----------
    measure : callable
        Function of the indices of the resampled subjects; returns the metric, or None where it is not defined.
    groups : any dtype, shape (subjects,)
        Class index of every subject; equal values if subjects have no classes.

    Returns
    -------
    tuple of float, or None
        Lower and upper end; None for fewer than `MIN_SUBJECTS`, or if fewer than half of the resamples have a value.
    """
    if len(groups) < MIN_SUBJECTS:
        return None
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(groups == value) for value in np.unique(groups)]
    found = []
    for _ in range(N_RESAMPLES_OF_METRIC):
        value = measure(np.concatenate([generator.choice(own, len(own)) for own in members]))
        if value is not None:
            found.append(value)
    if 2 * len(found) < N_RESAMPLES_OF_METRIC:
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of paired differences, one per subject, under random flips of their signs.

    All flips are used where there are at most `N_RESAMPLES` of them.
    """
    from scipy.stats import permutation_test

    data = np.asarray(differences, np.float64)
    if not data.any():
        return 1.0
    found = permutation_test(
        (data,), np.mean, permutation_type="samples", n_resamples=N_RESAMPLES, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several tests by Holm's step-down method, in the order given.

    References
    ----------
    Holm, Scandinavian Journal of Statistics 6(2):65-70, 1979.
    """
    n = len(p_values)
    corrected = [0.0] * n
    largest = 0.0
    for rank, number in enumerate(sorted(range(n), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (n - rank) * p_values[number]))
        corrected[number] = largest
    return corrected


def model_interval(model: ModelSummary) -> Interval | None:
    """Return the balanced accuracy of a model, averaged over subjects, with its interval."""
    return interval([value for value in model.subjects.values() if value is not None])


def paired_interval(model: ModelSummary, rival: ModelSummary) -> Interval | None:
    """Return the difference of balanced accuracy between two models, paired by subject, with its interval."""
    return interval(_differences(model.subjects, rival.subjects))


def gates(summary: EvaluationSummary) -> list[Gate]:
    """Return the gates of every pretrained model: above chance, above random weights, above the best baseline.

    The best baseline is chosen on the test subjects, in favour of the baseline.
    """
    by_name = {model.name: model for model in summary.models if model.subjects}
    found = []
    for mode in ("full", "lora", "probe"):
        model = by_name.get(f"pretrained_{mode}")
        if model is None or summary.task is None:
            continue
        chance = dict.fromkeys(model.subjects, summary.task.chance)
        found.append(_gate(f"{model.title}: above chance", model, chance))
        rival = by_name.get(f"random_{mode}")
        found.append(_gate(f"{model.title}: above random weights", model, rival.subjects if rival else None))
        best = best_baseline(by_name)
        title = f"{model.title}: above the best baseline" + (f" ({best.title})" if best else "")
        found.append(_gate(title, model, best.subjects if best else None))
    return found


def best_baseline(models: Mapping[str, ModelSummary]) -> ModelSummary | None:
    """Return the classical baseline with the highest balanced accuracy, averaged over subjects."""
    scored = [
        (float(np.mean(values)), models[name])
        for name in CLASSICAL
        if name in models and (values := [value for value in models[name].subjects.values() if value is not None])
    ]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def _gate(question: str, model: ModelSummary, rival: Mapping[str, float | None] | None) -> Gate:
    if rival is None:
        return Gate(question, None, None, "the rival was not evaluated")
    differences = _differences(model.subjects, rival)
    found = interval(differences)
    if found is None:
        return Gate(question, None, None, f"{len(differences)} subjects are fewer than {MIN_SUBJECTS}")
    return Gate(question, found, found.low > 0)


def _differences(own: Mapping[str, float | None], rival: Mapping[str, float | None]) -> list[float]:
    pairs = [(own[subject], rival[subject]) for subject in sorted(own.keys() & rival.keys())]
    return [a - b for a, b in pairs if a is not None and b is not None]
