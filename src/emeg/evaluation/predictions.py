"""Turn the probabilities of every fold into rows of predictions and a summary of metrics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.metrics import METRICS, Score, confusion, mean_and_sd, score
from emeg.evaluation.products import MetricSummary, ModelSummary
from emeg.evaluation.task import Task
from emeg.metrics import BALANCED_ACCURACY

NETWORKS = {
    "pretrained_full": ("Pretrained, fine-tuned", "pretrained", "full"),
    "pretrained_lora": ("Pretrained, LoRA", "pretrained", "lora"),
    "pretrained_probe": ("Pretrained, linear probe", "pretrained", "probe"),
    "random_full": ("Random weights, fine-tuned", "random", "full"),
    "random_lora": ("Random weights, LoRA", "random", "lora"),
    "random_probe": ("Random weights, linear probe", "random", "probe"),
}
"""Title, weights and mode of the networks, in the order of tables."""


class Outcome(NamedTuple):
    """Predictions of one model for one fold."""

    probabilities: NDArray[np.float64]
    """(test windows, classes), in the order of ``TaskWindows.of(fold.test)``."""
    setting: dict[str, Any]
    """Setting chosen on validation."""


def network_name(weights: str, mode: str) -> str:
    """Return the name of a network among the models compared, such as ``pretrained_full``."""
    return f"{weights}_{mode}"


def predictions(task: Task, name: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return rows of `emeg.evaluation.products.PREDICTIONS`, one per fold and test window."""
    _, weights, mode = NETWORKS.get(name, ("", "", ""))
    windows = task.windows
    return [
        {
            "model": name,
            "weights": weights,
            "mode": mode,
            "fold": fold,
            "subject": str(windows.subjects[i]),
            "recording": str(windows.recordings[i]),
            "start": int(windows.starts[i]),
            "window": int(i),
            "label": int(windows.labels[i]),
            "probabilities": row.tolist(),
        }
        for fold, outcome in enumerate(outcomes)
        for i, row in zip(windows.of(task.folds[fold].test), outcome.probabilities, strict=True)
    ]


def summarise_model(task: Task, name: str, outcomes: Sequence[Outcome], *, title: str = "") -> ModelSummary:
    """Compute the metrics of a model for every fold, all folds pooled, and every subject."""
    known, weights, mode = NETWORKS.get(name, (title, "", ""))
    tests = [task.windows.of(fold.test) for fold in task.folds]
    labels = [task.windows.labels[rows] for rows in tests]
    scores = [score(y, o.probabilities) for y, o in zip(labels, outcomes, strict=True)]
    everything = np.concatenate(tests)
    probabilities = np.concatenate([outcome.probabilities for outcome in outcomes])
    pooled = score(task.windows.labels[everything], probabilities)
    subjects = task.windows.subjects[everything]
    return ModelSummary(
        name=name,
        title=title or known,
        weights=weights,
        mode=mode,
        metrics={metric: _metric([s[metric] for s in scores], pooled[metric]) for metric in METRICS},
        confusion=tuple(tuple(row) for row in confusion(task.windows.labels[everything], probabilities).tolist()),
        subjects={
            str(subject): score(labels_of, probabilities[own], [BALANCED_ACCURACY])[BALANCED_ACCURACY].value
            for subject in np.unique(subjects)
            for own in [subjects == subject]
            for labels_of in [task.windows.labels[everything[own]]]
        },
        settings=tuple(outcome.setting for outcome in outcomes),
    )


def _metric(folds: list[Score], pooled: Score) -> MetricSummary:
    mean, sd = mean_and_sd(folds)
    notes = [f"fold {k + 1}: {s.note}" for k, s in enumerate(folds) if s.note]
    notes += [f"pooled: {pooled.note}"] if pooled.note else []
    return MetricSummary(
        mean=mean.value, sd=sd.value, folds=tuple(s.value for s in folds), pooled=pooled.value, notes=tuple(notes)
    )
