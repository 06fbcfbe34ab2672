"""Bring an archive into the store, standardised; the rest goes on when a recording is refused."""

from prefect import flow

from emeg import ingest
from emeg.flows.engine import ArtifactProgress, show, show_rows, verb_task
from emeg.ingest import IngestConfig, IngestResult


@verb_task("ingest")
def run_ingest(config: IngestConfig) -> IngestResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("ingest") as progress:
        return ingest.ingest(config, progress=progress)


@flow(name="ingest")
def ingest_flow(config: IngestConfig) -> IngestResult:
    """Bring an archive into the store, standardised; the rest goes on when a recording is refused."""
    result = run_ingest(config)
    show("ingest", config, result)
    show_rows("ingest-quality", ingest.count_quality(config.root, result.dataset), "What is bad, and why")
    return result
