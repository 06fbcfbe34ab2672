"""Plan a grid: tasks with their windows and splits, the models compared on each, and the cells."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from emeg.data.corpus.registered import person_groups
from emeg.data.tasks.recipes import TaskRecipe, known_tasks, load_task
from emeg.errors import UserError
from emeg.evaluation.configs import EvaluateConfig
from emeg.evaluation.package_versions import package_versions
from emeg.evaluation.protocol.compute import Compared
from emeg.evaluation.protocol.grid.cells import Cell
from emeg.evaluation.protocol.grid.compared import models_compared
from emeg.evaluation.protocol.grid.withdrawals import withdrawn_subjects
from emeg.evaluation.protocol.leak_checks import check_division
from emeg.evaluation.protocol.task_data import Stimuli, TaskData, make_task_data
from emeg.evaluation.task import HELD_OUT, ancestry
from emeg.hashing import hash_json
from emeg.models.readout.kinds import LATENT_POOLING
from emeg.store import Store, find_model, models_of, read_catalog
from emeg.version import __version__


class Grid(NamedTuple):
    """Everything that determines an evaluation over tasks."""

    name: str
    tasks: dict[str, TaskData]
    compared: dict[str, list[Compared]]
    cells: dict[str, Cell]
    by_cell: dict[str, Compared]
    model: str | None
    pooling: str
    tasks_not_run: dict[str, str]
    models_not_run: tuple[tuple[str, str, str], ...]
    recordings_of: dict[str, tuple[str, ...]]
    """Recordings of every subject who is in a task or in a corpus of the network, by global name."""


class PreparedTask(NamedTuple):
    """A task with its windows and splits on a store, or the reason why it cannot run there."""

    recipe: TaskRecipe
    data: TaskData | None
    reason: str
    """Begins with the name of the task and ends with the next action; empty if the task can run."""


def plan_grid(store: Store, config: EvaluateConfig) -> Grid:
    """Resolve tasks and models, cut the windows, divide them, and list the cells.

    Raises
    ------
    UserError
        No task can run, a name is unknown, or a model is missing.
    """
    recordings_of = _recordings_of(store)  # first: a subject who is withdrawn during planning has to be in it
    model = evaluated_model(store, config.model)
    if config.pooling is None:
        config = config.model_copy(update={"pooling": _pooling_of_model(store, model)})
    if model is None and set(config.modes) != {"frozen"}:
        raise UserError(
            f"modes {', '.join(config.modes)}: {config.root} holds no network to train; run `emeg pretrain` first, or"
            " leave modes out to compare other models"
        )
    recipes = chosen_recipes(config.tasks)
    tasks: dict[str, TaskData] = {}
    compared: dict[str, list[Compared]] = {}
    not_run: dict[str, str] = {}
    models_not_run: list[tuple[str, str, str]] = []
    for recipe, data, reason in prepare_tasks(
        store, recipes, model=model, seeds=config.seeds, split_mode=config.split_mode
    ):
        if data is not None:
            unfit: list[tuple[str, str, str]] = []
            models = list(models_compared(config, data, model, unfit))
            if models:
                tasks[recipe.id], compared[recipe.id] = data, models
                models_not_run += unfit
                continue
            reason = _no_model(recipe, unfit)
        if "all" not in config.tasks:
            raise UserError(reason)
        not_run[recipe.id] = reason
    if not tasks:
        reasons = "; ".join(not_run.values())
        raise UserError(
            f"none of {len(recipes)} tasks can run on this store (`emeg tasks --root` lists why): {reasons}"
        )
    cells: dict[str, Cell] = {}
    by_cell: dict[str, Compared] = {}
    for task, one, cell in _cells(tasks, compared):
        del task
        cells[cell.name], by_cell[cell.name] = cell, one
    name = hash_json(
        {
            "kind": "grid",
            "version": __version__,
            "config": grid_fields(config, [recipe.id for recipe in recipes]),
            "model": model,
            "tasks": {name: _identity(data) for name, data in tasks.items()},
            "cells": sorted(cells),
            "not_run": not_run,
            "versions": package_versions(),
        }
    )
    used = {name for data in tasks.values() for name in data.windows.subjects.tolist()}
    if model is not None:
        used |= {name for splits in ancestry(store, model).corpora.values() for name in splits}
    recordings_of = {subject: own for subject, own in recordings_of.items() if subject in used}
    return Grid(
        name, tasks, compared, cells, by_cell, model, str(config.pooling), not_run, tuple(models_not_run), recordings_of
    )


def prepare_tasks(
    store: Store, recipes: Sequence[TaskRecipe], *, model: str | None, seeds: Sequence[int], split_mode: str
) -> Iterator[PreparedTask]:
    """Cut the windows of tasks, divide them, and run the leak checks that read no signals.

    Subjects of pretraining and withdrawn subjects are left out. An evaluation of a task that has a reason here is
    refused before anything is computed.

    Parameters
    ----------
    store : Store
    recipes : sequence of TaskRecipe
    model : str, optional
        Network that is evaluated.
    seeds : sequence of int
        Seeds of the splits.
    split_mode : str
        See `make_task_data`.
    """
    seen = frozenset[str]()
    if model is not None:
        corpora = ancestry(store, model).corpora.values()
        seen = frozenset(name for splits in corpora for name, split in splits.items() if split != HELD_OUT)
    withdrawn = withdrawn_subjects(store)
    groups = person_groups(store, read_catalog(store))
    for recipe in recipes:
        try:
            data = make_task_data(
                store, recipe, seeds=seeds, split_mode=split_mode, seen=seen, withdrawn=withdrawn, groups=groups
            )
            check_division(store, data, model, groups)
        except UserError as error:
            start, text = f"task {recipe.id}: ", str(error)
            yield PreparedTask(recipe, None, text if text.startswith(start) else start + text)
        else:
            yield PreparedTask(recipe, data, "")


def grid_fields(config: EvaluateConfig, tasks: Iterable[str]) -> dict[str, Any]:
    """Return the settings that can change a result; tasks by name, because their files may be in any folder.

    Parameters
    ----------
    config : EvaluateConfig
    tasks : iterable of str
        Names of the tasks.
    """
    return config.product_fields() | {"tasks": sorted(tasks)}


def _no_model(recipe: TaskRecipe, unfit: Sequence[tuple[str, str, str]]) -> str:
    """Return the reason why a task without models to compare cannot run."""
    reasons = "; ".join(f"{name}: {reason}" for _, name, reason in unfit) or "no model is named"
    return f"task {recipe.id}: no model can run on it ({reasons}); name others with --rivals, such as chance"


def _recordings_of(store: Store) -> dict[str, tuple[str, ...]]:
    """Return the recordings of all subjects who were not withdrawn, by global name."""
    withdrawn = withdrawn_subjects(store)
    found: dict[str, list[str]] = defaultdict(list)
    for row in read_catalog(store):
        if (name := f"{row.dataset}/{row.subject}") not in withdrawn:
            found[name].append(row.recording)
    return {name: tuple(own) for name, own in sorted(found.items())}


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


def evaluated_model(store: Store, name: str | None) -> str | None:
    """Return the network to evaluate: the one named, or the only one; None if the store holds none and none is named.

    Raises
    ------
    UserError
        There is no such network, or there are several and none is named.
    """
    if name is None and not models_of(store, "encoder"):
        return None
    return find_model(store, "encoder", name)


def _pooling_of_model(store: Store, model: str | None) -> str:
    if model is None:
        return LATENT_POOLING
    from emeg.models.building import default_pooling  # loads PyTorch

    return default_pooling(store.local_copy("models", model))


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
