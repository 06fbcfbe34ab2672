"""The verb ``tasks``: list and explain task recipes, and say which can run on a store."""

from collections.abc import Iterator, Mapping, Sequence

import yaml
from pydantic import NonNegativeInt

from emeg.config import Config, option, runtime_field
from emeg.data.tasks.recipes import TaskRecipe, known_tasks, load_task
from emeg.errors import UserError
from emeg.evaluation.configs import SEEDS, SplitMode
from emeg.progress import Progress, silent
from emeg.store import Store


class TasksConfig(Config):
    """List the tasks that emeg knows, or explain one."""

    name: str | None = option(None, group="tasks")
    """Task to explain in full: a name, or a YAML file."""
    kind: str | None = option(None, group="tasks")
    """List only tasks of this kind: classification, diagnosis, regression, retrieval or encoding."""
    root: str | None = runtime_field(None, group="data")
    """Store: also list which tasks can run on it, and why the others cannot."""
    model: str | None = option(None, group="model")
    """Network that `emeg evaluate` would evaluate: subjects that it was trained on are not tested. Default: the only
    one of the store, if there is any."""
    seeds: tuple[NonNegativeInt, ...] = option(SEEDS, group="tasks", min_length=1)
    """Seeds of the folds."""
    split_mode: SplitMode = option("strict", group="tasks")
    """strict: the split rule of each task; paper_compat: the folds of the reference release."""


class RunnableTask(Config):
    """What a task finds on a store."""

    id: str
    """Name of the task."""
    n_subjects: int = 0
    """Subjects with windows."""
    n_windows: int = 0
    """Windows."""
    n_folds: int = 0
    """Folds of the split rule."""
    reason: str = ""
    """Why it cannot run; empty if it can."""


class TasksResult(Config):
    """Tasks found."""

    tasks: tuple[TaskRecipe, ...]
    """Recipes, sorted by name."""
    whole: bool = False
    """Whether a single task was asked for."""
    on_store: tuple[RunnableTask, ...] = ()
    """What each task finds on the store; empty if no store was given."""

    def as_text(self) -> str:
        """Return one recipe as YAML, or a table with one row per task, and what the store holds for each."""
        found = {one.id: one for one in self.on_store}
        if self.whole:
            recipe = self.tasks[0]
            fields = recipe.model_dump(mode="json", exclude_defaults=True)
            if recipe.classes:
                fields["classes"] = {name: list(own) for name, own in recipe.classes.items()}
            text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120).rstrip()
            return "\n".join([text, *(f"\non this store: {_state(one)}" for one in found.values())])
        return "\n".join(_table(self.tasks, found))


def list_tasks(config: TasksConfig, *, progress: Progress = silent) -> TasksResult:
    """List the task recipes of emeg, or explain one; with a store, prepare each as `emeg evaluate` does.

    Raises
    ------
    UserError
        There is no such task, store or network, or the store holds several networks and none is named.
    """
    chosen = [load_task(config.name)] if config.name is not None else list(known_tasks().values())
    tasks = [recipe for recipe in chosen if config.kind in (None, recipe.kind)]
    if not tasks:
        raise UserError(f"kind: no task is of kind {config.kind}; leave kind out to see all tasks")
    on_store = () if config.root is None else tuple(_on_store(config.root, config, tasks, progress))
    return TasksResult(tasks=tuple(tasks), whole=config.name is not None, on_store=on_store)


def _on_store(
    root: str, config: TasksConfig, recipes: Sequence[TaskRecipe], progress: Progress
) -> Iterator[RunnableTask]:
    """Yield what each task finds on a store, or the reason why it cannot run."""
    from emeg.evaluation.protocol.grid.planning import evaluated_model, prepare_tasks

    store = Store.open(root)
    model = evaluated_model(store, config.model)
    prepared = prepare_tasks(store, recipes, model=model, seeds=config.seeds, split_mode=config.split_mode)
    for number, (recipe, data, reason) in enumerate(prepared):
        progress(number + 1, len(recipes), recipe.id)
        if data is None:
            yield RunnableTask(id=recipe.id, reason=reason)
        else:
            yield RunnableTask(
                id=recipe.id,
                n_subjects=len(set(data.windows.subjects.tolist())),
                n_windows=len(data.windows),
                n_folds=len(next(iter(data.manifests.values()))),
            )


def _state(one: RunnableTask) -> str:
    if one.reason:
        return f"cannot run: {one.reason}"
    return f"can run: subjects {one.n_subjects}, windows {one.n_windows}, folds {one.n_folds}"


def _table(tasks: tuple[TaskRecipe, ...], found: Mapping[str, RunnableTask]) -> list[str]:
    header = ("task", "kind", "split", "dataset", "title")
    rows = [header] + [(one.id, one.kind, one.split.rule, one.dataset or "any", one.title) for one in tasks]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header) - 1)]
    lines = []
    for number, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]))
        if number and found:
            lines.append(f"    {_state(found[row[0]])}")
    return lines
