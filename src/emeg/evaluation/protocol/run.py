"""Run the grid task × model × seed × fold, resumable and shared by processes, and publish the evaluation."""

import importlib.metadata
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from emeg.data.corpus.registered import person_groups, registry_id
from emeg.data.tasks.recipes import TaskRecipe, known_tasks, load_task
from emeg.errors import TransientError, UserError
from emeg.evaluation.configs import EvaluateConfig, EvaluateResult
from emeg.evaluation.embeddings import EmbeddingSpec, embedding_names
from emeg.evaluation.leaks import declared_and_tested
from emeg.evaluation.protocol.cells import Cell, missing_cells, read_cells, work_through
from emeg.evaluation.protocol.compute import Compared, FeatureReadOut, compute_cell
from emeg.evaluation.protocol.fine_tuned import FineTunedNetwork
from emeg.evaluation.protocol.leak_checks import check_procedure, check_task
from emeg.evaluation.protocol.probing import probe_task
from emeg.evaluation.protocol.products import STIMULUS_FEATURES, GridScore, GridSummary, write_grid
from emeg.evaluation.protocol.rows import SPLITS
from emeg.evaluation.protocol.splits import split_rows
from emeg.evaluation.protocol.summarise import compare, scores_of, summarise_task
from emeg.evaluation.protocol.task_data import Stimuli, TaskData, make_task_data
from emeg.evaluation.protocol.withdrawals import explained_by_withdrawal, stop_if_withdrawn
from emeg.evaluation.rivals import RIVALS, RivalModel, missing_reason
from emeg.evaluation.sharing import share_work
from emeg.evaluation.task import HELD_OUT, ancestry
from emeg.evaluation.threads import single_blas_thread
from emeg.hashing import hash_json
from emeg.ingest.workers.processes import end_with_parent
from emeg.progress import Progress, silent
from emeg.store import Store, find_model, models_of, read_catalog
from emeg.store.runs import RunNote, note_run
from emeg.uri import locate
from emeg.version import __version__

logger = logging.getLogger(__name__)

FEWEST_SEEDS = 3
"""Seeds that the protocol asks for; with fewer the summary has a note."""
POLL_S = 1.0
"""Time between two reports of progress while worker processes compute, s."""
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "pyriemann")
"""Packages whose versions are recorded."""
OTHER_KINDS = {"regression": ("ridge",), "retrieval": ("contrastive", "ridge"), "encoding": ("ridge",)}
"""Read-outs of the kinds without classes."""


class Grid(NamedTuple):
    """Everything that determines an evaluation over tasks."""

    name: str
    tasks: dict[str, TaskData]
    compared: dict[str, list[Compared]]
    cells: dict[str, Cell]
    by_cell: dict[str, Compared]
    model: str | None
    tasks_not_run: dict[str, str]
    models_not_run: tuple[tuple[str, str, str], ...]


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
    grid = plan_grid(store, config)
    done_before = store.has("evaluations", grid.name)
    if not done_before:
        began = time.monotonic()
        with explained_by_withdrawal(lambda: _stop_if_withdrawn(store, config, grid)):
            _prepare(store, grid)
            _check(store, grid, progress)
            _compute(store, config, grid, progress)
            _publish(store, config, grid)
        _stop_if_withdrawn(store, config, grid)
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


def plan_grid(store: Store, config: EvaluateConfig) -> Grid:
    """Resolve tasks and models, cut the windows, divide them, and list the cells.

    Raises
    ------
    UserError
        No task can run, a name is unknown, or a model is missing.
    """
    model = _model(store, config)
    if model is None and set(config.modes) != {"frozen"}:
        raise UserError(
            f"modes {', '.join(config.modes)}: {config.root} holds no network to train; run `emeg pretrain` first, or"
            " leave modes out to compare other models"
        )
    seen = frozenset[str]()
    if model is not None:
        corpora = ancestry(store, model).corpora.values()
        seen = frozenset(name for splits in corpora for name, split in splits.items() if split != HELD_OUT)
    groups = person_groups(store, read_catalog(store))
    recipes = chosen_recipes(config.tasks)
    tasks: dict[str, TaskData] = {}
    not_run: dict[str, str] = {}
    for recipe in recipes:
        try:
            tasks[recipe.id] = make_task_data(
                store, recipe, seeds=config.seeds, split_mode=config.split_mode, seen=seen, groups=groups
            )
        except UserError as error:
            if "all" not in config.tasks:
                raise error if recipe.id in str(error) else UserError(f"task {recipe.id}: {error}") from error
            not_run[recipe.id] = str(error)
    if not tasks:
        reasons = "; ".join(not_run.values())
        raise UserError(
            f"none of {len(recipes)} tasks can run on this store (`emeg tasks --root` lists why): {reasons}"
        )
    models_not_run: list[tuple[str, str, str]] = []
    compared = {name: list(_compared(config, data, model, models_not_run)) for name, data in tasks.items()}
    cells: dict[str, Cell] = {}
    by_cell: dict[str, Compared] = {}
    for task, one, cell in _cells(tasks, compared):
        del task
        cells[cell.name], by_cell[cell.name] = cell, one
    name = hash_json(
        {
            "kind": "grid",
            "version": __version__,
            "config": config.product_fields(),
            "model": model,
            "tasks": {name: _identity(data) for name, data in tasks.items()},
            "cells": sorted(cells),
            "not_run": not_run,
            "versions": _versions(),
        }
    )
    return Grid(name, tasks, compared, cells, by_cell, model, not_run, tuple(models_not_run))


def chosen_recipes(names: tuple[str, ...]) -> list[TaskRecipe]:
    """Return the recipes of some names or files; ``all`` stands for every recipe of emeg.

    Raises
    ------
    UserError
        A name is unknown, or two recipes have one name.
    """
    found: dict[str, TaskRecipe] = {}
    for name in names:
        for recipe in known_tasks().values() if name == "all" else (load_task(name),):
            if recipe.id in found and found[recipe.id] != recipe:
                raise UserError(f"tasks: two recipes are called {recipe.id}; give one of them another id")
            found[recipe.id] = recipe
    return list(found.values())


def _model(store: Store, config: EvaluateConfig) -> str | None:
    """Return the network to evaluate; None where the store holds none and none was named."""
    if config.model is None and not models_of(store, "encoder"):
        return None
    return find_model(store, "encoder", config.model)


def _identity(data: TaskData) -> dict[str, Any]:
    return {
        "recipe": data.recipe.product_fields(),
        "labels": data.truth.tolist(),
        "stimuli": None if data.stimuli is None else _content(data.stimuli),
        "splits": [manifest.identity for manifest in data.manifests.values()],
    }


def _content(stimuli: Stimuli) -> list[Any]:
    low_level = [] if stimuli.low_level_BD is None else [stimuli.low_level_BD.tolist()]
    return [list(stimuli.names), stimuli.table_BD.tolist(), *low_level]


def _compared(
    config: EvaluateConfig, data: TaskData, model: str | None, not_run: list[tuple[str, str, str]]
) -> Iterator[Compared]:
    """Yield the models compared on a task; those that cannot run are noted with the reason."""
    kind = data.recipe.kind
    conditions = ("", "calibrated") if data.rule == "calibration" else ("",)
    read_outs = OTHER_KINDS.get(kind, config.read_outs)
    if kind == "encoding":
        yield from _encoding(config, data, not_run)
        return
    for condition in conditions:
        if model is not None:
            if "frozen" in config.modes:
                for read_out in read_outs:
                    yield from _frozen(config, model, read_out, condition)
            yield from _fine_tuned(config, data, model, condition, not_run)
        for name in tuple(RIVALS) if "all" in config.rivals else config.rivals:
            reason = _unfit(name, data)
            if reason:
                not_run.append((data.recipe.id, name, reason))
            else:
                rival = RIVALS[name]
                yield Compared(name, rival.title, "", "", "", rival, None, "real", condition)


def _encoding(config: EvaluateConfig, data: TaskData, not_run: list[tuple[str, str, str]]) -> Iterator[Compared]:
    """Yield the models of an encoding task; all of them predict responses from what is known of the stimuli."""
    for labels in ("real", "permuted") if config.permuted_labels else ("real",):
        title = "Features of the stimuli, ridge" + (", permuted" if labels == "permuted" else "")
        yield Compared(STIMULUS_FEATURES, title, "", "", "ridge", FeatureReadOut("ridge"), None, labels)
    for name, rival in RIVALS.items():
        if "encoding" not in rival.kinds:
            continue
        if reason := _unfit(name, data):
            not_run.append((data.recipe.id, name, reason))
        else:
            yield Compared(name, rival.title, "", "", "", rival, None, "real")
    reason = "no network takes part: responses are predicted from the stimuli"
    not_run += [(data.recipe.id, mode, reason) for mode in config.modes if mode != "frozen"]


def _fine_tuned(
    config: EvaluateConfig, data: TaskData, model: str, condition: str, not_run: list[tuple[str, str, str]]
) -> Iterator[Compared]:
    for mode in config.modes:
        if mode == "frozen":
            continue
        if condition:
            reason = "unlabelled signal aligns features and signals; a network that is trained has neither"
            not_run.append((data.recipe.id, f"{mode} {condition}", reason))
            continue
        kinds: list[tuple[Literal["pretrained", "random"], str]] = [("pretrained", "real")]
        kinds += [("pretrained", "permuted")] if config.permuted_labels else []
        kinds += [("random", "real")] if config.random_weights else []
        for weights, labels in kinds:
            rival = FineTunedNetwork(mode, data, model, weights, config.fit, config.device)
            yield Compared(model, _title(weights, rival.title, labels), weights, mode, "", rival, None, labels)


def _title(weights: str, how: str, labels: str) -> str:
    start = "Random weights" if weights == "random" else "Pretrained"
    return f"{start}, {how}" + ("" if labels == "real" else f", {labels} labels")


def _frozen(config: EvaluateConfig, model: str, read_out: str, condition: str) -> Iterator[Compared]:
    rival = FeatureReadOut(read_out)
    pretrained = EmbeddingSpec(model, "pretrained", 0, config.pooling, config.layers)
    specs = [(pretrained, "real")]
    specs += [(pretrained, "permuted")] if config.permuted_labels else []
    specs += [(pretrained._replace(weights="random"), "real")] if config.random_weights else []
    for spec, labels in specs:
        title = _title(spec.weights, f"frozen, {read_out}", labels)
        yield Compared(model, title, spec.weights, "frozen", read_out, rival, spec, labels, condition)


def _unfit(name: str, data: TaskData) -> str:
    """Return why a rival cannot run on a task; empty if it can."""
    rival = RIVALS.get(name)
    if rival is None:
        raise UserError(f"rivals: there is no rival {name!r}; use one of {', '.join(RIVALS)}")
    if data.recipe.kind not in rival.kinds:
        return f"it cannot do tasks of kind {data.recipe.kind}"
    if rival.input == "signal" and data.signal is None:
        return "the recordings share no channel"
    if rival.input == "low_level" and (data.stimuli is None or data.stimuli.low_level_BD is None):
        return "the task names no low-level features; set stimulus.low_level to their columns"
    return _trained_on(rival, data) or missing_reason(rival)


def _trained_on(rival: RivalModel, data: TaskData) -> str:
    """Return that published weights were trained on a dataset of the task; empty if they were not."""
    names = sorted(set(data.windows.datasets.tolist()))
    tested = {name: registry_id(data.store, name) or name for name in names} if rival.pretraining_datasets else {}
    seen = [declared for _, declared in declared_and_tested(rival.pretraining_datasets, tested)]
    return f"its published weights were trained on {', '.join(seen)}, whose subjects are tested" if seen else ""


def _cells(
    tasks: Mapping[str, TaskData], compared: Mapping[str, list[Compared]]
) -> Iterator[tuple[str, Compared, Cell]]:
    for task, data in tasks.items():
        for one in compared[task]:
            for (seed, examples), manifest in data.manifests.items():
                for fold in range(len(manifest)):
                    yield task, one, one.cell(task, examples, seed, fold)


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


def _compute(store: Store, config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    _embed(config, grid, progress)
    n_missing = len(missing_cells(store, grid.name, list(grid.cells)))
    n_workers = min(config.workers or os.cpu_count() or 1, n_missing)
    if n_workers < 2:
        compute_here(store, config, grid, progress)
        _probe_missing(store, config, grid, progress)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=end_with_parent) as pool:
        threads = max(1, (os.cpu_count() or 1) // n_workers)
        futures = [pool.submit(_work, config, threads) for _ in range(n_workers)]
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


def _stop_if_withdrawn(store: Store, config: EvaluateConfig, grid: Grid) -> None:
    """Remove everything about the grid and raise an error if one of its subjects was withdrawn."""

    def embeddings_of(subjects: set[str]) -> list[str]:
        return [
            embedding
            for name, data in grid.tasks.items()
            for spec in _specs(config, grid.compared[name])
            for recording, embedding in zip(
                np.unique(data.windows.recordings), embedding_names(data.windows, spec), strict=True
            )
            if data.windows.subjects[data.windows.recordings == recording][0] in subjects
        ]

    everybody = {name for data in grid.tasks.values() for name in data.windows.subjects.tolist()}
    stop_if_withdrawn(store, grid.name, everybody, embeddings_of)


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


def _embed(config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    """Embed the windows of every task with every network once, before any cell is computed."""
    for name, data in grid.tasks.items():
        for spec in _specs(config, grid.compared[name]):
            data.features(spec, config.device, progress)


def _work(config: EvaluateConfig, threads: int) -> None:
    """Compute cells in a worker process until all are finished."""
    import torch

    torch.set_num_threads(threads)
    store = Store.open(config.root)
    grid = plan_grid(store, config)
    compute_here(store, config, grid, silent)
    _probe_missing(store, config, grid, silent)


def compute_here(store: Store, config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    """Compute the missing cells in this process, beside others that may work on the same grid."""

    def compute(cell: Cell) -> Any:  # noqa: ANN401 - CellOutcome
        one = grid.by_cell[cell.name]
        return compute_cell(grid.tasks[cell.task], one, cell, budget=config.budget, device=config.device)

    with single_blas_thread():
        work_through(
            store, grid.name, grid.cells, compute, progress, check=lambda: _stop_if_withdrawn(store, config, grid)
        )


def _probe_missing(store: Store, config: EvaluateConfig, grid: Grid, progress: Progress) -> None:
    """Probe the network's features on every task, sharing the tasks with other processes; return when all are done."""
    if grid.model is None or not config.probes:
        return
    spec = EmbeddingSpec(grid.model, "pretrained", 0, config.pooling, config.layers)
    claims = {f"{grid.name}-probes-{name}": name for name in grid.tasks}

    def make(claim: str) -> None:
        name = claims[claim]
        found = probe_task(store, grid.tasks[name], spec, device=config.device, progress=progress)
        store.write_json(found, "runs", grid.name, "probes", f"{name}.json")
        _stop_if_withdrawn(store, config, grid)

    share_work(
        store, list(claims), lambda claim: store.exists("runs", grid.name, "probes", f"{claims[claim]}.json"), make
    )


def _publish(store: Store, config: EvaluateConfig, grid: Grid) -> None:
    results, predictions = read_cells(store, grid.name, list(grid.cells))
    scores = scores_of(grid.tasks, grid.compared, results, predictions)
    notes = []
    if len(config.seeds) < FEWEST_SEEDS:
        notes.append(f"{len(config.seeds)} seeds are fewer than the {FEWEST_SEEDS} of the protocol")
    if grid.model is None:
        notes.append("the store holds no pretrained network; only other models were compared")
    elif not ancestry(store, grid.model).corpora:
        notes.append("the training subjects of the network are not recorded")
    uses_signal = {
        name: any(one.rival.input == "signal" for one in own) or grid.tasks[name].recipe.kind == "encoding"
        for name, own in grid.compared.items()
    }
    summary = GridSummary(
        version=__version__,
        seeds=config.seeds,
        split_mode=config.split_mode,
        tasks=tuple(summarise_task(data, uses_signal=uses_signal[name]) for name, data in grid.tasks.items()),
        tasks_not_run=grid.tasks_not_run,
        models_not_run=grid.models_not_run,
        scores=tuple(scores),
        comparisons=tuple(compare(scores)),
        provenance={
            "model": grid.model,
            "trained_on": [] if grid.model is None else sorted(ancestry(store, grid.model).corpora),
            "config": config.product_fields(),
            "recordings": sorted({one for data in grid.tasks.values() for one in data.windows.recordings.tolist()}),
            "versions": {"emeg": __version__} | _versions(),
            "notes": notes,
        },
    )
    probes = {}
    if grid.model is not None and config.probes:
        probes = {name: store.read_json("runs", grid.name, "probes", f"{name}.json") for name in grid.tasks}
    with store.publishing("evaluations", grid.name) as folder:
        if probes:
            (locate(folder) / "probes.json").write_json(probes)
        (locate(folder) / "checks.json").write_json(store.read_json("runs", grid.name, "checks.json"))
        write_grid(folder, summary, results, predictions, _splits(grid))


def _splits(grid: Grid) -> pa.Table:
    rows = [
        row
        for name, data in grid.tasks.items()
        for (seed, examples), manifest in data.manifests.items()
        for row in split_rows(name if examples is None else f"{name}/{examples}", seed, data.windows, manifest)
    ]
    return pa.Table.from_pylist(rows, schema=SPLITS)


def _label(score: GridScore) -> str:
    key = score.key
    shots = "" if key.examples_per_class is None else f"{key.examples_per_class} examples"
    permuted = "" if key.labels == "real" else key.labels
    model = key.weights or key.model
    mode = "" if key.mode == "frozen" else key.mode
    return "/".join(filter(None, (score.task, model, mode, key.read_out, permuted, key.condition, shots, score.metric)))


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
