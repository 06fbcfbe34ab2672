"""The whole way, archive to report, as one flow of the other verbs."""

import logging
from typing import Any

from prefect import flow
from prefect.settings import (
    PREFECT_LOGGING_EXTRA_LOGGERS,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from emeg import evaluation, synthetic
from emeg.config import Config, runtime_field
from emeg.data import ShardConfig
from emeg.evaluation import EvaluateConfig, FinetuneConfig
from emeg.flows.engine import ArtifactProgress, show, verb_task
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

DEMO_SETTINGS = {
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
    PREFECT_SERVER_ANALYTICS_ENABLED: False,
    PREFECT_LOGGING_EXTRA_LOGGERS: "emeg",
}
"""A slow machine needs longer to start the embedded server; nothing is sent anywhere; library logs are shown."""


class PipelineConfig(Config):
    """The way of one archive. What a verb offers beyond this is set by running that verb by itself."""

    root: str = "demo"
    """Store: a folder or any fsspec URI."""
    archive: str | None = None
    """BIDS folder or URI. None: a synthetic archive is written beside the store."""
    montage: str | None = None
    """MNE montage for channel names that no standard knows."""
    segment_s: float = 10.0
    """Length of a corpus segment, s."""
    held_out: float = 0.5
    """Share of people kept for the task."""
    tokenizer: str = "braintokenizer-nano"
    """Recipe of the tokenizer."""
    tokenizer_steps: int | None = None
    """Steps of the tokenizer. None: the recipe's."""
    brainomni: str = "brainomni-nano"
    """Recipe of BrainOmni."""
    pretrain_steps: int | None = None
    """Steps of BrainOmni. None: the recipe's."""
    seed: int = 0
    """Seed of splits, order, initial weights and draws."""
    workers: int = runtime_field(2, ge=0)
    """Processes of ingest; 0: in the calling process."""


@verb_task("synthesize")
def run_synthesize(config: SynthesizeConfig) -> SynthesizeResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("synthesize") as progress:
        return synthetic.synthesize(config, progress=progress)


@flow(name="pipeline")
def pipeline_flow(config: PipelineConfig) -> ReportResult:
    """Go the whole way, archive to report. What is done already is found by name and left alone."""
    root, seed = config.root, config.seed
    archive = config.archive
    if archive is None:
        archive = run_synthesize(SynthesizeConfig(out=f"{root.rstrip('/')}-archive", seed=seed)).out
    run_ingest(IngestConfig(archive=archive, root=root, montage=config.montage, workers=config.workers))
    corpus = run_shard(ShardConfig(root=root, segment_s=config.segment_s, held_out=config.held_out, seed=seed)).corpus
    tokenizer = run_train_tokenizer(
        TrainTokenizerConfig(
            root=root, corpus=corpus, recipe=config.tokenizer, seed=seed, **_given(steps=config.tokenizer_steps)
        )
    ).model
    tokens = run_tokenize(TokenizeConfig(root=root, corpus=corpus, tokenizer=tokenizer)).tokens
    model = run_pretrain(
        PretrainConfig(
            root=root, tokens=tokens, recipe=config.brainomni, seed=seed, **_given(steps=config.pretrain_steps)
        )
    ).model
    finetuned = None
    if not evaluation.missing_task(root, corpus):
        finetuned = run_finetune(FinetuneConfig(root=root, model=model, corpus=corpus, seed=seed)).model
    evaluated = run_evaluate(EvaluateConfig(root=root, finetuned=finetuned, model=model, corpus=corpus, seed=seed))
    page = run_report(ReportConfig(root=root, evaluation=evaluated.evaluation))
    show("pipeline", config, page)
    return page


def _given(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def demo(config: PipelineConfig, *, progress: Progress = silent) -> ReportResult:
    """Run the pipeline on the server that Prefect is set to, its embedded one by default.

    Each verb tells its own progress in the log; `progress` hears of the whole.
    """
    progress(0, 1, f"archive {config.archive or '(synthetic)'} to a report below {config.root}")
    with temporary_settings(DEMO_SETTINGS):
        page = pipeline_flow(config)
    logging.getLogger("prefect").setLevel(logging.WARNING)  # the server's farewell would follow the page's path
    progress(1, 1, "report")
    return page
