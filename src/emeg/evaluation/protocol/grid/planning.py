"""Plan a grid: tasks with their windows and splits, the models compared on each, and the cells."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from emeg.data.corpus.registered import person_groups
from emeg.data.tasks.recipes import TaskRecipe, known_tasks, load_task
from emeg.errors import UserError
from emeg.evaluation.configs import EvaluateConfig
from emeg.evaluation.protocol.compute import Compared
from emeg.evaluation.protocol.grid.cells import Cell
from emeg.evaluation.protocol.grid.compared import models_compared
from emeg.evaluation.protocol.task_data import Stimuli, TaskData, make_task_data
from emeg.evaluation.task import HELD_OUT, ancestry
from emeg.hashing import hash_json
from emeg.store import Store, find_model, models_of, read_catalog
from emeg.version import __version__

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "pyriemann")
"""Packages whose versions are recorded."""


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
    compared = {name: list(models_compared(config, data, model, models_not_run)) for name, data in tasks.items()}
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
            "versions": package_versions(),
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


def _cells(
    tasks: Mapping[str, TaskData], compared: Mapping[str, list[Compared]]
) -> Iterator[tuple[str, Compared, Cell]]:
    for task, data in tasks.items():
        for one in compared[task]:
            for (seed, examples), manifest in data.manifests.items():
                for fold in range(len(manifest)):
                    yield task, one, one.cell(task, examples, seed, fold)


def package_versions() -> dict[str, str | None]:
    """Return the versions of the packages that results depend on; None for those that are not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
