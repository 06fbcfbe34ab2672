"""What lies on disk or in a bucket: recordings, catalogue, events, quarantine, and publishing of every product.

``publishing`` ──staging folder, fsync, move──▶ ``<root>/<room>/<name>`` ──▶ ``has``, ``names``, ``only``
``write_recording`` ──▶ ``recordings/<id>.zarr`` ──▶ ``open_recording`` ──▶ ``Recording.read``
``publish_row`` ──▶ ``catalog/events/``, then ``catalog/recordings/`` ──▶ ``read_catalog``, ``read_events``
``quarantine`` ──▶ ``catalog/quarantine/`` ──▶ ``read_quarantine``, ``release``

zarr and pyarrow load on first use of a name that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from emeg.store.products import MARKERS, SCHEMA, Store
from emeg.store.records import BadReason, CatalogRow, Event, QuarantineRecord, RecordingAttributes

if TYPE_CHECKING:
    from emeg.store.catalog import (
        catalog_table,
        compact_catalog,
        has_row,
        publish_row,
        quarantine,
        read_catalog,
        read_events,
        read_quarantine,
        release,
    )
    from emeg.store.measures import BadStretch, Measures, bad_stretches
    from emeg.store.models import find_model, model_config
    from emeg.store.questions import CatalogAnswer, CatalogConfig, query_catalog
    from emeg.store.recordings import Recording, open_recording, write_recording
    from emeg.store.verification import VerifyConfig, VerifyResult, verify

_LAZY = {
    "BadStretch": "measures",
    "Measures": "measures",
    "bad_stretches": "measures",
    "CatalogAnswer": "questions",
    "CatalogConfig": "questions",
    "Recording": "recordings",
    "catalog_table": "catalog",
    "compact_catalog": "catalog",
    "find_model": "models",
    "has_row": "catalog",
    "model_config": "models",
    "open_recording": "recordings",
    "publish_row": "catalog",
    "quarantine": "catalog",
    "query_catalog": "questions",
    "read_catalog": "catalog",
    "read_events": "catalog",
    "read_quarantine": "catalog",
    "release": "catalog",
    "VerifyConfig": "verification",
    "VerifyResult": "verification",
    "verify": "verification",
    "write_recording": "recordings",
}

__all__ = [
    "MARKERS",
    "SCHEMA",
    "BadReason",
    "BadStretch",
    "CatalogAnswer",
    "CatalogConfig",
    "CatalogRow",
    "Event",
    "Measures",
    "QuarantineRecord",
    "Recording",
    "RecordingAttributes",
    "Store",
    "VerifyConfig",
    "VerifyResult",
    "bad_stretches",
    "catalog_table",
    "compact_catalog",
    "find_model",
    "has_row",
    "model_config",
    "open_recording",
    "publish_row",
    "quarantine",
    "query_catalog",
    "read_catalog",
    "read_events",
    "read_quarantine",
    "release",
    "verify",
    "write_recording",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f"emeg.store.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
