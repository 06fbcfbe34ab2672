"""From an archive of recordings to standardised recordings in the store.

archive ─listing─▶ Source ─transfer─▶ local files ─readers, sidecars─▶ raw ─sensors─▶ picks
                     └─ known? skip                                       ├─kernel─▶ 0.1-96 Hz, 256 Hz
                                                                          ├─quality─▶ gates, bad channels
                                                                          └─events
                          all of it ─▶ store: recording, events, catalogue row (last), or a quarantine record
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.ingest.archive import ingest
    from emeg.ingest.cluster import check_cluster
    from emeg.ingest.config import IngestConfig, IngestResult, StandardiseConfig
    from emeg.ingest.copying import CopiesConfig, CopiesResult, copies
    from emeg.ingest.counting import QualityCount, count_quality
    from emeg.ingest.fanout import batches, ingest_batch
    from emeg.ingest.listing import Source, list_sources
    from emeg.ingest.recording import Outcome, ingest_recording
    from emeg.ingest.withdrawing import WithdrawConfig, WithdrawResult, withdraw

__all__ = [
    "CopiesConfig",
    "CopiesResult",
    "IngestConfig",
    "IngestResult",
    "Outcome",
    "QualityCount",
    "Source",
    "StandardiseConfig",
    "WithdrawConfig",
    "WithdrawResult",
    "batches",
    "check_cluster",
    "copies",
    "count_quality",
    "ingest",
    "ingest_batch",
    "ingest_recording",
    "list_sources",
    "withdraw",
]

_HOMES = {
    "CopiesConfig": "copying",
    "CopiesResult": "copying",
    "batches": "fanout",
    "check_cluster": "cluster",
    "copies": "copying",
    "QualityCount": "counting",
    "count_quality": "counting",
    "IngestConfig": "config",
    "IngestResult": "config",
    "Outcome": "recording",
    "Source": "listing",
    "StandardiseConfig": "config",
    "ingest": "archive",
    "ingest_batch": "fanout",
    "ingest_recording": "recording",
    "list_sources": "listing",
    "WithdrawConfig": "withdrawing",
    "WithdrawResult": "withdrawing",
    "withdraw": "withdrawing",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"emeg.ingest.{_HOMES[name]}"), name)
