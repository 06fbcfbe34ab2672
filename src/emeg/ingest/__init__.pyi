from .archive import ingest as ingest
from .config import IngestConfig as IngestConfig, IngestResult as IngestResult, StandardiseConfig as StandardiseConfig
from .listing.sources import list_sources as list_sources
from .source import Source as Source
from .outcome import Outcome as Outcome
from .recording import ingest_recording as ingest_recording
from .workers.dask_cluster import check_cluster as check_cluster
from .workers.executor import batches as batches, ingest_batch as ingest_batch
