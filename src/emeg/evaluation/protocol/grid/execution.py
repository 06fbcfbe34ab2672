"""Compute the cells and probes of a grid, in this process or in several, beside other calls that share the grid."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from emeg.errors import TransientError, UserError
from emeg.evaluation.configs import EvaluateConfig
from emeg.evaluation.embeddings import EmbeddingSpec, embedding_names
from emeg.evaluation.protocol.compute import Compared, compute_cell
from emeg.evaluation.protocol.grid.cells import Cell, missing_cells, work_through
from emeg.evaluation.protocol.grid.planning import Grid, plan_grid
from emeg.evaluation.protocol.grid.withdrawals import stop_if_withdrawn
from emeg.evaluation.protocol.probing import probe_task
from emeg.evaluation.sharing import share_work
from emeg.evaluation.threads import single_blas_thread
from emeg.ingest.workers.processes import end_with_parent
from emeg.progress import Progress, silent
from emeg.store import Store

POLL_S = 1.0
"""Time between two reports of progress while worker processes compute, s."""


def compute_grid(store: Store, config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    """Embed the windows, then compute and probe what is missing in `config.workers` processes."""
    _embed(store, config, grid, progress)
    n_missing = len(missing_cells(store, grid.name, list(grid.cells)))
    n_workers = min(config.workers or os.cpu_count() or 1, n_missing)
    if n_workers < 2:
        compute_here(store, config, grid, progress)
        _probe_missing(store, config, grid, progress)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=end_with_parent) as pool:
        threads = max(1, (os.cpu_count() or 1) // n_workers)
        futures = [pool.submit(_work, config, threads, grid.name) for _ in range(n_workers)]
        while True:
            done, pending = wait(futures, timeout=POLL_S)
            for future in done:
                _raise_failure(config, future)
            n_done = len(grid.cells) - len(missing_cells(store, grid.name, list(grid.cells)))
            progress(n_done, len(grid.cells), "cells")
            if not pending:
                return


def _raise_failure(config: EvaluateConfig, future: "Future[None]") -> None:
    """Raise what ended a worker process.

    Raises
    ------
    TransientError
        It was ended from outside.
    """
    try:
        future.result()
    except BrokenProcessPool as error:
        raise TransientError(
            f"{config.root}: a process of the evaluation was ended from outside (out of memory?); finished cells are"
            " kept: run the same command again, with fewer --workers"
        ) from error


def _embed(store: Store, config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    """Embed the windows of every task with every network once, before any cell is computed."""
    for name, data in grid.tasks.items():
        for spec in _specs(config, grid.compared[name]):
            data.features(spec, config.device, progress)
            stop_on_withdrawal(store, config, grid)


def _specs(config: EvaluateConfig, compared: Sequence[Compared]) -> list[EmbeddingSpec]:
    """Return the networks and poolings whose features the models need, in every seed of random weights."""
    return sorted(
        {
            one.spec._replace(seed=seed)
            for one in compared
            if one.spec is not None
            for seed in (config.seeds if one.spec.weights == "random" else (0,))
        }
    )


def _work(config: EvaluateConfig, threads: int, evaluation: str) -> None:
    """Compute cells in a worker process until all are finished.

    Raises
    ------
    UserError
        The store has changed since the evaluation was planned, so that it is another one now.
    """
    import torch

    torch.set_num_threads(threads)
    store = Store.open(config.root)
    grid = plan_grid(store, config)
    if grid.name != evaluation:
        raise UserError(
            f"evaluation {evaluation}: the recordings or labels of its tasks changed while it ran, as `emeg ingest` and"
            " `emeg withdraw` change them; run the same command again to evaluate what the store holds now"
        )
    compute_here(store, config, grid, silent)
    _probe_missing(store, config, grid, silent)


def compute_here(store: Store, config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    """Compute the missing cells in this process, beside others that may work on the same grid."""

    def compute(cell: Cell) -> Any:  # noqa: ANN401 - CellOutcome
        one = grid.by_cell[cell.name]
        return compute_cell(grid.tasks[cell.task], one, cell, budget=config.budget, device=config.device)

    with single_blas_thread():
        work_through(
            store, grid.name, grid.cells, compute, progress, check=lambda: stop_on_withdrawal(store, config, grid)
        )


def _probe_missing(store: Store, config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    """Probe the network's features on every task, sharing the tasks with other processes; return when all are done."""
    if grid.model is None or not config.probes:
        return
    spec = EmbeddingSpec(grid.model, "pretrained", 0, grid.pooling, config.layers)
    claims = {f"{grid.name}-probes-{name}": name for name in grid.tasks}

    def make(claim: str) -> None:
        name = claims[claim]
        found = probe_task(store, grid.tasks[name], spec, device=config.device, progress=progress)
        store.write_json(found, "runs", grid.name, "probes", f"{name}.json")
        stop_on_withdrawal(store, config, grid)

    share_work(
        store, list(claims), lambda claim: store.exists("runs", grid.name, "probes", f"{claims[claim]}.json"), make
    )


def stop_on_withdrawal(store: Store, config: EvaluateConfig, grid: Grid) -> None:
    """Remove everything about the grid and raise an error if a subject of its tasks or its network was withdrawn."""

    def embeddings_of(recordings: set[str]) -> list[str]:
        return [
            embedding
            for name, data in grid.tasks.items()
            for spec in _specs(config, grid.compared[name])
            for recording, embedding in zip(
                np.unique(data.windows.recordings), embedding_names(data.windows, spec), strict=True
            )
            if recording in recordings
        ]

    stop_if_withdrawn(store, grid.name, grid.recordings_of, embeddings_of)
