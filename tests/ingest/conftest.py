"""Stores made once for the tests of this folder."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from emeg.ingest import IngestConfig, IngestResult, ingest
from emeg.store import CatalogRow, QuarantineRecord, Recording, Store, open_recording, read_catalog, read_quarantine


@dataclass(frozen=True)
class Ingested:
    """A store with its ready and refused recordings, by the first folder of the source or by file name."""

    store: Store
    config: IngestConfig
    result: IngestResult
    rows: dict[str, CatalogRow]
    refused: dict[str, QuarantineRecord]

    def recording(self, name: str) -> Recording:
        return open_recording(self.store, self.rows[name].recording)


def ingested(archive: Path, root: Path, **fields: object) -> Ingested:
    config = IngestConfig.model_validate({"archive": str(archive), "root": str(root), "workers": 0, **fields})
    result = ingest(config)
    store = Store.open(root)
    return Ingested(
        store,
        config,
        result,
        {key(row.source): row for row in read_catalog(store)},
        {key(record.source): record for record in read_quarantine(store)},
    )


def key(source: str) -> str:
    folder, _, name = source.partition("/")
    return name if folder == "broken" else folder


@pytest.fixture(scope="session")
def devices(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    return ingested(shared / "data/devices", tmp_path_factory.mktemp("devices"))
