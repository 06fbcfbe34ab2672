"""Compare models on several tasks: plan the grid, check it for leaks, compute its cells, publish the evaluation."""

import logging
import time

import numpy as np

from emeg.evaluation.configs import EvaluateConfig, EvaluateResult
from emeg.evaluation.embeddings import embedding_names
from emeg.evaluation.protocol.grid.execution import compute_grid, stop_on_withdrawal
from emeg.evaluation.protocol.grid.planning import Grid, plan_grid
from emeg.evaluation.protocol.grid.publication import publish_grid
from emeg.evaluation.protocol.grid.withdrawals import explained_by_withdrawal, explained_while_planning
from emeg.evaluation.protocol.leak_checks import check_procedure, check_task
from emeg.evaluation.protocol.products import GridScore, GridSummary
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.store.runs import RunNote, note_run

logger = logging.getLogger(__name__)


def evaluate_tasks(config: EvaluateConfig, *, progress: Progress = silent) -> EvaluateResult:
    """Compare models on several tasks, in all seeds and folds, and publish figures over the complete grid.

    Cells are written as they end. A second call after an interruption computes what is missing; several calls at the
    same time share the cells.

    Raises
    ------
    UserError
        No task can run on the store, a name is unknown, or a subject was withdrawn meanwhile.
    """
    store = Store.open(config.root)
    with explained_while_planning(store):
        grid = plan_grid(store, config)
    done_before = store.has("evaluations", grid.name)
    if not done_before:
        began = time.monotonic()
        with explained_by_withdrawal(store, grid.name, lambda: stop_on_withdrawal(store, config, grid)):
            _prepare(store, grid)
            _check(store, grid, progress)
            compute_grid(store, config, grid, progress)
            publish_grid(store, config, grid)
        stop_on_withdrawal(store, config, grid)
        logger.info("evaluation %s: %d cells in %.1f s", grid.name, len(grid.cells), time.monotonic() - began)
    fields = store.read_json("evaluations", grid.name, "figures.json")
    summary = GridSummary.checked(fields, source=f"evaluations/{grid.name}/figures.json")
    return EvaluateResult(
        evaluation=grid.name,
        finetuned="",
        task_missing_reason="; ".join(summary.tasks_not_run.values()),
        metrics={_label(score): score.mean for score in summary.scores if score.mean is not None},
        done_before=done_before,
    )


def _prepare(store: Store, grid: Grid) -> None:
    """Write the list of cells, and what the run is made from: a subject is found in it before it is published."""
    inputs = {} if grid.model is None else {"models": grid.model}
    for data in grid.tasks.values():
        inputs |= {f"recordings/{name}": name for name in np.unique(data.windows.recordings).tolist()}
        for one in grid.compared[data.recipe.id]:
            if one.spec is not None and one.spec.weights == "pretrained":
                inputs |= {f"embeddings/{name}": name for name in embedding_names(data.windows, one.spec)}
    note_run(store, grid.name, RunNote(inputs=inputs))
    if not store.exists("runs", grid.name, "cells.json"):
        store.write_json(list(grid.cells), "runs", grid.name, "cells.json")


def _check(store: Store, grid: Grid, progress: Progress) -> None:
    """Run the leak checks of every task before the first cell, unless an earlier call did.

    Raises
    ------
    UserError
        A check failed.
    """
    if store.exists("runs", grid.name, "checks.json"):
        return
    checks = []
    for name, data in grid.tasks.items():
        with_signal = any(one.rival.input == "signal" for one in grid.compared[name])
        checks += check_task(store, data, grid.model, with_signal=with_signal, progress=progress)
        checks += check_procedure(data, grid.compared[name])
    store.write_json(checks, "runs", grid.name, "checks.json")


def _label(score: GridScore) -> str:
    key = score.key
    shots = "" if key.examples_per_class is None else f"{key.examples_per_class} examples"
    permuted = "" if key.labels == "real" else key.labels
    model = key.weights or key.model
    mode = "" if key.mode == "frozen" else key.mode
    return "/".join(filter(None, (score.task, model, mode, key.read_out, permuted, key.condition, shots, score.metric)))
