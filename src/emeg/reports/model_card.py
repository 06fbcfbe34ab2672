"""The model card of a published model: metadata that programs read, and the same facts as text.

The metadata follow the Hugging Face hub's format. `pretraining_datasets` and `evaluation_figures` are additions of
emeg's: leak checks read the first; the second has every figure with its interval, those of rivals included.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from emeg.config import Config
from emeg.evaluation.comparisons import Interval, model_interval
from emeg.evaluation.products import EvaluationSummary, kind_of, read_summary
from emeg.evaluation.protocol.products import GridSummary, read_grid
from emeg.reports.licences import conditions
from emeg.reports.markup import metric_title
from emeg.reports.sections.comparison import Shown, mean_of_subjects
from emeg.store import Store
from emeg.training.dataset_use import FIELD, DatasetUse

FIGURES = "evaluation_figures"
"""Entry of the metadata with all figures, those of rivals included; ``model-index`` has those of the model alone."""
INTENDED_USE = (
    "Research on EEG and MEG: embeddings of recordings, and a start for fine-tuning. The figures hold for the datasets,"
    " devices and subjects named here; measure on your own before you rely on it. Not a medical device: do not use it"
    " for diagnosis or treatment. Do not use it to identify people."
)


class CardFigure(Config):
    """One figure of the card."""

    task: str
    """Name of the task."""
    model: str
    """Compared model, as it is shown to readers."""
    metric: str
    """Name of the metric."""
    value: float
    """Mean over subjects, or over folds where there are too few subjects for an interval."""
    low: float | None
    """Lower end of the 95 % interval over subjects; null for fewer than 5 subjects."""
    high: float | None
    """Upper end of the interval."""
    n_subjects: int
    """Number of subjects."""
    evaluation: str
    """Evaluation that computed it."""
    is_own: bool
    """Whether it is a figure of this model, not of one that it is compared with."""
    datasets: tuple[str, ...] = ()
    """Datasets of the task."""
    kind: str = "classification"
    """Kind of the task."""


class CardFacts(NamedTuple):
    """What a card states."""

    name: str
    kind: str
    licence: str
    datasets: list[DatasetUse]
    figures: list[CardFigure]


def figures_of_model(store: Store, model: str) -> list[CardFigure]:
    """Collect the figures of all evaluations of a model on tasks that the store holds, those of rivals included."""
    found: list[CardFigure] = []
    for evaluation in sorted(store.names("evaluations")):
        kind = kind_of(store, evaluation)
        if kind == "grid":
            grid = read_grid(store, evaluation)
            if grid.provenance.get("model") == model:
                found += figures_of_grid(grid, evaluation)
        if kind != "task":
            continue
        summary = read_summary(store, evaluation)
        if model in (summary.provenance.get("model"), summary.provenance.get("finetuned")):
            found += figures_of_evaluation(summary, evaluation)
    return found


def figures_of_grid(grid: GridSummary, evaluation: str) -> list[CardFigure]:
    """Return the figures of every model on every task of an evaluation over tasks, each with its interval."""
    tasks = {task.id: task for task in grid.tasks}
    found = []
    for shown in (Shown(evaluation, score) for score in grid.scores):
        score = shown.score
        mean = mean_of_subjects(score)
        value, metric = (score.mean, score.metric) if mean is None else (mean, score.subject_metric)
        if value is None:
            continue
        found.append(
            CardFigure(
                task=score.task,
                model=shown.name,
                metric=metric,
                value=value,
                low=None if score.interval is None else score.interval.low,
                high=None if score.interval is None else score.interval.high,
                n_subjects=sum(value is not None for value in score.subjects.values()),
                evaluation=evaluation,
                is_own=shown.is_own,
                datasets=tasks[score.task].datasets,
                kind=tasks[score.task].kind,
            )
        )
        if score.by_subject is not None:
            metric = f"{score.metric}, subjects as units"
            whole = score.by_subject_interval
            low, high = (None, None) if whole is None else (whole.low, whole.high)
            changed = {"metric": metric, "value": score.by_subject, "low": low, "high": high}
            found.append(found[-1].model_copy(update=changed))
    return found


def figures_of_evaluation(summary: EvaluationSummary, evaluation: str) -> list[CardFigure]:
    """Return balanced accuracy of every compared model, with its interval over subjects."""
    if summary.task is None:
        return []
    found = []
    for model in summary.models:
        scores = [value for value in model.subjects.values() if value is not None]
        interval: Interval | None = model_interval(model)
        mean = model.metrics["balanced_accuracy"].mean if "balanced_accuracy" in model.metrics else None
        value = interval.mean if interval is not None else mean
        if value is not None:
            found.append(
                CardFigure(
                    task=summary.task.name,
                    model=model.title,
                    metric="balanced_accuracy",
                    value=value,
                    low=None if interval is None else interval.low,
                    high=None if interval is None else interval.high,
                    n_subjects=len(scores),
                    evaluation=evaluation,
                    is_own=model.name.startswith("pretrained_"),
                    datasets=tuple(sorted({name.partition("/")[0] for name in model.subjects})),
                )
            )
    return found


def write_card(text: str, facts: CardFacts) -> str:
    """Return the README of a hub repository: metadata, the text of the product, intended use and figures.

    Parameters
    ----------
    text : str
        README of the product; metadata at its head are replaced.
    facts : CardFacts
    """
    if text.startswith("---\n"):
        text = text.split("---\n", 2)[-1].lstrip("\n")
    sections = [text.rstrip("\n"), "## Intended use", INTENDED_USE]
    if limits := conditions(facts.datasets):
        sections += ["## Conditions of the licences", "\n".join(f"* {limit}" for limit in limits)]
    if facts.figures:
        sections += ["## Evaluation", _figure_table(facts.figures)]
    head = yaml.safe_dump(metadata(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(sections) + "\n"


def metadata(facts: CardFacts) -> dict[str, Any]:
    """Return the metadata of a card as JSON values."""
    head: dict[str, Any] = {
        "library_name": "emeg",
        "license": facts.licence,
        "tags": ["eeg", "meg", facts.kind],
        "datasets": sorted({use.id for use in facts.datasets}),
        FIELD: [use.model_dump(mode="json") for use in facts.datasets],
    }
    if facts.figures:
        own = [one for one in facts.figures if one.is_own]
        head["model-index"] = [{"name": facts.name, "results": [_result(one) for one in own]}]
        head[FIGURES] = [one.model_dump(mode="json") for one in facts.figures]
    return head


def _result(figure: CardFigure) -> dict[str, Any]:
    """Return one figure in the hub's format."""
    metric: dict[str, Any] = {"type": figure.metric, "name": figure.model, "value": round(figure.value, 4)}
    metric["args"] = {"subjects": figure.n_subjects, "evaluation": figure.evaluation}
    if figure.low is not None and figure.high is not None:
        metric["args"]["interval_95"] = [round(figure.low, 4), round(figure.high, 4)]
    return {
        "task": {"type": f"eeg-meg-{figure.kind}", "name": figure.task},
        "dataset": {"type": ", ".join(figure.datasets) or figure.task, "name": ", ".join(figure.datasets)},
        "metrics": [metric],
    }


def _figure_table(figures: Sequence[CardFigure]) -> str:
    rows = ["| task | model | metric | value | 95 % interval | subjects |", "| --- | --- | --- | --- | --- | --- |"]
    for one in figures:
        metric, comma, unit = one.metric.partition(",")
        interval = "–" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
        cells = (one.task, one.model, f"{metric_title(metric)}{comma}{unit}", f"{one.value:.3f}", interval)
        rows.append(f"| {' | '.join(cells)} | {one.n_subjects} |")
    return "\n".join(rows)
