"""Train BrainOmni on stored tokens, in processes of its own."""

from prefect import flow, task

from emeg.flows.engine import RETRY, ArtifactProgress, show
from emeg.training import PretrainConfig, TrainResult, pretrain


@task(name="pretrain", **RETRY)
def run_pretrain(config: PretrainConfig) -> TrainResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("pretrain") as progress:
        return pretrain(config, progress=progress)


@flow(name="pretrain")
def pretrain_flow(config: PretrainConfig) -> TrainResult:
    """Train BrainOmni on stored tokens, in processes of its own."""
    result = run_pretrain(config)
    show("pretrain", config, result)
    return result
