"""Train an encoder on the codes of a corpus, in separate processes."""

from prefect import flow

from emeg import training
from emeg.flows.engine import ArtifactProgress, publish, show, verb_flow, verb_task
from emeg.flows.following import follow_job, show_start
from emeg.training import PretrainConfig, TrainResult


@verb_task("pretrain")
def run_pretrain(config: PretrainConfig) -> TrainResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("pretrain") as progress:
        return training.pretrain(config, progress=progress)


@verb_flow
@flow(name="pretrain")
def pretrain_flow(config: PretrainConfig) -> TrainResult:
    """Train an encoder on the codes of a corpus, in separate processes."""
    show_start("pretrain", config)
    result = run_pretrain(config)
    if result.job:
        result = follow_job("pretrain", config, result)
    show("pretrain", config, result)
    if not result.done_before:
        publish("model", config.root, result.model, role="encoder", network=config.encoder)
    return result
