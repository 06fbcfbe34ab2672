"""Figures of a model beside chance, random weights and classical baselines, and the page that shows them."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_link_artifact

from emeg import evaluation, reports
from emeg.evaluation import EvaluateConfig, EvaluateResult, FinetuneConfig
from emeg.flows.engine import ArtifactProgress, show, verb_task
from emeg.flows.finetune import run_finetune
from emeg.reports import ReportConfig, ReportResult


@verb_task("evaluate")
def run_evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("evaluate") as progress:
        return evaluation.evaluate(config, progress=progress)


@verb_task("report")
def run_report(config: ReportConfig) -> ReportResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("report") as progress:
        return reports.report(config, progress=progress)


@flow(name="evaluate")
def evaluate_flow(config: EvaluateConfig, finetune: FinetuneConfig | None = None) -> ReportResult:
    """Fine-tune first where `finetune` is given, then evaluate and write the report."""
    if finetune is not None:
        tuned = run_finetune(finetune)
        config = config.model_copy(update={"finetuned": tuned.model})
    result = run_evaluate(config)
    show("evaluate", config, result)
    page = run_report(ReportConfig(root=config.root, evaluation=result.evaluation))
    create_link_artifact(key="report", link=Path(page.path).as_uri() if "://" not in page.path else page.path)
    return page
