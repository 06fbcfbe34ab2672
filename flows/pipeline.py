"""The pipeline from archive to report, as one flow of the other verbs."""

import logging
from typing import Any, TypeVar

from prefect import flow
from prefect.settings import (
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from emeg import evaluation, synthetic
from emeg.config import Config, option, runtime_field
from emeg.data import ShardConfig, load_task, single_task, why_not_single
from emeg.errors import StoppedError
from emeg.evaluation import EvaluateConfig, FinetuneConfig
from emeg.flows.engine import ArtifactProgress, show, verb_flow, verb_task
from emeg.flows.evaluate import run_evaluate, run_report
from emeg.flows.finetune import run_finetune
from emeg.flows.ingest import run_ingest
from emeg.flows.pretrain import run_pretrain
from emeg.flows.shard import run_shard
from emeg.flows.tokenize import run_tokenize
from emeg.flows.train_tokenizer import run_train_tokenizer
from emeg.ingest import IngestConfig
from emeg.progress import Progress, silent
from emeg.reports import ReportConfig, ReportResult
from emeg.synthetic import SynthesizeConfig, SynthesizeResult
from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig
from emeg.training.configs import TrainingConfig
from emeg.training.division import micro_batches_of
from emeg.training.product_names import encoder_network

DEMO_SETTINGS = {
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
    PREFECT_SERVER_ANALYTICS_ENABLED: False,
    PREFECT_LOGGING_EXTRA_LOGGERS: "emeg",
}
"""A slow machine needs longer to start the embedded server; nothing is sent anywhere; library logs are shown."""

logger = logging.getLogger(__name__)

MOST_RANKS = 2
"""Ranks up to which a training gives the same model bit for bit as one rank."""

FINAL_SEGMENTS = 8
"""Segments of each device that a training reconstructs at its end; the evaluation reconstructs more."""

C = TypeVar("C", bound=TrainingConfig)


class PipelineConfig(Config):
    """One archive from ingest to report. Run a verb alone to set its other options."""

    root: str = option("demo", group="data")
    """Store: a folder or any fsspec URI."""
    archive: str | None = option(None, group="data")
    """BIDS folder or URI. Default: a simulated archive is written beside the store."""
    montage: str | None = option(None, group="data")
    """MNE montage for electrode names that the 10-05 system does not contain, such as biosemi128."""
    segment_s: float = option(10.0, group="data")
    """Length of a corpus segment, s."""
    held_out: float = option(0.5, group="data")
    """Share of subjects kept for the task."""
    tokenizer: str = option("braintokenizer-emeg-nano", group="model")
    """Recipe of the tokenizer: a name or a .yaml file."""
    brainomni: str = option("brainomni-waveform-nano", group="model")
    """Recipe of the encoder, BrainOmni by default: a name or a .yaml file."""
    task: str | None = option(None, group="tasks")
    """Task to fine-tune and compare on: a name of `emeg tasks`, or a YAML file. Default: inferred from the events.
    A task that fine-tuning cannot do, such as a regression, is evaluated as by `emeg evaluate --tasks`."""
    tokenizer_steps: int | None = option(None, group="training")
    """Optimiser steps of the tokenizer. Default: the recipe's."""
    pretrain_steps: int | None = option(None, group="training")
    """Optimiser steps of the encoder. Default: the recipe's."""
    seed: int = option(0, group="training")
    """Seed of splits, order, initial weights and draws."""
    workers: int = runtime_field(2, ge=0)
    """Processes of each step that can use several; 0: in the calling process. The products are the same for any number.
    Training uses as many ranks as divide its micro-batches, two with the default recipes."""


@verb_task("synthesize")
def run_synthesize(config: SynthesizeConfig) -> SynthesizeResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("synthesize") as progress:
        return synthetic.synthesize(config, progress=progress)


@verb_flow
@flow(name="pipeline")
def pipeline_flow(config: PipelineConfig) -> ReportResult:
    """Run every step from archive to report. A step whose product exists already is skipped."""
    root, seed = config.root, config.seed
    archive = config.archive
    if archive is None:
        archive = run_synthesize(SynthesizeConfig(out=f"{root.rstrip('/')}-archive", seed=seed)).out
    run_ingest(IngestConfig(archive=archive, root=root, montage=config.montage, workers=config.workers))
    corpus = run_shard(ShardConfig(root=root, segment_s=config.segment_s, held_out=config.held_out, seed=seed)).corpus
    workers = max(1, config.workers)
    of_tokenizer = TrainTokenizerConfig(
        root=root,
        corpus=corpus,
        recipe=config.tokenizer,
        seed=seed,
        final_segments=FINAL_SEGMENTS,
        **_given(steps=config.tokenizer_steps),
    )
    tokenizer = run_train_tokenizer(_shared_by_ranks(of_tokenizer, workers)).model
    of_model = PretrainConfig(root=root, recipe=config.brainomni, seed=seed, **_given(steps=config.pretrain_steps))
    sizes: Any = encoder_network(of_model)
    tokens = run_tokenize(
        TokenizeConfig(root=root, corpus=corpus, tokenizer=tokenizer, overlap=sizes.overlap_ratio, workers=workers)
    ).tokens
    of_model = of_model.model_copy(update={"tokens": tokens})
    model = run_pretrain(_shared_by_ranks(of_model, workers)).model
    evaluated = _evaluated(config, model, corpus)
    page = run_report(ReportConfig(root=root, evaluation=evaluated))
    show("pipeline", config, page)
    return page


def _evaluated(config: PipelineConfig, model: str, corpus: str) -> str:
    """Return the evaluation of a model, fine-tuned first; a task that fine-tuning cannot do is evaluated without."""
    root, seed = config.root, config.seed
    recipe = None if config.task is None else load_task(config.task)
    if recipe is not None and config.task is not None and (reason := why_not_single(recipe)):
        logger.warning("task %s: no fine-tuning, which %s; frozen features are evaluated instead", recipe.id, reason)
        return run_evaluate(EvaluateConfig(root=root, model=model, tasks=(config.task,))).evaluation
    task = None if recipe is None else single_task(recipe)
    finetuned = None
    if task is not None or not evaluation.missing_task(root, corpus):
        finetuning = FinetuneConfig(
            root=root, model=model, corpus=corpus, task=task, seed=seed, workers=max(1, config.workers)
        )
        finetuned = run_finetune(finetuning).model
    single = EvaluateConfig(root=root, finetuned=finetuned, model=model, corpus=corpus, seed=seed)
    return run_evaluate(single).evaluation


def _shared_by_ranks(config: C, workers: int) -> C:
    """Return the configuration with the most ranks, up to `workers`, that can share a step; unchanged on a GPU."""
    from emeg.training.device import pick_device

    if pick_device(config.device).type != "cpu":
        return config
    ranks = max(n for n in range(1, min(workers, MOST_RANKS) + 1) if micro_batches_of(config) % n == 0)
    return config.model_copy(update={"processes": ranks})


def _given(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def demo(config: PipelineConfig, *, progress: Progress = silent) -> ReportResult:
    """Run the pipeline on the server that Prefect is set to, its embedded one by default.

    Each verb logs its own progress; `progress` receives the start and the end of the pipeline.
    """
    progress(0, 1, f"archive {config.archive or '(synthetic)'} to a report below {config.root}")
    with temporary_settings(DEMO_SETTINGS):
        try:
            page = pipeline_flow(config)
        except SystemExit as error:
            if isinstance(error.__cause__, StoppedError):
                raise error.__cause__ from error
            raise
    logging.getLogger("prefect").setLevel(logging.WARNING)  # else its last lines follow the path of the page
    progress(1, 1, "report")
    return page
