"""What the store records of every dataset: its facts, its listing, and which subjects were withdrawn.

``catalog/datasets/<dataset>.json``
    name, DOI, licence, snapshot, registry entry, why it must not be pretrained on, datasets with the same people; and,
    for each standardising configuration, which source became which recording
``catalog/listings/<dataset>.parquet``
    every file of the archive at the last ingest: path, size, etag (bucket) or sha256 (folder, recordings' files only)
``catalog/withdrawn/<hash>.json``
    a subject whose recordings were removed and are not ingested again
"""

import io
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from emeg.config import Config
from emeg.hashing import hash_json
from emeg.ingest.listing.sources import Listing
from emeg.ingest.source import ListedFile
from emeg.registry import Registry
from emeg.store import Store
from emeg.store.catalog.parquet import table_of

LISTING_SCHEMA = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("etag", pa.string()), ("sha256", pa.string())]
)
"""Columns of a kept listing."""


class KeptDataset(Config):
    """Facts about a dataset in the store."""

    dataset: str
    """Short name."""
    title: str = ""
    """``Name`` in its `dataset_description.json`; empty where it states none, or an earlier version ingested it."""
    doi: str = ""
    """``DatasetDOI`` in its `dataset_description.json`, without the version."""
    licence: str = ""
    """Licence as declared."""
    snapshot: str = ""
    """Version tag of the archive, where it has one."""
    entry: str = ""
    """Id of its entry in the registry; empty where it has none."""
    never_pretrain: str = ""
    """Why it must not be pretrained on; empty where it may."""
    unseen_device: str = ""
    """Why its device must stay unseen in pretraining; empty where it need not."""
    same_people: tuple[str, ...] = ()
    """Other datasets with the same subjects."""
    suspected: tuple[str, ...] = ()
    """Datasets that may share subjects with it."""
    recordings: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Hash of the standardising configuration -> source -> recording, of all sources that are ready."""


class Withdrawn(Config):
    """A subject whose recordings must not be in the store."""

    dataset: str
    """Short name of the dataset."""
    subject: str
    """Subject label, as in the catalogue."""


def read_kept(store: Store, dataset: str) -> KeptDataset | None:
    """Read the facts of a dataset; `None` where it was not ingested before."""
    parts = ("catalog", "datasets", f"{dataset}.json")
    if not store.exists(*parts):
        return None
    return KeptDataset.checked(store.read_json(*parts), source="/".join(parts))


def read_kept_listing(store: Store, dataset: str) -> dict[str, ListedFile]:
    """Read the listing of a dataset at its last ingest, by public path; empty where it was not ingested before."""
    parts = ("catalog", "listings", f"{dataset}.parquet")
    if not store.exists(*parts):
        return {}
    rows = table_of(store.read_bytes(*parts)).to_pylist()
    return {row["path"]: ListedFile(**{name: row[name] for name in LISTING_SCHEMA.names}) for row in rows}


def keep(store: Store, listing: Listing, recordings: Mapping[str, Mapping[str, str]]) -> None:
    """Write the dataset's listing and facts, each only where it differs from what is in the store.

    Parameters
    ----------
    recordings : mapping
        Hash of a standardising configuration -> source -> recording.
    """
    registry = Registry.load()
    entry = listing.entry.id if listing.entry is not None else ""
    facts = KeptDataset(
        dataset=listing.dataset,
        title=listing.title,
        doi=listing.doi,
        licence=listing.licence,
        snapshot=listing.snapshot,
        entry=entry,
        never_pretrain=registry.never_pretrain(entry) if entry else "",
        unseen_device=registry.unseen(entry) if entry else "",
        same_people=tuple(sorted(registry.sharing_with(entry) - {entry})) if entry else (),
        suspected=tuple(sorted(registry.suspected(entry))) if entry else (),
        recordings={name: dict(sorted(ready.items())) for name, ready in recordings.items()},
    )
    _write_if_new(store, _listing_bytes(listing), "catalog", "listings", f"{listing.dataset}.parquet")
    if facts != read_kept(store, listing.dataset):
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
    """Read which subjects were withdrawn."""
    folder = ("catalog", "withdrawn")
    names = [location.name for location in store.children(*folder)]
    return frozenset(Withdrawn.checked(store.read_json(*folder, name), source=name) for name in names)


def note_withdrawn(store: Store, subjects: Iterable[Withdrawn]) -> None:
    """Record that subjects must not be ingested again."""
    for subject in subjects:
        fields = subject.model_dump(mode="json")
        store.write_json(fields, "catalog", "withdrawn", f"{hash_json(fields)}.json")
