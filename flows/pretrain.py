"""Train BrainOmni on stored tokens, in processes of its own."""

from prefect import flow

from emeg import training
from emeg.flows.engine import ArtifactProgress, show, verb_task
from emeg.training import PretrainConfig, TrainResult


@verb_task("pretrain")
def run_pretrain(config: PretrainConfig) -> TrainResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("pretrain") as progress:
        return training.pretrain(config, progress=progress)


@flow(name="pretrain")
def pretrain_flow(config: PretrainConfig) -> TrainResult:
    """Train BrainOmni on stored tokens, in processes of its own."""
    result = run_pretrain(config)
    show("pretrain", config, result)
    return result
