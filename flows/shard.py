"""Cut the recordings into a frozen corpus, split by person."""

from prefect import flow

from emeg import data
from emeg.data import ShardConfig, ShardResult
from emeg.flows.engine import ArtifactProgress, show, verb_task


@verb_task("shard")
def run_shard(config: ShardConfig) -> ShardResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("shard") as progress:
        return data.shard(config, progress=progress)


@flow(name="shard")
def shard_flow(config: ShardConfig) -> ShardResult:
    """Cut the recordings into a frozen corpus, split by person."""
    result = run_shard(config)
    show("shard", config, result)
    return result
