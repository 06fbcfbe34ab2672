"""What the store keeps of every dataset it was filled from: its facts, its listing, and who was withdrawn.

``catalog/datasets/<dataset>.json``
    licence, snapshot, registry entry, why it must not be pretrained on, datasets with the same people; and, for each
    standardising configuration, which source became which recording
``catalog/listings/<dataset>.parquet``
    every file of the archive at the last ingest: path, size, etag (bucket) or sha256 (folder, recordings' files only)
``catalog/withdrawn/<hash>.json``
    a person whose recordings were removed and are not taken in again
"""

import io
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from emeg.config import Config
from emeg.hashing import hash_json
from emeg.ingest.listing.sources import Listing
from emeg.registry import Registry
from emeg.store import Store

LISTING_SCHEMA = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("etag", pa.string()), ("sha256", pa.string())]
)
"""Columns of a kept listing."""


class KeptDataset(Config):
    """Facts about a dataset in the store."""

    dataset: str
    """Short name."""
    licence: str = ""
    """Licence as declared."""
    snapshot: str = ""
    """Version tag that the archive bore, where it has one."""
    entry: str = ""
    """Id of its entry in the registry; empty where it has none."""
    never_pretrain: str = ""
    """Why it must not be pretrained on; empty where it may."""
    unseen_device: str = ""
    """Why its device is to stay unseen in pretraining; empty where it may be seen."""
    same_people: tuple[str, ...] = ()
    """Other datasets with the same people."""
    suspected: tuple[str, ...] = ()
    """Datasets that are suspected to share people with it."""
    recordings: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Hash of the standardising configuration -> source -> recording, of all sources that are ready."""


class Withdrawn(Config):
    """A person who is not to be in the store."""

    dataset: str
    """Short name of the dataset."""
    subject: str
    """Subject label, as in the catalogue."""


def read_kept(store: Store, dataset: str) -> KeptDataset | None:
    """Facts of a dataset that was ingested before; `None` for another."""
    parts = ("catalog", "datasets", f"{dataset}.json")
    if not store.exists(*parts):
        return None
    return KeptDataset.checked(store.read_json(*parts), source="/".join(parts))


def keep(
    store: Store, listing: Listing, config_hash: str, ready: Mapping[str, str], before: KeptDataset | None
) -> None:
    """Write the dataset's listing and facts, each only where it differs from what is there."""
    registry = Registry.load()
    entry = listing.entry.id if listing.entry is not None else ""
    facts = KeptDataset(
        dataset=listing.dataset,
        licence=listing.licence,
        snapshot=listing.snapshot,
        entry=entry,
        never_pretrain=registry.never_pretrain(entry) if entry else "",
        unseen_device=registry.unseen(entry) if entry else "",
        same_people=tuple(sorted(registry.sharing_with(entry) - {entry})) if entry else (),
        suspected=tuple(sorted(registry.suspected(entry))) if entry else (),
        recordings={**(before.recordings if before is not None else {}), config_hash: dict(sorted(ready.items()))},
    )
    _write_if_new(store, _listing_bytes(listing), "catalog", "listings", f"{listing.dataset}.parquet")
    if facts != before:
        store.write_json(facts.model_dump(mode="json"), "catalog", "datasets", f"{listing.dataset}.json")


def _write_if_new(store: Store, data: bytes, *parts: str) -> None:
    if not store.exists(*parts) or store.read_bytes(*parts) != data:
        store.write_bytes(data, *parts)


def _listing_bytes(listing: Listing) -> bytes:
    known = {file.path: file for source in listing.sources for file in source.all_files}
    files = [known.get(file.path, file) for file in listing.files]
    public = listing.pseudonyms.path
    rows = [{"path": public(f.path), "size": f.size, "etag": f.etag, "sha256": f.sha256} for f in files]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=LISTING_SCHEMA), sink, compression="zstd")
    return sink.getvalue()


def read_withdrawn(store: Store) -> frozenset[Withdrawn]:
    """Everybody who was withdrawn."""
    folder = ("catalog", "withdrawn")
    names = [place.name for place in store.children(*folder)]
    return frozenset(Withdrawn.checked(store.read_json(*folder, name), source=name) for name in names)


def note_withdrawn(store: Store, people: Iterable[Withdrawn]) -> None:
    """Remember that people are not to be taken in again."""
    for person in people:
        fields = person.model_dump(mode="json")
        store.write_json(fields, "catalog", "withdrawn", f"{hash_json(fields)}.json")
