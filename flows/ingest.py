"""Ingest an archive into the store; a recording that is refused does not stop the others.

On a Dask cluster, batches of recordings are task runs of Prefect's runner for Dask.
"""

import os

from prefect import flow
from prefect.events import emit_event

from emeg import ingest
from emeg.curation import count_quality
from emeg.flows.engine import ArtifactProgress, show, show_rows, verb_flow, verb_task
from emeg.flows.on_dask import as_they_end, on_dask
from emeg.ingest import IngestConfig, IngestResult, Source
from emeg.ingest.workers.processes import Done


@verb_task("ingest-batch")
def run_batch(sources: list[Source], config: IngestConfig) -> list[tuple[Source, ingest.Outcome]]:
    """Call the library, on a worker of the cluster."""
    return ingest.ingest_batch(sources, config)


def by_task_runs(sources: list[Source], config: IngestConfig) -> Done:
    """Submit batches to the flow's task runner and yield the outcome of each source as its batch ends."""
    runs = {run_batch.submit(batch, config): batch for batch in ingest.batches(sources)}
    for batch, found in as_they_end(runs):
        if isinstance(found, str):
            yield from ((source, ingest.Outcome(source.shown, "", "failed", found, made=False)) for source in batch)
        else:
            yield from found


@verb_task("ingest")
def run_ingest(config: IngestConfig) -> IngestResult:
    """Call the library with a progress artifact."""
    with ArtifactProgress("ingest") as progress:
        return ingest.ingest(config, progress=progress, executor=by_task_runs if config.dask else None)


@flow(name="ingest-on-dask")
def ingest_on_dask_flow(config: IngestConfig) -> IngestResult:
    """Ingest an archive on a Dask cluster."""
    return run_ingest(config)


@verb_flow
@flow(name="ingest")
def ingest_flow(config: IngestConfig) -> IngestResult:
    """Ingest an archive into the store, standardised."""
    if config.dask:
        ingest.check_cluster(config.dask)
        result = on_dask(ingest_on_dask_flow, config.dask)(config)
    else:
        result = run_ingest(config)
    show("ingest", config, result)
    show_rows("ingest-quality", count_quality(config.root, result.dataset), "Bad recordings and channels, by reason")
    if result.n_new:
        _announce(config, result)
    return result


def _announce(config: IngestConfig, result: IngestResult) -> None:
    """Send ``emeg.recordings.ingested`` with the counts, and ``emeg.quarantine.high`` where many were refused."""
    n_quarantined, n_sources = len(result.quarantined), len(result.quarantined) + len(result.ready)
    facts = {"n_new": result.n_new, "n_quarantined": n_quarantined, "n_sources": n_sources}
    resource = {
        "prefect.resource.id": f"emeg.dataset.{result.dataset}",
        "prefect.resource.name": result.dataset,
        "emeg.root": config.root,
    }
    payload = {"root": config.root, "dataset": result.dataset, **facts}
    emit_event("emeg.recordings.ingested", resource=resource, payload=payload)
    limit = float(os.environ.get("EMEG_QUARANTINE_SHARE", "1"))
    if n_quarantined > limit * max(n_sources, 1):
        emit_event("emeg.quarantine.high", resource=resource, payload=payload)
