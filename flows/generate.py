"""Continue held-out recordings, judge the continuations, and write their page."""

from prefect import flow

from emeg.evaluation import generation
from emeg.evaluation.generation import GenerateConfig, GenerateResult
from emeg.flows.engine import ArtifactProgress, publish, show, verb_flow, verb_task
from emeg.flows.evaluate import run_report
from emeg.reports import ReportConfig, ReportResult


@verb_task("generate")
def run_generate(config: GenerateConfig) -> GenerateResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("generate") as progress:
        return generation.generate(config, progress=progress)


@verb_flow
@flow(name="generate")
def generate_flow(config: GenerateConfig) -> ReportResult:
    """Continue held-out recordings, compare them with what was recorded, and write the report."""
    result = run_generate(config)
    show("generate", config, result)
    page = run_report(ReportConfig(root=config.root, evaluation=result.evaluation))
    if not (result.done_before and page.done_before):
        publish("evaluation", config.root, result.evaluation, report=page.report)
    return page
