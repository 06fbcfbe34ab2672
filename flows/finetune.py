"""Fine-tune and probe on a task, tested on people that nothing has seen."""

from prefect import flow

from emeg import evaluation
from emeg.evaluation import FinetuneConfig, FinetuneResult
from emeg.flows.engine import ArtifactProgress, show, verb_task


@verb_task("finetune")
def run_finetune(config: FinetuneConfig) -> FinetuneResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("finetune") as progress:
        return evaluation.finetune(config, progress=progress)


@flow(name="finetune")
def finetune_flow(config: FinetuneConfig) -> FinetuneResult:
    """Fine-tune and probe on a task, tested on people that nothing has seen."""
    result = run_finetune(config)
    show("finetune", config, result)
    return result
