"""Check every product of a store for damage."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from emeg import store
from emeg.flows.engine import ArtifactProgress, show, verb_flow, verb_task
from emeg.flows.missing_stores import skip_without_store
from emeg.store import VerifyConfig, VerifyResult


@verb_task("verify")
def run_verify(config: VerifyConfig) -> VerifyResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("verify") as progress:
        return store.verify(config, progress=progress)


@verb_flow
@flow(name="verify")
def verify_flow(config: VerifyConfig) -> VerifyResult | State[Any]:
    """Check every product of a store for damage; a damaged product fails the run."""
    if skipped := skip_without_store(config.root):
        return skipped
    result = run_verify(config)
    show("verify", config, result)
    if result.failed:
        raise RuntimeError(f"{config.root}: damaged products were found; the result table of this run names them")
    return result
