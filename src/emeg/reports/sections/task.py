"""Section on the task: models compared, folds, confusion."""

from typing import Any

import numpy as np

from emeg.evaluation.comparisons import Gate, gates, model_interval
from emeg.evaluation.products import EvaluationSummary, MetricSummary, ModelSummary
from emeg.reports.markup import METRIC_TITLES, Picture
from emeg.reports.plots import scores
from emeg.reports.sections.archive import shorten
from emeg.reports.sections.outcomes import confusion_picture
from emeg.reports.sections.shortfalls import shortfalls


def task_section(figures: EvaluationSummary) -> dict[str, Any] | None:
    """Return the task table, plots and folds; None if there is no task."""
    task = figures.task
    if task is None:
        return None
    metrics = [name for name in METRIC_TITLES if any(name in c.metrics for c in figures.models)]
    done = [c for c in figures.models if c.status == "done" and c.metrics]
    folds = [[np.nan if value is None else value for value in c.metrics["balanced_accuracy"].folds] for c in done]
    return {
        "name": task.name,
        "note": _note(figures),
        "metrics": [METRIC_TITLES[name] for name in metrics],
        "gates": [_gate_row(gate) for gate in gates(figures)],
        "shortfalls": shortfalls(figures),
        "rows": [_row(c, metrics) for c in figures.models],
        "remarks": [f"{c.title}: {c.status}, {c.reason}" for c in figures.models if c.status != "done"]
        + ([task.notice] if task.notice else []),
        "scores": Picture(
            scores([c.title for c in done], folds, task.chance, "balanced accuracy (dots: folds)"),
            f"Balanced accuracy of {len(done)} models in every fold; the table above has the same numbers.",
            "Dots: folds; red: their mean; dotted: chance.",
        ),
        "confusions": [
            confusion_picture(c.title, np.array(c.confusion), task.classes)
            for c in done
            if c.confusion and c.name != "chance"
        ],
        "folds": [
            {
                "fold": number + 1,
                "train": shorten(fold.train),
                "validation": shorten(fold.validation),
                "test": shorten(fold.test),
            }
            for number, fold in enumerate(task.folds)
        ],
    }


def _note(figures: EvaluationSummary) -> str:
    task = figures.task
    if task is None:
        return ""
    counts = ", ".join(f"{count} {name}" for name, count in task.windows_per_class.items())
    left_out = "; ".join(f"{count} windows left out: {reason}" for reason, count in task.left_out.items())
    channels = f" Baselines see {len(task.baseline_channels)} channels." if task.baseline_channels else ""
    return (
        f"{task.n_windows} windows of {task.definition['window_s']:g} s ({counts}),"
        f" {task.n_subjects} held-out subjects; the definition was"
        f" {'inferred from the events' if task.inferred else 'given'}. Every subject is tested once, by models"
        " fitted and tuned on other subjects. Cells: mean ± standard deviation over folds."
        f"{channels}{' ' + left_out if left_out else ''}"
    )


def _gate_row(gate: Gate) -> dict[str, Any]:
    verdict = {True: "passed", False: "not passed", None: "not decided"}[gate.passed]
    return {
        "question": gate.question,
        "difference": gate.reason if gate.difference is None else str(gate.difference),
        "subjects": "–" if gate.difference is None else gate.difference.n_subjects,
        "verdict": verdict,
        "passed": gate.passed is True,
    }


def _row(model: ModelSummary, metrics: list[str]) -> dict[str, Any]:
    accuracy = model.metrics.get("balanced_accuracy")
    over_subjects = model_interval(model)
    return {
        "interval": "–" if over_subjects is None else str(over_subjects),
        "name": model.title,
        "ours": model.weights == "pretrained",
        "cells": [_cell(model.metrics.get(name)) for name in metrics],
        "folds": "" if accuracy is None else " ".join("–" if v is None else f"{v:.2f}" for v in accuracy.folds),
    }


def _cell(metric: MetricSummary | None) -> str:
    if metric is None or metric.mean is None:
        return "–"
    spread = "" if metric.sd is None else f" ± {metric.sd:.2f}"
    return f"{metric.mean:.2f}{spread}"
