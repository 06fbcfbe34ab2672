"""Compare a model with chance, random weights and classical baselines, judge its continuations; write the report."""

import logging
import os
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_link_artifact

from emeg import evaluation, reports
from emeg.evaluation import EvaluateConfig, EvaluateResult, FinetuneConfig, generation
from emeg.evaluation.generation import GenerateConfig, GenerateResult
from emeg.flows.engine import ArtifactProgress, publish, show, verb_flow, verb_task
from emeg.flows.finetune import run_finetune
from emeg.reports import ReportConfig, ReportResult
from emeg.store import Store, model_config

logger = logging.getLogger(__name__)

REPORTS_URL = "EMEG_REPORTS_URL"
"""Environment variable: address at which the pages of the stores are served; `emeg up` sets it for its runs."""


@verb_task("evaluate")
def run_evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("evaluate") as progress:
        return evaluation.evaluate(config, progress=progress)


@verb_task("generate")
def run_generate(config: GenerateConfig) -> GenerateResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("generate") as progress:
        return generation.generate(config, progress=progress)


@verb_task("report")
def run_report(config: ReportConfig) -> ReportResult:
    """Call the library with a progress artifact, and leave a link to the page beside the run."""
    with ArtifactProgress("report") as progress:
        page = reports.report(config, progress=progress)
    create_link_artifact(key="report", link=report_address(page), link_text=f"Report {page.report}")
    return page


def report_address(page: ReportResult) -> str:
    """Return the address of a page: over HTTP where `REPORTS_URL` is set, else that of the file or of the bucket."""
    if url := os.environ.get(REPORTS_URL):
        return f"{url.rstrip('/')}/{page.report}"
    return page.path if "://" in page.path else Path(page.path).absolute().as_uri()


@verb_flow
@flow(name="evaluate")
def evaluate_flow(config: EvaluateConfig, finetune: FinetuneConfig | None = None) -> ReportResult:
    """Evaluate a model and write the report; with `finetune`, fine-tune it first if its corpus has a task.

    With `config.tasks`, models are compared on these tasks, and nothing is fine-tuned.
    """
    if finetune is not None and not config.tasks and not _has_no_task(finetune):
        tuned = run_finetune(finetune)
        config = config.model_copy(update={"finetuned": tuned.model})
    result = run_evaluate(config)
    show("evaluate", config, result)
    return _publish_page(config.root, result)


@verb_flow
@flow(name="generate")
def generate_flow(config: GenerateConfig) -> ReportResult:
    """Continue held-out recordings, compare them with what was recorded, and write the report."""
    result = run_generate(config)
    show("generate", config, result)
    return _publish_page(config.root, result)


def _publish_page(root: str, result: EvaluateResult | GenerateResult) -> ReportResult:
    """Write the page of an evaluation, and publish both if one of them is new."""
    page = run_report(ReportConfig(root=root, evaluation=result.evaluation))
    if not (result.done_before and page.done_before):
        publish("evaluation", root, result.evaluation, report=page.report)
    return page


def _has_no_task(finetune: FinetuneConfig) -> bool:
    """Return whether the corpus has no task to fine-tune on, and log the reason."""
    corpus = finetune.corpus
    if corpus is None and finetune.model is not None:
        corpus = model_config(Store.open(finetune.root), finetune.model)["provenance"]["corpus"]
    reason = evaluation.missing_task(finetune.root, corpus, finetune.task)
    if reason:
        logger.warning("no fine-tuning: %s", reason)
    return bool(reason)
