"""Remove old work in progress, logs and replaced report pages of a store."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from emeg import curation
from emeg.curation import TidyConfig, TidyResult
from emeg.flows.engine import ArtifactProgress, show, verb_flow, verb_task
from emeg.flows.missing_stores import skip_without_store


@verb_task("tidy")
def run_tidy(config: TidyConfig) -> TidyResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("tidy") as progress:
        return curation.tidy(config, progress=progress)


@verb_flow
@flow(name="tidy")
def tidy_flow(config: TidyConfig) -> TidyResult | State[Any]:
    """Remove old work in progress, logs and replaced report pages of a store, after showing what they are."""
    if skipped := skip_without_store(config.root):
        return skipped
    planned = curation.tidy(config.model_copy(update={"dry_run": True}))
    show("tidy-plan", config, planned)
    if config.dry_run:
        return planned
    result = run_tidy(config)
    show("tidy", config, result)
    return result
