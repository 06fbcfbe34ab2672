"""The verb ``evaluate``: metrics of all models compared, and the tokenizer's reconstruction of unseen subjects."""

import logging
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data import Corpus, TokenSet
from emeg.errors import UserError
from emeg.evaluation.classical.baselines import expected_chance
from emeg.evaluation.classical.folds import BaselineRun, run_baselines
from emeg.evaluation.codebook import count_codes, summarise_codebooks
from emeg.evaluation.configs import EvaluateConfig, EvaluateResult, FinetuneConfig
from emeg.evaluation.package_versions import package_versions
from emeg.evaluation.predictions import NETWORKS, Outcome, predictions, summarise_model
from emeg.evaluation.products import (
    PREDICTIONS,
    EvaluationSummary,
    ModelSummary,
    TaskSummary,
    read_predictions,
    read_summary,
    write_arrays,
    write_summary,
    write_table,
)
from emeg.evaluation.reconstruction import ReconstructionOutcome, choose_segments, judge_reconstruction, tokenize_rows
from emeg.evaluation.task import Ancestry, Task, ancestry, make_task, missing_task
from emeg.hashing import hash_json
from emeg.progress import Progress, silent
from emeg.store import Store, find_model, model_config, n_parameters
from emeg.training.threads import n_threads, torch_threads
from emeg.version import __version__

logger = logging.getLogger(__name__)


class Evaluated(NamedTuple):
    """Products that are evaluated."""

    finetuned: str | None
    model: str
    corpus: Corpus
    made_from: Ancestry
    tokens: str | None
    missing_reason: str
    """Why there is no task."""


class TaskOutcome(NamedTuple):
    """The task table and its predictions."""

    task: TaskSummary
    models: list[ModelSummary]
    predictions: list[dict[str, Any]]


def evaluate(config: EvaluateConfig, *, progress: Progress = silent) -> EvaluateResult:
    """Evaluate a fine-tuned model, random weights, chance and classical baselines on the same folds, and its tokenizer.

    Without a fine-tuned model there is no task table; the product then states the reason and holds the rest. With
    `tasks`, models are compared on these instead, over several seeds (`emeg.evaluation.protocol`).

    Raises
    ------
    UserError
        A product is missing, or recordings of the task's subjects have changed since fine-tuning.
    """
    if config.tasks:
        from emeg.evaluation.protocol.run import evaluate_tasks

        return evaluate_tasks(config, progress=progress)
    store = Store.open(config.root)
    evaluated = find_evaluated(store, config)
    name = _name(config, evaluated)
    done_before = store.has("evaluations", name)
    if not done_before:
        began = time.monotonic()
        with torch_threads(n_threads(n_parameters(store, evaluated.model), config.threads)):
            _evaluate_and_publish(store, config, evaluated, name, progress)
        logger.info("evaluation %s in %.1f s", name, time.monotonic() - began)
    summary = read_summary(store, name)
    return EvaluateResult(
        evaluation=name,
        finetuned=evaluated.finetuned or "",
        task_missing_reason=summary.task_missing_reason,
        metrics=_headline(summary),
        done_before=done_before,
    )


def find_evaluated(store: Store, config: EvaluateConfig) -> Evaluated:
    """Return the products to evaluate: a fine-tuned model if named or the only one of this model and corpus."""
    if config.finetuned is not None:
        finetuned: str | None = find_model(store, "finetuned", config.finetuned)
    else:
        finetuned = _only_finetuned(store, config)
    if finetuned is None:
        model = find_model(store, "encoder", config.model)
        made_from = ancestry(store, model)
        corpus = Corpus.open(store, config.corpus or made_from.corpus)
        reason = missing_task(config.root, corpus.name) or "no model was fine-tuned; run `emeg finetune` first"
    else:
        provenance = model_config(store, finetuned)["provenance"]
        model, reason = str(provenance["model"]), ""
        made_from = ancestry(store, model)
        corpus = Corpus.open(store, str(provenance["corpus"]))
        _check_asked(config, finetuned, model, corpus.name)
    tokens = _tokens(store, made_from, corpus.name)
    return Evaluated(finetuned, model, corpus, made_from, tokens, reason)


def _only_finetuned(store: Store, config: EvaluateConfig) -> str | None:
    """Return the fine-tuned model of a model and corpus, or None."""
    found = []
    for name in store.names("models"):
        card = model_config(store, name)
        provenance = card.get("provenance") or {}
        if (
            card.get("kind") == "finetuned"
            and config.model in (None, provenance.get("model"))
            and config.corpus in (None, provenance.get("corpus"))
        ):
            found.append(name)
    if len(found) > 1:
        raise UserError(
            f"{store.root}: several fine-tuned models match; choose one with --finetuned: {', '.join(found)}"
        )
    return found[0] if found else None


def _check_asked(config: EvaluateConfig, finetuned: str, model: str, corpus: str) -> None:
    for asked, has, what in ((config.model, model, "model"), (config.corpus, corpus, "corpus")):
        if asked not in (None, has):
            raise UserError(
                f"{what}={asked}: {finetuned} was fine-tuned from {what} {has}; omit {what}, or run `emeg finetune`"
            )


def _tokens(store: Store, made_from: Ancestry, corpus: str) -> str | None:
    """Return the tokens of this corpus that the model was trained on, if they exist."""
    if made_from.tokens is None:
        return None
    return made_from.tokens if TokenSet.open(store, made_from.tokens).corpus == corpus else None


def _name(config: EvaluateConfig, evaluated: Evaluated) -> str:
    fields = config.product_fields() | {
        "finetuned": evaluated.finetuned,
        "model": evaluated.model,
        "corpus": evaluated.corpus.name,
        "tokens": evaluated.tokens,
        "missing": evaluated.missing_reason,
        # versions are part of the product, and a baseline that was not installed may be installed later
        "versions": package_versions(),
    }
    return hash_json({"kind": "evaluation", "version": __version__, "config": fields})


def _evaluate_and_publish(
    store: Store, config: EvaluateConfig, evaluated: Evaluated, name: str, progress: Progress
) -> None:
    made, counts = _judge_tokenizer(store, config, evaluated, progress)  # first, for it refuses what cannot be loaded
    outcome = None if evaluated.finetuned is None else judge_task(store, config, evaluated.finetuned, progress=progress)
    summary = EvaluationSummary(
        version=__version__,
        task=None if outcome is None else outcome.task,
        task_missing_reason=evaluated.missing_reason,
        models=() if outcome is None else tuple(outcome.models),
        reconstruction=made.devices,
        examples=made.examples,
        codebook=summarise_codebooks(counts),
        provenance={
            "finetuned": evaluated.finetuned,
            "model": evaluated.model,
            "tokenizer": evaluated.made_from.tokenizer,
            "tokens": evaluated.tokens,
            "corpus": evaluated.corpus.name,
            "trained_on": sorted(evaluated.made_from.corpora),
            "config": config.product_fields(),
            "versions": {"emeg": __version__} | package_versions(),
            "codebook_counts_of": "tokens" if evaluated.tokens else "reconstructed segments",
            "notes": [] if evaluated.made_from.corpora else ["the training subjects of the model are not recorded"],
        },
    )
    with store.publishing("evaluations", name) as folder:
        write_table(folder / "predictions.parquet", [] if outcome is None else outcome.predictions, PREDICTIONS)
        write_arrays(folder / "arrays.npz", made.arrays | {"codebook/counts": counts})
        write_summary(folder, summary)


def judge_task(store: Store, config: EvaluateConfig, finetuned: str, *, progress: Progress = silent) -> TaskOutcome:
    """Compute the metrics of the fine-tuned model's predictions and of the baselines on the same folds."""
    provenance = model_config(store, finetuned)["provenance"]
    recipe = FinetuneConfig.checked(provenance["recipe"] | {"root": config.root}, source=f"model {finetuned}")
    corpus = Corpus.open(store, recipe.corpus)
    task = make_task(store, corpus, recipe.task, n_folds=recipe.n_folds, seed=recipe.seed)
    networks = _network_outcomes(store, finetuned, task)
    models = [summarise_model(task, name, outcomes) for name, outcomes in networks.items()]
    runs, channels = run_baselines(store, task, config.baselines, progress=progress)
    models += [run.summary for run in runs]
    everything = networks | {run.summary.name: run.outcomes for run in runs}
    rows = [row for name, outcomes in everything.items() for row in predictions(task, name, outcomes)]
    return TaskOutcome(_task_summary(task, bool(provenance["task_inferred"]), channels.names, runs), models, rows)


def _network_outcomes(store: Store, finetuned: str, task: Task) -> dict[str, list[Outcome]]:
    """Read the fine-tuned model's predictions and check that the windows are unchanged."""
    table = read_predictions(store, "models", finetuned).to_pylist()
    chosen = model_config(store, finetuned)["provenance"]["chosen"]
    windows = task.windows
    places = list(zip(windows.recordings.tolist(), windows.starts.tolist(), windows.labels.tolist(), strict=True))
    found: dict[str, list[Outcome]] = {}
    for name in (name for name in NETWORKS if name in chosen):
        rows = {(row["fold"], row["window"]): row for row in table if row["model"] == name}
        outcomes = []
        for fold, sides in enumerate(task.folds):
            tested = windows.of(sides.test).tolist()
            own = [rows.get((fold, i)) for i in tested]
            if any(
                row is None or (row["recording"], row["start"], row["label"]) != places[i]
                for i, row in zip(tested, own, strict=True)
            ):
                raise UserError(
                    f"model {finetuned}: recordings of the subjects of fold {fold + 1} changed after fine-tuning;"
                    " run `emeg finetune` again"
                )
            probabilities = np.array([row["probabilities"] for row in own if row is not None], np.float64)
            outcomes.append(Outcome(probabilities, chosen[name][fold]))
        found[name] = outcomes
    return found


def _task_summary(task: Task, inferred: bool, channels: tuple[str, ...], runs: list[BaselineRun]) -> TaskSummary:
    windows = task.windows
    counts = np.bincount(windows.labels, minlength=len(windows.classes))
    expected = [
        expected_chance(windows.labels[windows.of(fold.test)], _shares(task, fold.train)) for fold in task.folds
    ]
    return TaskSummary(
        name=task.config.name,
        classes=windows.classes,
        definition=task.config.model_dump(mode="json"),
        inferred=inferred,
        n_subjects=len(set(windows.subjects.tolist())),
        n_windows=len(windows),
        windows_per_class=dict(zip(windows.classes, counts.tolist(), strict=True)),
        left_out=dict(windows.left_out),
        folds=tuple(task.folds),
        notice=task.notice,
        chance=float(np.mean(expected)),
        baseline_channels=channels,
    )


def _shares(task: Task, subjects: tuple[str, ...]) -> NDArray[np.float64]:
    rows = task.windows.of(subjects)
    return np.bincount(task.windows.labels[rows], minlength=len(task.windows.classes)) / max(len(rows), 1)


def _judge_tokenizer(
    store: Store, config: EvaluateConfig, evaluated: Evaluated, progress: Progress
) -> tuple[ReconstructionOutcome, NDArray[np.int64]]:
    from emeg.models import load_encoder
    from emeg.training.device import pick_device

    device = pick_device(config.device)
    tokenizer = load_encoder(store.local_copy("models", evaluated.model)).tokenizer.to(device).eval()
    if tokenizer.needs_regions:
        evaluated.corpus.add_regions(store)
    chosen = choose_segments(evaluated.corpus, config.segments_per_device, config.seed)
    made = judge_reconstruction(
        store,
        tokenizer,
        evaluated.corpus,
        chosen,
        device=device,
        n_examples=config.n_examples,
        example_channels=config.example_channels,
        progress=progress,
    )
    rows = sorted(row for own in chosen.values() for row in own)
    blocks = (
        _stored_codes(store, evaluated)
        if evaluated.tokens
        else tokenize_rows(tokenizer, evaluated.corpus, rows, device)
    )
    return made, count_codes(blocks, int(tokenizer.sizes.n_codes))


def _stored_codes(store: Store, evaluated: Evaluated) -> Iterator[NDArray[np.uint16]]:
    codes = TokenSet.open(store, evaluated.tokens).codes
    for row in np.flatnonzero(evaluated.corpus.column("split") == "held_out").tolist():
        yield np.asarray(codes[row])


def _headline(summary: EvaluationSummary) -> dict[str, float]:
    scores = {f"{c.name}/balanced_accuracy": c.metrics["balanced_accuracy"].mean for c in summary.models if c.metrics}
    pcc = {f"reconstruction/{d.device}/{d.sensor_type}/pcc": d.pcc for d in summary.reconstruction}
    return {name: value for name, value in (scores | pcc).items() if value is not None}
