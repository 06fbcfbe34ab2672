"""Fine-tune and probe a model on a task of held-out subjects."""

from prefect import flow

from emeg import evaluation
from emeg.evaluation import FinetuneConfig, FinetuneResult
from emeg.flows.engine import ArtifactProgress, publish, show, verb_flow, verb_task


@verb_task("finetune")
def run_finetune(config: FinetuneConfig) -> FinetuneResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("finetune") as progress:
        return evaluation.finetune(config, progress=progress)


@verb_flow
@flow(name="finetune")
def finetune_flow(config: FinetuneConfig) -> FinetuneResult:
    """Fine-tune and probe a model on a task of held-out subjects."""
    result = run_finetune(config)
    show("finetune", config, result)
    if not result.done_before:
        publish("model", config.root, result.model, role="classifier", network="finetuned")
    return result
