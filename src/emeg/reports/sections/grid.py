"""Page on an evaluation over many tasks: gates first, then each task with its models."""

import json
from typing import Any

import numpy as np

from emeg.evaluation.protocol.products import GridComparison, GridInterval, GridScore, GridSummary, GridTask, ModelKey
from emeg.reports.plots import scores

QUESTIONS = {
    "chance": "above chance",
    "random_weights": "above random weights",
    "permuted_labels": "above permuted labels",
    "best_rival": "above the best rival",
}


def grid_context(summary: GridSummary, name: str) -> dict[str, object]:
    """Return all values that the template ``grid.html.j2`` needs.

    Parameters
    ----------
    summary : GridSummary
    name : str
        Name of the evaluation.
    """
    titles = {(one.task, one.key): one.title for one in summary.scores}
    n_subjects = len({name for one in summary.scores for name in one.subjects})
    return {
        "title": f"{len(summary.tasks)} {'task' if len(summary.tasks) == 1 else 'tasks'}",
        "subtitle": f"{n_subjects} subjects, {len(summary.seeds)} seeds, split mode {summary.split_mode};"
        f" evaluation {name}; emeg {summary.version}",
        "notes": summary.provenance["notes"],
        "gates": [_gate(one, titles) for one in summary.comparisons],
        "tasks": [_task(task, summary) for task in summary.tasks],
        "tasks_not_run": sorted(summary.tasks_not_run.items()),
        "models_not_run": summary.models_not_run,
        "provenance": json.dumps(summary.provenance, indent=1, ensure_ascii=False, sort_keys=True),
    }


def _gate(one: GridComparison, titles: dict[tuple[str, ModelKey], str]) -> dict[str, Any]:
    rival = titles[one.task, one.rival]
    question = QUESTIONS[one.question] + (f" ({rival})" if one.question == "best_rival" else "")
    verdict = {True: "passed", False: "not passed", None: "not decided: fewer than 5 subjects"}[one.passed]
    return {
        "task": one.task,
        "model": _with_condition(titles[one.task, one.key], one.key),
        "question": question,
        "difference": _interval(one.difference),
        "subjects": "–" if one.difference is None else one.difference.n_subjects,
        "p": "–" if one.p_corrected is None else f"{one.p_corrected:.3f}",
        "verdict": verdict,
        "passed": one.passed is True,
    }


def _task(task: GridTask, summary: GridSummary) -> dict[str, Any]:
    own = [one for one in summary.scores if one.task == task.id]
    with_subjects = [one for one in own if any(value is not None for value in one.subjects.values())]
    counts = ", ".join(f"{count} {name}" for name, count in list(task.windows_per_class.items())[:8])
    left_out = "; ".join(f"{count} windows left out: {reason}" for reason, count in task.left_out.items())
    seen = f" {task.n_seen} subjects that the network was trained on are left out." if task.n_seen else ""
    chance = next((one.mean for one in own if one.key.model == "chance" and one.mean is not None), 0.0)
    return {
        "id": task.id,
        "title": task.title,
        "note": f"{task.n_windows} windows{f' ({counts})' if counts else ''} of {task.n_subjects} subjects,"
        f" {task.n_recordings} recordings; {task.kind}, {task.split_rule}, {task.n_folds} folds.{seen} {left_out}",
        "notices": task.notices,
        "metric": task.metric,
        "rows": [_row(one) for one in own],
        "published": ", ".join(f"{name} {value}" for name, value in task.published.items()),
        "plot": scores(
            [_with_condition(one.title, one.key) for one in with_subjects],
            [[np.nan if value is None else value for value in one.subjects.values()] for one in with_subjects],
            chance,
            f"{with_subjects[0].subject_metric} (dots: subjects)",
        )
        if with_subjects
        else "",
    }


def _row(one: GridScore) -> dict[str, Any]:
    spread = "" if one.sd is None else f" ± {one.sd:.3f}"
    return {
        "title": _with_condition(one.title, one.key),
        "ours": one.key.weights == "pretrained" and one.key.labels == "real",
        "mean": "–" if one.mean is None else f"{one.mean:.3f}{spread}",
        "runs": one.n_runs,
        "interval": _interval(one.interval),
        "subject_metric": one.subject_metric,
        "subjects": sum(value is not None for value in one.subjects.values()),
        "by_subject": "–" if one.by_subject is None else f"{one.by_subject:.3f}",
    }


def _with_condition(title: str, key: ModelKey) -> str:
    parts = [key.condition, "" if key.examples_per_class is None else f"{key.examples_per_class} examples a class"]
    return ", ".join(filter(None, [title, *parts]))


def _interval(found: GridInterval | None) -> str:
    return "–" if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
