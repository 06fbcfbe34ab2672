"""Cut the recordings into a frozen corpus, split by subject."""

from prefect import flow

from emeg import data
from emeg.data import ShardConfig, ShardResult
from emeg.flows.engine import ArtifactProgress, publish, show, verb_flow, verb_task


@verb_task("shard")
def run_shard(config: ShardConfig) -> ShardResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("shard") as progress:
        return data.shard(config, progress=progress)


@verb_flow
@flow(name="shard")
def shard_flow(config: ShardConfig) -> ShardResult:
    """Cut the recordings into a frozen corpus, split by subject."""
    result = run_shard(config)
    show("shard", config, result)
    if not result.done_before:
        publish("corpus", config.root, result.corpus)
    return result
