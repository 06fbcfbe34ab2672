"""The verb ``finetune``: fine-tune and probe a model, fold by fold, on held-out subjects."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emeg.errors import UserError
from emeg.evaluation.configs import FinetuneConfig, FinetuneResult
from emeg.evaluation.fold_fitting import Plan, Work, fit_works, plan_finetuning
from emeg.evaluation.predictions import Outcome, predictions, summarise_model
from emeg.evaluation.products import HISTORIES, PREDICTIONS, write_table
from emeg.plugins import title_of_model
from emeg.progress import Progress, silent
from emeg.store import Store, model_config, read_catalog
from emeg.training.dataset_use import FIELD, DatasetUse, describe_use, inherited_datasets
from emeg.uri import locate
from emeg.version import __version__

if TYPE_CHECKING:
    from emeg.training import FoldOutcome

logger = logging.getLogger(__name__)

KIND = "finetuned"


def finetune(config: FinetuneConfig, *, progress: Progress = silent) -> FinetuneResult:
    """Fit a model to a task in stratified cross-subject folds, and the same network from random weights.

    All subjects are held out of the corpus: neither the model nor its tokenizer has seen them. Each is tested once.
    Settings are chosen on the validation subjects of each fold.

    Raises
    ------
    UserError
        No task can be created, a subject was used in pretraining, or a product is missing.
    """
    store = Store.open(config.root)
    plan = plan_finetuning(store, config)
    done_before = store.has("models", plan.name)
    if not done_before:
        began = time.monotonic()
        _fit_and_publish(store, plan, progress)
        logger.info("fine-tuned %s in %.1f s", plan.name, time.monotonic() - began)
    metrics = model_config(store, plan.name)["provenance"]["metrics"]
    return FinetuneResult(
        model=plan.name,
        task=plan.task.config.name,
        n_subjects=len(set(plan.task.windows.subjects.tolist())),
        n_windows=len(plan.task.windows),
        n_folds=len(plan.task.folds),
        metrics={name: value for name, value in metrics.items() if value is not None},
        done_before=done_before,
    )


def _fit_and_publish(store: Store, plan: Plan, progress: Progress) -> None:
    from safetensors.torch import save_file

    outcomes: dict[str, list[Outcome]] = {}
    histories: list[dict[str, Any]] = []
    best: tuple[float, Work, dict[str, Any]] | None = None
    for work, outcome in _outcomes(store, plan, progress):
        outcomes.setdefault(work.name, []).append(Outcome(outcome.probabilities, dict(outcome.chosen)))
        histories += _history(work, outcome)
        if outcome.state is not None and (best is None or outcome.validation_balanced_accuracy > best[0]):
            best = outcome.validation_balanced_accuracy, work, outcome.state
    if best is None:
        raise UserError("modes is empty; choose full, probe or both")
    with store.publishing("models", plan.name) as folder:
        state = {name: value.detach().cpu().clone().contiguous() for name, value in best[2].items()}
        save_file(state, folder / "model.safetensors")
        rows = [row for name, found in outcomes.items() for row in predictions(plan.task, name, found)]
        write_table(folder / "predictions.parquet", rows, PREDICTIONS)
        write_table(folder / "histories.parquet", histories, HISTORIES)
        _write_card(store, folder, plan, model_config(store, str(plan.config.model)), outcomes, best[1], best[0])


def _outcomes(store: Store, plan: Plan, progress: Progress) -> Iterator[tuple[Work, "FoldOutcome"]]:
    """Fit every network to every fold; keep the weights of the pretrained networks in the first mode."""
    config = plan.config
    kinds = ("pretrained", "random") if config.random_weights else ("pretrained",)
    works = [
        Work(fold, weights, mode) for weights in kinds for mode in config.modes for fold in range(len(plan.task.folds))
    ]
    for number, (work, outcome) in enumerate(zip(works, fit_works(store, plan, works), strict=True), 1):
        progress(number, len(works), f"{work.weights} weights, {work.mode}, fold {work.fold + 1}")
        yield work, outcome


def _history(work: Work, outcome: "FoldOutcome") -> list[dict[str, Any]]:
    return [
        {"model": work.name, "fold": work.fold, "row": row, "name": name, "value": float(value)}
        for row, values in enumerate(outcome.history)
        for name, value in values.items()
    ]


def _write_card(
    store: Store,
    folder: Path,
    plan: Plan,
    of_model: dict[str, Any],
    outcomes: dict[str, list[Outcome]],
    kept: Work,
    validated: float,
) -> None:
    config, task = plan.config, plan.task
    summaries = [summarise_model(task, name, found) for name, found in outcomes.items()]
    metrics = {f"{f.weights}/{f.mode}/{metric}": values.mean for f in summaries for metric, values in f.metrics.items()}
    card = {
        "kind": KIND,
        "version": __version__,
        "config": of_model.get("config"),
        "tokenizer": of_model.get("tokenizer"),
        "provenance": {
            "verb": "finetune",
            "recipe": config.product_fields(),
            "model": config.model,
            "corpus": config.corpus,
            "tokenizer": plan.ancestry.tokenizer,
            "trained_on": sorted(plan.ancestry.corpora),
            FIELD: [use.model_dump(mode="json") for use in _datasets(store, plan, kept)],
            "task_inferred": task.inferred,
            "classes": list(task.windows.classes),
            "folds": [fold.map(list).sides() for fold in task.folds],
            "chosen": {name: [found.setting for found in every] for name, every in outcomes.items()},
            "weights_of": kept._asdict() | {"validation_balanced_accuracy": validated},
            "metrics": metrics,
        },
    }
    (locate(folder) / "config.json").write_json(card)
    (locate(folder) / "README.md").write_bytes(_readme(plan, of_model, metrics, kept).encode())


def _datasets(store: Store, plan: Plan, kept: Work) -> list[DatasetUse]:
    """List the datasets of the published weights: those of the encoder, and those of the fold they were fitted on."""
    windows = plan.task.windows
    rows = windows.of(plan.task.folds[kept.fold].train)
    subjects, recorded = windows.subjects[rows], windows.recordings[rows]
    names = np.array([str(subject).partition("/")[0] for subject in subjects.tolist()], str)
    hours = {name: float(np.sum(names == name)) * plan.task.config.window_s / 3600 for name in sorted(set(names))}
    licence_of = {row.recording: row.licence for row in read_catalog(store)}
    found = inherited_datasets(store, [plan.config.model] if plan.config.model else [])
    for name, duration in hours.items():
        own = names == name
        recordings = set(recorded[own].tolist())
        found.append(
            describe_use(
                name,
                "finetuning",
                subjects=len(set(subjects[own].tolist())),
                hours=duration,
                licences={licence_of.get(recording, "") for recording in recordings},
            )
        )
    return found


def _readme(plan: Plan, of_model: dict[str, Any], metrics: dict[str, float | None], kept: Work) -> str:
    task = plan.task
    rows = [f"| {name} | {value:.3f} |" for name, value in sorted(metrics.items()) if value is not None]
    return "\n".join(
        [
            f"# {task.config.name}: {title_of_model(of_model)} {plan.config.model}, fine-tuned",
            "",
            f"Classes: {', '.join(task.windows.classes)}. {len(task.windows)} windows of {task.config.window_s:g} s of"
            f" {len(set(task.windows.subjects.tolist()))} subjects held out of corpus {plan.config.corpus}, in"
            f" {len(task.folds)} folds by subject. `model.safetensors` holds the weights of fold {kept.fold + 1}"
            f" ({kept.mode}), which validated best; `predictions.parquet` holds the predictions of every fold for its"
            " test subjects. Made by emeg " + __version__ + ".",
            "",
            "| mean over folds | value |",
            "| --- | --- |",
            *rows,
            "",
            "Not a medical device.",
            "",
        ]
    )
