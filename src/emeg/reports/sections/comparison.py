"""Sections of the page on tasks: gates, a forest plot with its table, and label budgets."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from emeg.errors import UserError
from emeg.evaluation.protocol.products import GridComparison, GridScore, GridSummary, GridTask
from emeg.reports.grid_plots import Estimate, budgets, forest
from emeg.reports.markup import (
    Cell,
    Column,
    Figure,
    Picture,
    Row,
    Table,
    drop_empty,
    metric_title,
    number,
    sentence,
    span,
)

RIVALS_SHOWN = 4
"""Rivals drawn beside networks: those with the best mean over tasks."""
WITH_CLASSES = frozenset({"classification", "diagnosis"})
"""Kinds of tasks whose metrics share one axis."""
QUESTIONS = {
    "chance": "above chance",
    "random_weights": "above random weights",
    "permuted_labels": "above permuted labels",
    "best_rival": "above the best rival",
}
VERDICTS = {True: "passed", False: "not passed", None: "not decided: fewer than 5 subjects"}


class Shown(NamedTuple):
    """A score with the evaluation that it comes from."""

    evaluation: str
    score: GridScore

    @property
    def name(self) -> str:
        """Name of the compared model; networks name their product, because two may have one title."""
        shots = self.score.key.examples_per_class
        if shots is None:
            return self.model
        return f"{self.model}, {shots} {'example' if shots == 1 else 'examples'} a class"

    @property
    def model(self) -> str:
        """Name of the compared model without the number of labelled examples."""
        key = self.score.key
        permuted = key.labels == "permuted" and "permuted" not in self.score.title
        parts = [self.score.title, key.condition, "permuted labels" if permuted else ""]
        text = ", ".join(filter(None, parts))
        return f"{text} ({short_name(key.model)})" if key.weights else text

    @property
    def is_own(self) -> bool:
        """Whether this is a pretrained network on the real labels."""
        return self.score.key.weights == "pretrained" and self.score.key.labels == "real"


def short_name(product: str) -> str:
    """Return the first eight digits of a product's hash; the whole name of a product that was named by hand."""
    return product[:8] if re.fullmatch("[0-9a-f]{9,}", product) else product


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
                    f"task {task.id}: evaluations {earlier} and {name} differ in {' and '.join(differing)}, so that"
                    " their figures do not compare; run `emeg evaluate` for one of them with the settings of the other"
                )


def unique(shown: Iterable[Shown]) -> list[Shown]:
    """Return each task and model once: rivals are the same in all evaluations of equal splits."""
    found: dict[tuple[str, str], Shown] = {}
    for one in shown:
        found.setdefault((one.score.task, one.score.key.model_dump_json()), one)
    return list(found.values())


def fullest(shown: Sequence[Shown]) -> list[Shown]:
    """Return the scores with all labels; of a few-shot task those with the largest number of examples."""
    most: dict[str, float] = {}
    for one in shown:
        most[one.score.task] = max(most.get(one.score.task, 0.0), _n_examples(one))
    return [one for one in shown if _n_examples(one) == most[one.score.task]]


def _n_examples(one: Shown) -> float:
    examples = one.score.key.examples_per_class
    return float("inf") if examples is None else float(examples)


def gates_table(grids: Mapping[str, GridSummary]) -> Table:
    """Return a row for each question that a pretrained network was asked."""
    rows = []
    for name, grid in grids.items():
        titles = {(score.task, score.key): Shown(name, score).name for score in grid.scores}
        rows += [_gate(one, titles[one.task, one.key], titles[one.task, one.rival]) for one in grid.comparisons]
    columns = (
        Column("task"),
        Column("model"),
        Column("gate"),
        Column("compared with"),
        Column("difference", is_number=True),
        Column("95 % interval", is_number=True),
        Column("subjects", is_number=True),
        Column("p", is_number=True),
        Column("p, corrected", is_number=True),
        Column("verdict"),
    )
    caption = "Differences of pretrained networks, and of features of stimuli, to their rivals, paired by subject"
    return Table(caption, columns, tuple(rows), "No pretrained network was evaluated.")


def gates_passed(grids: Mapping[str, GridSummary]) -> list[tuple[str, str]]:
    """Return how many results passed each gate, as values and names of tiles.

    A result is one network on one task with one mode, read-out and number of examples.
    """
    everything = [one for grid in grids.values() for one in grid.comparisons]
    tiles = []
    for question, title in QUESTIONS.items():
        own = [one for one in everything if one.question == question]
        if own:
            tiles.append((f"{sum(one.passed is True for one in own)} of {len(own)}", f"results {title}"))
    return tiles


def _gate(one: GridComparison, model: str, rival: str) -> Row:
    found = one.difference
    cells = (
        Cell(one.task),
        Cell(model),
        Cell(QUESTIONS[one.question]),
        Cell(rival),
        Cell(number(None if found is None else found.mean, sign=True)),
        Cell("–" if found is None else span(found.low, found.high, sign=True)),
        Cell("–" if found is None else str(found.n_subjects)),
        Cell(number(one.p)),
        Cell(number(one.p_corrected)),
        Cell(VERDICTS[one.passed], warn=one.passed is not True),
    )
    return Row(cells, strong=one.passed is True)


def scores_table(shown: Sequence[Shown], caption: str, *, with_task: bool, with_evaluation: bool) -> Table:
    """Return a row for each score: mean over runs, and mean over subjects with its interval.

    Parameters
    ----------
    shown : sequence of Shown
    caption : str
    with_task, with_evaluation : bool
        Whether the table names the task and its metric, and the evaluation of each score.
    """
    columns = [Column("task"), Column("metric")] if with_task else []
    columns += [
        Column("model"),
        Column("family"),
        Column("mean ± sd over runs", is_number=True),
        Column("runs", is_number=True),
        Column("mean over subjects", is_number=True),
        Column("95 % interval", is_number=True),
        Column("subjects", is_number=True),
        Column("subjects as units", is_number=True),
        Column("95 % interval, subjects as units", is_number=True),
    ]
    if with_evaluation:
        columns.append(Column("evaluation"))
    rows = [_score(one, with_task=with_task, with_evaluation=with_evaluation) for one in shown]
    return drop_empty(Table(caption, tuple(columns), tuple(rows)))


def _score(one: Shown, *, with_task: bool, with_evaluation: bool) -> Row:
    score, found, whole = one.score, one.score.interval, one.score.by_subject_interval
    spread = "" if score.sd is None else f" ± {score.sd:.3f}"
    metric = "" if score.subject_metric == score.metric else f" ({metric_title(score.subject_metric)})"
    cells = [
        one.name,
        score.family or "–",
        f"{number(score.mean)}{spread}",
        str(score.n_runs),
        f"{number(mean_of_subjects(score))}{metric}",
        span(None if found is None else found.low, None if found is None else found.high),
        str(sum(value is not None for value in score.subjects.values())),
        number(score.by_subject),
        "–" if whole is None else span(whole.low, whole.high),
    ]
    cells = [*([score.task, metric_title(score.metric)] if with_task else []), *cells]
    cells += [short_name(one.evaluation)] if with_evaluation else []
    return Row(tuple(Cell(text) for text in cells), strong=one.is_own)


def mean_of_subjects(score: GridScore) -> float | None:
    """Return the mean of the subjects' metrics; None if no subject has one."""
    values = [value for value in score.subjects.values() if value is not None]
    return sum(values) / len(values) if values else None


def score_figures(shown: Iterable[Shown]) -> list[Figure]:
    """Return the numbers of scores: mean over runs, over subjects, and of every subject."""
    found = []
    for one in shown:
        score = one.score
        own = (one.evaluation, score.task, one.name)
        found.append(Figure("scores", *own, "mean over runs", score.metric, score.mean, n=score.n_runs))
        subjects = {name: value for name, value in score.subjects.items() if value is not None}
        low, high = (None, None) if score.interval is None else (score.interval.low, score.interval.high)
        mean = mean_of_subjects(score)
        found.append(Figure("scores", *own, "subjects", score.subject_metric, mean, low, high, len(subjects)))
        if score.by_subject is not None:
            whole = score.by_subject_interval
            low, high = (None, None) if whole is None else (whole.low, whole.high)
            units = ("subjects as units", score.metric, score.by_subject)
            found.append(Figure("scores", *own, *units, low, high, len(score.subjects)))
        found += [Figure("subjects", *own, name, score.subject_metric, value) for name, value in subjects.items()]
    return found


def gate_figures(grids: Mapping[str, GridSummary]) -> list[Figure]:
    """Return the numbers of gates: differences with their intervals, and corrected p-values."""
    found = []
    for name, grid in grids.items():
        titles = {(score.task, score.key): Shown(name, score).name for score in grid.scores}
        for one in grid.comparisons:
            own = ("gates", name, one.task, titles[one.task, one.key], one.question)
            if one.difference is not None:
                low, high = one.difference.low, one.difference.high
                found.append(Figure(*own, "difference", one.difference.mean, low, high, one.difference.n_subjects))
            if one.p_corrected is not None:
                found.append(Figure(*own, "p, corrected", one.p_corrected))
    return found


def estimate(score: GridScore) -> Estimate | None:
    """Return the mean over subjects with its interval; over runs where subjects have no metric."""
    if score.interval is not None:
        return Estimate(score.interval.mean, score.interval.low, score.interval.high)
    mean = mean_of_subjects(score)
    mean = score.mean if mean is None else mean
    return None if mean is None else Estimate(mean, None, None)


def networks_and_best(shown: Sequence[Shown], tasks: Iterable[str], most: int = RIVALS_SHOWN) -> list[str]:
    """Return the names of all networks and of the `most` rivals with the best mean over some tasks."""
    wanted = set(tasks)
    means: dict[str, list[float]] = {}
    networks = []
    for one in shown:
        found = estimate(one.score)
        if one.score.task not in wanted or one.score.key.model == "chance" or found is None:
            continue
        means.setdefault(one.model, []).append(found.mean)
        if one.score.key.weights:
            networks.append(one.model)
    rivals = sorted((name for name in means if name not in networks), key=lambda name: -_mean(means[name]))
    return [*dict.fromkeys(networks), *rivals[:most]]


def forest_picture(shown: Sequence[Shown], tasks: Mapping[str, GridTask]) -> Picture | None:
    """Draw the tasks with classes, whose metrics share one axis; None if there are none."""
    full = fullest(shown)
    drawn = [
        name
        for name, task in tasks.items()
        if task.kind in WITH_CLASSES and any(one.score.task == name for one in full)
    ]
    names = networks_and_best(full, drawn)
    if not drawn or not names:
        return None
    by_name = {(one.model, one.score.task): estimate(one.score) for one in full}
    series = {name: [by_name.get((name, task)) for task in drawn] for name in names}
    zero = [chance_of(full, tasks[task]) for task in drawn]
    return Picture(
        forest(drawn, series, zero, "mean and 95 % interval over subjects; dotted: chance"),
        f"Means and intervals of {len(names)} models on {len(drawn)} tasks; the table below has the same numbers.",
        "Tasks with classes: networks, and the rivals with the best mean over tasks. The table has all models.",
    )


def chance_of(shown: Iterable[Shown], task: GridTask) -> float:
    """Return what chance reaches on a task: the rival of that name, else one over the number of classes."""
    for one in shown:
        if one.score.task == task.id and one.score.key.model == "chance" and one.score.mean is not None:
            return one.score.mean
    return 1.0 / max(len(task.classes), 1) if task.kind in WITH_CLASSES else 0.0


def budgets_picture(shown: Sequence[Shown], task: GridTask) -> Picture | None:
    """Draw the metric over the number of labelled examples; None if there were fewer than two numbers."""
    own = [one for one in shown if one.score.task == task.id and one.score.key.examples_per_class is not None]
    examples = sorted({one.score.key.examples_per_class or 0 for one in own})
    if len(examples) < 2:
        return None
    by_name: dict[str, dict[int, Estimate | None]] = {}
    for one in own:
        by_name.setdefault(one.model, {})[one.score.key.examples_per_class or 0] = estimate(one.score)
    series = {name: [values.get(n) for n in examples] for name, values in by_name.items()}
    metric = metric_title(task.metric)
    return Picture(
        budgets(examples, series, chance_of(own, task), metric),
        f"{sentence(metric)} of {len(series)} models over {', '.join(map(str, examples))} labelled examples of each"
        " class and subject; the table of the task has the same numbers.",
        "Label budget: mean over subjects, bars: 95 % interval.",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("-inf")
