"""Remove old work in progress, logs and replaced report pages of a store."""

from prefect import flow

from emeg import curation
from emeg.curation import TidyConfig, TidyResult
from emeg.flows.engine import ArtifactProgress, show, verb_flow, verb_task


@verb_task("tidy")
def run_tidy(config: TidyConfig) -> TidyResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("tidy") as progress:
        return curation.tidy(config, progress=progress)


@verb_flow
@flow(name="tidy")
def tidy_flow(config: TidyConfig) -> TidyResult:
    """Remove old work in progress, logs and replaced report pages of a store, after showing what they are."""
    planned = curation.tidy(config.model_copy(update={"dry_run": True}))
    show("tidy-plan", config, planned)
    if config.dry_run:
        return planned
    result = run_tidy(config)
    show("tidy", config, result)
    return result
