"""Page on evaluations over tasks: one evaluation, or several that are compared."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emeg.evaluation.protocol.products import GridSummary, GridTask
from emeg.plugins import title_of, title_of_model
from emeg.progress import Progress, silent
from emeg.reports.lineage import metrics_over_steps
from emeg.reports.markup import Cell, Column, Figure, Picture, Row, Table, metric_title, sentence, words
from emeg.reports.plots import scores
from emeg.reports.sections.by_task import tables_by_task
from emeg.reports.sections.comparison import (
    Shown,
    budgets_picture,
    chance_of,
    check_comparable,
    forest_picture,
    fullest,
    gate_figures,
    gates_passed,
    gates_table,
    score_figures,
    scores_table,
    short_name,
    unique,
)
from emeg.reports.sections.evaluated import Evaluated
from emeg.reports.sections.networks import training_pictures
from emeg.reports.sections.outcomes import outcomes_of
from emeg.reports.sections.probed import probes_of
from emeg.reports.sections.signals import signals_of
from emeg.store import Store, model_config

NO_CHECKS = "This evaluation holds no leak checks (checks.json): an older version made it; run `emeg evaluate --tasks" \
    " …` again to have them."  # fmt: skip


class Page(NamedTuple):
    """Values of a page, and its numbers."""

    context: dict[str, Any]
    figures: list[Figure]


def grid_page(store: Store, evaluations: Sequence[Evaluated], progress: Progress = silent) -> Page:
    """Return all values that the template ``grid.html.j2`` needs, and all numbers of the page.

    Parameters
    ----------
    store : Store
        Holds the recordings, for spectra and topographies, and the networks, for training curves.
    evaluations : sequence of Evaluated
        One evaluation, or several to compare.
    progress : Progress

    Raises
    ------
    UserError
        One task has different definitions or splits in two evaluations, so that its figures do not compare.
    """
    grids = {one.name: one.summary for one in evaluations}
    check_comparable(grids)
    shown = unique(Shown(name, score) for name, grid in grids.items() for score in grid.scores)
    tasks = {task.id: task for grid in grids.values() for task in grid.tasks}
    sections = []
    figures = [*gate_figures(grids), *score_figures(shown)]
    for number, task in enumerate(tasks.values()):
        progress(number, len(tasks), f"drawing {task.id}")
        section, own = _task(store, task, evaluations, shown)
        sections.append(section)
        figures += own
    caption = "Every model on every task, with all labels or the largest number of examples"
    training, missing = _training(store, grids)
    networks = _networks(store, grids)
    context = {
        "title": _title(grids, tasks),
        "subtitle": _subtitle(grids, networks, shown),
        "notes": _notes(grids),
        "tiles": _tiles(grids, tasks, evaluations),
        "gates": gates_table(grids),
        "checks": _checks(evaluations),
        "checks_missing": [f"{one.name}: {NO_CHECKS}" for one in evaluations if one.checks is None],
        "forest": forest_picture(shown, tasks),
        "by_task": tables_by_task(grids, shown, tasks, networks),
        "scores": scores_table(fullest(shown), caption, with_task=True, with_evaluation=len(grids) > 1),
        "tasks": sections,
        "training": training,
        "training_missing": missing,
        "not_run": _not_run(grids),
        "provenance": json.dumps(
            {name: grid.provenance for name, grid in grids.items()}, indent=1, ensure_ascii=False, sort_keys=True
        ),
    }
    return Page(context, figures)


def _title(grids: Mapping[str, GridSummary], tasks: Mapping[str, GridTask]) -> str:
    if len(grids) > 1:
        return f"Comparison of {len(grids)} evaluations on {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}"
    titles = [task.title for task in tasks.values()]
    return titles[0] if len(titles) == 1 else f"Evaluation on {len(titles)} tasks"


def _notes(grids: Mapping[str, GridSummary]) -> list[str]:
    """Return what restricts the evaluations, each text once with the evaluations that it holds for."""
    found: dict[str, list[str]] = {}
    for name, grid in grids.items():
        for note in grid.provenance.get("notes", ()):
            found.setdefault(note, []).append(short_name(name))
    if len(grids) == 1:
        return [f"{sentence(note)}." for note in found]
    return [
        f"{sentence(note)} ({'all evaluations' if len(names) == len(grids) else ', '.join(names)})."
        for note, names in found.items()
    ]


def _networks(store: Store, grids: Mapping[str, GridSummary]) -> dict[str, str]:
    """Return the kind of each network that is still in the store, for readers."""
    models = dict.fromkeys(str(grid.provenance.get("model") or "") for grid in grids.values())
    return {name: _kind_of(store, name) for name in models if name and store.has("models", name)}


def _subtitle(grids: Mapping[str, GridSummary], networks: Mapping[str, str], shown: Sequence[Shown]) -> str:
    n_subjects = len({name for one in shown for name in one.score.subjects})
    seeds = [f"{n} seed{'' if n == 1 else 's'}" for n in sorted({len(grid.seeds) for grid in grids.values()})]
    modes = sorted({grid.split_mode for grid in grids.values()})
    versions = sorted({grid.version for grid in grids.values()})
    named = [f"{short_name(name)} ({kind})" for name, kind in networks.items()]
    parts = [
        f"{n_subjects} subjects, {' or '.join(seeds)}, split mode {' and '.join(map(words, modes))}",
        f"{'network' if len(named) == 1 else 'networks'} {', '.join(named)}" if named else "",
        f"{'evaluation' if len(grids) == 1 else 'evaluations'} {', '.join(grids)}",
        f"emeg {', '.join(versions)}",
    ]
    return "; ".join(filter(None, parts))


def _kind_of(store: Store, model: str) -> str:
    """Return the kind of an encoder for readers, its tokens if it has a choice, and a tokenizer of another kind."""
    card = model_config(store, model)
    token, tokenizer = card.get("config", {}).get("token", ""), card.get("tokenizer_kind")
    parts = [
        title_of_model(card),
        f"tokens of a {token}" if token else "",
        title_of("tokenizer", str(tokenizer)) if tokenizer else "",
    ]
    return ", ".join(filter(None, parts))


def _tiles(
    grids: Mapping[str, GridSummary], tasks: Mapping[str, GridTask], evaluations: Sequence[Evaluated]
) -> list[tuple[str, str]]:
    tiles = [(str(len(tasks)), "task" if len(tasks) == 1 else "tasks"), *gates_passed(grids)]
    checks = [check for one in evaluations for check in one.checks or ()]
    if checks:
        tiles.append((f"{sum(check['passed'] for check in checks)} of {len(checks)}", "leak checks passed"))
    return tiles


def _checks(evaluations: Sequence[Evaluated]) -> Table:
    """Return a row for each check: in how many tasks it passed, and what was found in the others."""
    by_title: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for one in evaluations:
        for check in one.checks or ():
            by_title.setdefault(check["title"], []).append((one.name, check))
    rows = []
    for title, own in by_title.items():
        failed = [check for _, check in own if not check["passed"]]
        found = "; ".join(f"{check.get('task', '')}: {', '.join(check['found'])}" for check in failed)
        stops = any(check["stops"] for check in failed)
        verdict = f"{len(own) - len(failed)} of {len(own)}"
        remark = f"{found} (accepted by the task)" if stops else found
        rows.append(Row((Cell(title), Cell(verdict), Cell(remark or "nothing", warn=bool(failed)))))
    columns = (Column("what must hold"), Column("passed", is_number=True), Column("found"))
    return Table("Leak checks, run before the first fit; one for each task", columns, tuple(rows))


def _task(
    store: Store, task: GridTask, evaluations: Sequence[Evaluated], shown: Sequence[Shown]
) -> tuple[dict[str, Any], list[Figure]]:
    """Return the section of one task, and its numbers."""
    own = [one for one in shown if one.score.task == task.id]
    holders = [one for one in evaluations if any(each.id == task.id for each in one.summary.tasks)]
    outcomes = outcomes_of(task, shown, {one.name: one.predictions for one in evaluations})
    first = holders[0]
    signals = signals_of(store, task, first.name, first.predictions)
    probes = [(one, probes_of(task, one.name, one.probes)) for one in holders]
    figures = [*outcomes.figures, *signals.figures, *(figure for _, found in probes for figure in found.figures)]
    budgets = budgets_picture(shown, task)
    section = {
        "id": f"task-{task.id}",
        "name": task.id,
        "title": task.title,
        "note": _note(task),
        "notices": task.notices,
        "published": ", ".join(f"{name} {value}" for name, value in task.published.items()),
        "scores": scores_table(
            own,
            f"Models on {task.id}, {metric_title(task.metric)}",
            with_task=False,
            with_evaluation=len(evaluations) > 1,
        ),
        "pictures": [one for one in (_subjects(task, own), budgets) if one is not None],
        "outcomes": outcomes,
        "signals": signals,
        "probes": [
            {"title": f"What the features hold{f' ({one.name})' if len(holders) > 1 else ''}", "found": found}
            for one, found in probes
        ],
    }
    return section, figures


def _note(task: GridTask) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in list(task.windows_per_class.items())[:8])
    metric = metric_title(task.metric)
    seen = f" {task.n_seen} subjects that the network was trained on are left out." if task.n_seen else ""
    left_out = "; ".join(f"{count} windows left out: {reason}" for reason, count in task.left_out.items())
    return (
        f"{task.n_windows} windows{f' ({counts})' if counts else ''} of {task.n_subjects} subjects,"
        f" {task.n_recordings} recordings, devices {', '.join(task.devices)}; {task.kind}, split rule"
        f" {words(task.split_rule)}, {task.n_folds} folds; metric {metric}.{seen}{f' {left_out}.' if left_out else ''}"
    )


def _chance_of_subjects(drawn: Sequence[Shown], task: GridTask) -> float | None:
    """Return what chance reaches in the metric of single subjects; None if that is not known."""
    if drawn[0].score.subject_metric == task.metric:
        return chance_of(drawn, task)
    of_chance = next((one.score.subjects for one in drawn if one.score.key.model == "chance"), {})
    values = [value for value in of_chance.values() if value is not None]
    return float(np.mean(values)) if values else None


def _subjects(task: GridTask, own: Sequence[Shown]) -> Picture | None:
    """Draw the metric of every subject for all models with all labels."""
    drawn = [one for one in fullest(own) if any(value is not None for value in one.score.subjects.values())]
    if not drawn:
        return None
    metric = metric_title(drawn[0].score.subject_metric)
    values = [[np.nan if value is None else value for value in one.score.subjects.values()] for one in drawn]
    chance = _chance_of_subjects(drawn, task)
    svg = scores([one.name for one in drawn], values, chance, f"{metric} (dots: subjects)")
    on = f"{len(drawn)} models on {task.id}"
    alt = f"{sentence(metric)} of every subject for {on}; the table above has means and intervals."
    return Picture(svg, alt, f"Dots: subjects; red: their mean{'' if chance is None else '; dotted: chance'}.")


def _training(store: Store, grids: Mapping[str, GridSummary]) -> tuple[list[dict[str, Any]], str]:
    """Return the training curves of every network and its tokenizer, and what is missing."""
    stages = []
    missing = []
    for model in dict.fromkeys(str(grid.provenance.get("model") or "") for grid in grids.values()):
        if not model:
            missing.append("no network was evaluated")
            continue
        if not store.has("models", model):
            missing.append(f"model {model} is no longer in the store")
            continue
        tokenizer = str((model_config(store, model).get("provenance") or {}).get("tokenizer") or "")
        drawn = []
        for stage, name in (("tokenizer", tokenizer), ("model", model)):
            if (table := metrics_over_steps(store, name)) is not None:
                title = f"{title_of_model(model_config(store, name))} {short_name(name)}"
                drawn.append({"title": title, "pictures": training_pictures(stage, table, title)})
        if not drawn:
            missing.append(f"model {model} keeps no metrics over steps: it was imported or not trained here")
        stages += drawn
    return stages, f"Not drawn: {'; '.join(missing)}." if missing else ""


def _not_run(grids: Mapping[str, GridSummary]) -> list[str]:
    tasks = {f"{task} did not run: {reason}" for grid in grids.values() for task, reason in grid.tasks_not_run.items()}
    models = {
        f"{task}, {model} did not run: {reason}"
        for grid in grids.values()
        for task, model, reason in grid.models_not_run
    }
    return sorted(tasks | models)
