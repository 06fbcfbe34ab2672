"""Bring an archive into the store, standardised; the rest goes on when a recording is refused.

With a Dask cluster, batches of recordings are task runs on it, through Prefect's own runner for Dask.
"""

from prefect import flow

from emeg import ingest
from emeg.curation import count_quality
from emeg.flows.engine import ArtifactProgress, show, show_rows, verb_task
from emeg.flows.on_dask import as_they_end, on_dask
from emeg.ingest import IngestConfig, IngestResult, Source
from emeg.ingest.workers.executor import Done


@verb_task("ingest-batch")
def run_batch(sources: list[Source], config: IngestConfig) -> list[tuple[Source, ingest.Outcome | str]]:
    """Call the library, on a worker of the cluster."""
    return ingest.ingest_batch(sources, config)


def by_task_runs(sources: list[Source], config: IngestConfig) -> Done:
    """Give the flow's runner batches, and their outcomes as they end."""
    runs = {run_batch.submit(batch, config): batch for batch in ingest.batches(sources)}
    for batch, found in as_they_end(runs):
        yield from found if not isinstance(found, str) else ((source, found) for source in batch)


@verb_task("ingest")
def run_ingest(config: IngestConfig) -> IngestResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("ingest") as progress:
        return ingest.ingest(config, progress=progress, hands=by_task_runs if config.dask else None)


@flow(name="ingest-on-dask")
def ingest_on_dask_flow(config: IngestConfig) -> IngestResult:
    """Bring an archive into the store on a Dask cluster."""
    return run_ingest(config)


@flow(name="ingest")
def ingest_flow(config: IngestConfig) -> IngestResult:
    """Bring an archive into the store, standardised; the rest goes on when a recording is refused."""
    if config.dask:
        ingest.check_cluster(config.dask)
        result = on_dask(ingest_on_dask_flow, config.dask)(config)
    else:
        result = run_ingest(config)
    show("ingest", config, result)
    show_rows("ingest-quality", count_quality(config.root, result.dataset), "What is bad, and why")
    return result
