"""Page that compares evaluations over tasks: gates, a forest plot, a table with intervals, and label budgets."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from emeg.errors import UserError
from emeg.evaluation.protocol.products import GridScore, GridSummary, GridTask
from emeg.reports.grid_plots import Estimate, budgets, forest

RIVALS_SHOWN = 4
"""Rivals drawn beside networks: those with the best mean over tasks."""


class Shown(NamedTuple):
    """A score with the evaluation that it comes from."""

    evaluation: str
    score: GridScore

    @property
    def name(self) -> str:
        """Name of the compared model; networks name their product, because two may have one title."""
        key = self.score.key
        parts = [self.score.title, key.condition, "permuted labels" if key.labels == "permuted" else ""]
        text = ", ".join(filter(None, parts))
        return f"{text} ({key.model[:8]})" if key.weights else text


def comparison_context(grids: Mapping[str, GridSummary]) -> dict[str, Any]:
    """Return all values that the template ``compare.html.j2`` needs.

    Parameters
    ----------
    grids : mapping of str to GridSummary
        Evaluations by name.

    Raises
    ------
    UserError
        One task has different definitions or splits in two evaluations, so that its figures do not compare.
    """
    check_comparable(grids)
    shown = list(unique(Shown(name, score) for name, grid in grids.items() for score in grid.scores))
    full = [one for one in shown if one.score.key.examples_per_class is None]
    tasks = {task.id: task for grid in grids.values() for task in grid.tasks}
    n_seeds = sorted({len(grid.seeds) for grid in grids.values()})
    return {
        "title": f"Comparison of {len(grids)} evaluations",
        "subtitle": f"{len(tasks)} tasks, {', '.join(map(str, n_seeds))} seeds; evaluations {', '.join(grids)}",
        "gates": [_gate(name, grid, i) for name, grid in grids.items() for i in range(len(grid.comparisons))],
        "forest": _forest(full, tasks),
        "rows": [_row(one, tasks[one.score.task]) for one in full],
        "budgets": [
            {"title": task.title, "plot": plot}
            for task in tasks.values()
            if (plot := _budgets(shown, task)) is not None
        ],
        "not_run": sorted(
            {f"{task}: {reason}" for grid in grids.values() for task, reason in grid.tasks_not_run.items()}
            | {f"{task}, {model}: {reason}" for grid in grids.values() for task, model, reason in grid.models_not_run}
        ),
        "provenance": json.dumps(
            {name: grid.provenance for name, grid in grids.items()}, indent=1, ensure_ascii=False, sort_keys=True
        ),
    }


def check_comparable(grids: Mapping[str, GridSummary]) -> None:
    """Check that every task has the same definition and the same splits wherever it occurs.

    Raises
    ------
    UserError
        Names the task and both evaluations.
    """
    first: dict[str, tuple[str, GridTask, tuple[int, ...]]] = {}
    for name, grid in grids.items():
        for task in grid.tasks:
            earlier, own, seeds = first.setdefault(task.id, (name, task, grid.seeds))
            differing = [
                what
                for what, a, b in (
                    ("definition", own.definition, task.definition),
                    ("splits", own.splits, task.splits),
                    ("seeds", seeds, grid.seeds),
                )
                if a != b
            ]
            if differing:
                raise UserError(
                    f"task {task.id}: evaluations {earlier} and {name} have other {' and '.join(differing)}, so that"
                    " their figures do not compare; run `emeg evaluate` for one of them with the settings of the other"
                )


def unique(shown: Iterable[Shown]) -> list[Shown]:
    """Return each task and model once: rivals are the same in all evaluations of equal splits."""
    found: dict[tuple[str, str], Shown] = {}
    for one in shown:
        found.setdefault((one.score.task, one.score.key.model_dump_json()), one)
    return list(found.values())


def _gate(name: str, grid: GridSummary, index: int) -> dict[str, Any]:
    one = grid.comparisons[index]
    titles = {(score.task, score.key): Shown(name, score).name for score in grid.scores}
    verdict = {True: "passed", False: "not passed", None: "not decided"}[one.passed]
    return {
        "task": one.task,
        "model": titles[one.task, one.key],
        "question": f"{one.question.replace('_', ' ')}: {titles[one.task, one.rival]}",
        "difference": "–" if one.difference is None else f"{one.difference.mean:+.3f}",
        "interval": "–" if one.difference is None else f"[{one.difference.low:+.3f}, {one.difference.high:+.3f}]",
        "subjects": "–" if one.difference is None else one.difference.n_subjects,
        "p": "–" if one.p_corrected is None else f"{one.p_corrected:.3f}",
        "verdict": verdict,
        "passed": one.passed is True,
    }


def _estimate(score: GridScore) -> Estimate | None:
    if score.interval is not None:
        return Estimate(score.interval.mean, score.interval.low, score.interval.high)
    return None if score.mean is None else Estimate(score.mean, None, None)


def _forest(full: Sequence[Shown], tasks: Mapping[str, GridTask]) -> str:
    """Draw the tasks with classes, whose metrics share one axis."""
    drawn = [name for name, task in tasks.items() if task.kind in {"classification", "diagnosis"}]
    by_name: dict[str, dict[str, Estimate | None]] = {}
    for one in full:
        if one.score.task in drawn and one.score.key.model != "chance":
            by_name.setdefault(one.name, {})[one.score.task] = _estimate(one.score)
    networks = {one.name for one in full if one.score.key.weights}
    rivals = sorted(
        (name for name in by_name if name not in networks),
        key=lambda name: -_mean([e.mean for e in by_name[name].values() if e is not None]),
    )
    names = [name for name in by_name if name in networks] + rivals[:RIVALS_SHOWN]
    if not drawn or not names:
        return ""
    series = {name: [by_name[name].get(task) for task in drawn] for name in names}
    chance = {one.score.task: one.score.mean or 0.0 for one in full if one.score.key.model == "chance"}
    zero = [chance.get(task, 1.0 / max(len(tasks[task].classes), 1)) for task in drawn]
    return forest(drawn, series, zero, "metric of subjects: mean and 95 % interval over subjects; dotted: chance")


def _budgets(shown: Sequence[Shown], task: GridTask) -> str | None:
    own = [one for one in shown if one.score.task == task.id and one.score.key.examples_per_class is not None]
    examples = sorted({one.score.key.examples_per_class or 0 for one in own})
    if len(examples) < 2:
        return None
    by_name: dict[str, dict[int, Estimate | None]] = {}
    for one in own:
        by_name.setdefault(one.name, {})[one.score.key.examples_per_class or 0] = _estimate(one.score)
    series = {name: [values.get(n) for n in examples] for name, values in by_name.items()}
    return budgets(examples, series, 1.0 / max(len(task.classes), 1), task.metric)


def _row(one: Shown, task: GridTask) -> dict[str, Any]:
    score, interval = one.score, one.score.interval
    return {
        "task": task.id,
        "model": one.name,
        "evaluation": one.evaluation,
        "ours": score.key.weights == "pretrained" and score.key.labels == "real",
        "metric": score.metric,
        "mean": "–" if score.mean is None else f"{score.mean:.3f}",
        "runs": score.n_runs,
        "subjects_mean": "–" if interval is None else f"{interval.mean:.3f}",
        "interval": "–" if interval is None else f"[{interval.low:.3f}, {interval.high:.3f}]",
        "subjects": sum(value is not None for value in score.subjects.values()),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("-inf")
