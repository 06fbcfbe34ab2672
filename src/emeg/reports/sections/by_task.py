"""Tables with a row for each model and a column for each task."""

from collections.abc import Callable, Mapping, Sequence

from emeg.evaluation.protocol.products import GridComparison, GridSummary, GridTask
from emeg.reports.markup import Cell, Column, Row, Table, metric_title, number, span
from emeg.reports.sections.comparison import Shown, estimate, fullest

FEWEST_TASKS = 2
"""With fewer tasks, the table of the task shows the same."""
MOST_TASKS = 6
"""Tasks of one table: more do not fit on a printed sheet."""


def tables_by_task(
    grids: Mapping[str, GridSummary],
    shown: Sequence[Shown],
    tasks: Mapping[str, GridTask],
    networks: Mapping[str, str],
) -> list[Table]:
    """Return the tables of `models_by_task` and of `gains_by_task`, each with at most `MOST_TASKS` tasks.

    Parameters
    ----------
    grids : mapping of str to GridSummary
        Evaluations by name.
    shown : sequence of Shown
        Scores of all evaluations.
    tasks : mapping of str to GridTask
        Tasks by id. For a single task there is no table.
    networks : mapping of str to str
        Description of each network by the name of its product.
    """
    if len(tasks) < FEWEST_TASKS:
        return []
    names = list(tasks)
    n_tables = -(-len(names) // MOST_TASKS)
    length = -(-len(names) // n_tables)
    parts = [{name: tasks[name] for name in names[k : k + length]} for k in range(0, len(names), length)]
    found = [models_by_task(shown, part, networks) for part in parts]
    found += [gains_by_task(grids, part, networks) for part in parts]
    return [table for table in found if table.rows]


def models_by_task(shown: Sequence[Shown], tasks: Mapping[str, GridTask], networks: Mapping[str, str]) -> Table:
    """Return a row for each model with its mean and interval on every task.

    Networks come first, each with its pretrained and its random weights one after the other.

    Parameters
    ----------
    shown : sequence of Shown
        Scores; of a few-shot task, those with the largest number of examples are taken.
    tasks : mapping of str to GridTask
        Tasks by id, in the order of the columns.
    networks : mapping of str to str
        Description of each network by the name of its product.
    """
    kept = [one for one in fullest(shown) if one.score.key.labels == "real"]
    by_model: dict[str, dict[str, Shown]] = {}
    for one in sorted(kept, key=_order(kept)):  # the order is that of all tasks, so that several tables have one
        if one.score.task in tasks:
            by_model.setdefault(one.model, {})[one.score.task] = one
    rows = []
    for name, by_task in by_model.items():
        first = next(iter(by_task.values()))
        cells = [Cell(name), Cell(networks.get(first.score.key.model, "–") if first.score.key.weights else "–")]
        rows.append(Row((*cells, *(_score(by_task.get(task)) for task in tasks)), strong=first.is_own))
    columns = (Column("model"), Column("network"), *(_column(_heading(task)) for task in tasks.values()))
    caption = (
        "Every model on every task: mean over subjects and 95 % interval of balanced accuracy, or of the metric in the"
        " heading; in brackets the number of subjects"
    )
    return Table(caption, columns, tuple(rows))


def gains_by_task(
    grids: Mapping[str, GridSummary], tasks: Mapping[str, GridTask], networks: Mapping[str, str]
) -> Table:
    """Return a row for each network with its gain over random weights on every task.

    Parameters
    ----------
    grids : mapping of str to GridSummary
        Evaluations by name.
    tasks : mapping of str to GridTask
        Tasks by id, in the order of the columns.
    networks : mapping of str to str
        Description of each network by the name of its product.
    """
    found: dict[str, tuple[str, dict[str, GridComparison]]] = {}
    for evaluation, grid in grids.items():
        names = {(score.task, score.key): Shown(evaluation, score).name for score in grid.scores}
        for one in grid.comparisons:
            if one.question == "random_weights":
                own = found.setdefault(names[one.task, one.key], (networks.get(one.key.model, "–"), {}))
                own[1].setdefault(one.task, one)
    rows = tuple(
        Row((Cell(name), Cell(network), *(_gain(by_task.get(task)) for task in tasks)))
        for name, (network, by_task) in found.items()
        if not by_task.keys().isdisjoint(tasks)
    )
    columns = (Column("model"), Column("network"), *(_column(task) for task in tasks))
    caption = (
        "Pretrained minus random weights on every task, paired by subject: mean and 95 % interval; passed: better, with"
        " a corrected p below 0.05"
    )
    return Table(caption, columns, rows)


def _order(shown: Sequence[Shown]) -> Callable[[Shown], tuple[bool, int, bool]]:
    """Return the key that puts networks first, and the rows of one network beside each other."""
    models = list(dict.fromkeys(one.score.key.model for one in shown if one.score.key.weights))

    def key(one: Shown) -> tuple[bool, int, bool]:
        own = one.score.key
        return not own.weights, models.index(own.model) if own.weights else 0, own.weights != "pretrained"

    return key


def _column(title: str) -> Column:
    return Column(title, is_number=True, wraps=True)


def _heading(task: GridTask) -> str:
    metric = "" if task.metric == "balanced_accuracy" else f", {metric_title(task.metric)}"
    return f"{task.id}{metric} ({task.n_subjects})"


def _score(one: Shown | None) -> Cell:
    found = None if one is None else estimate(one.score)
    if found is None:
        return Cell("–")
    interval = "" if found.low is None else f" {_span(found.low, found.high)}"
    return Cell(f"{number(found.mean)}{interval}")


def _gain(one: GridComparison | None) -> Cell:
    found = None if one is None else one.difference
    if one is None or found is None:
        return Cell("–")
    interval = "" if found.low is None else f" {_span(found.low, found.high, sign=True)}"
    return Cell(f"{number(found.mean, sign=True)}{interval}{', passed' if one.passed else ''}")


def _span(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Return an interval that stays on one line."""
    return span(low, high, sign=sign).replace(" ", "\N{NO-BREAK SPACE}")
