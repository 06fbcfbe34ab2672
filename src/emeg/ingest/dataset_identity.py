"""Decide whether an archive holds the dataset that the store has under the same name.

Folders are often called ``bids``, ``raw`` or ``data``, so a name does not identify a dataset. Its description (``Name``
and ``DatasetDOI`` of ``dataset_description.json``), its location and the content of its recordings do.

====================  ==================  ===========================================================================
location              description         the archive is the store's dataset if
====================  ==================  ===========================================================================
as at an earlier run  agrees              always: its files may all have changed
as at an earlier run  says another name   at least half of the recordings at the same paths have the same content
another               agrees, or unknown  at least half of the recordings at the same paths have the same content
another               says another name   never
====================  ==================  ===========================================================================

Locations are kept as hashes in ``runs/``, since paths may hold people's names.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emeg.errors import TransientError, UserError
from emeg.hashing import hash_json, sha256_bytes, sha256_file
from emeg.ingest.config import IngestConfig
from emeg.ingest.dataset_records import KeptDataset, read_kept, read_kept_listing
from emeg.ingest.listing.sources import Listing
from emeg.ingest.source import ListedFile
from emeg.ingest.transfer.checksums import file_key, hashes_table
from emeg.ingest.transfer.download import read_listed
from emeg.store import Store, read_catalog
from emeg.uri import Location, locate

_SAMPLED = 4
"""Number of recordings whose content is read if two listings cannot be compared."""

_SAMPLED_BYTES = 64 * 2**20
"""Files above this size are not fetched from a bucket for a comparison."""

_ALIKE_SIZES, _LEAST_FILES = 0.9, 5
"""Share and least number of files that must have the same path and size if no content can be compared."""

_MD5 = re.compile(r"[0-9a-f]{32}")


def was_here(store: Store, listing: Listing, config: IngestConfig) -> bool:
    """Return whether an earlier run ingested the dataset from this location."""
    origins = _origins(store, listing.dataset)
    if _origin(config) in origins:
        return True
    root, table = locate(config.archive), hashes_table(listing.dataset)
    if not root.is_local or not store.exists(*table):  # stores of earlier versions have this table alone
        return False
    known = store.read_json(*table)
    return any(file_key(root.local_path() / file.path) in known for file in listing.files)


def note_origin(store: Store, listing: Listing, config: IngestConfig) -> None:
    """Record that the dataset is ingested from this location."""
    origins = _origins(store, listing.dataset)
    if _origin(config) not in origins:
        store.write_json(sorted({*origins, _origin(config)}), *_origins_table(listing.dataset))


def refuse_clash(store: Store, listing: Listing, config: IngestConfig, *, here: bool) -> None:
    """Raise if the store's dataset of this name is another one than the archive's.

    Parameters
    ----------
    here : bool
        Whether an earlier run ingested the dataset from this location.

    Raises
    ------
    UserError
        It is another dataset; nothing was changed.
    """
    kept = read_kept(store, listing.dataset)
    if config.same_dataset:
        return
    if kept is None:
        if here or all(row.dataset != listing.dataset for row in read_catalog(store)):
            return
        kept = KeptDataset(dataset=listing.dataset)  # an earlier version's first run was interrupted
    other = _says_other(kept, listing)
    if here and not other:
        return
    if other and not here:
        raise _clash(listing, config, other)
    if not _same_content(store, kept, listing, locate(config.archive)):
        raise _clash(
            listing, config, other or "the recordings at the same paths have other content, or none is at the same path"
        )


def _clash(listing: Listing, config: IngestConfig, why: str) -> UserError:
    wanted = re.sub(r"[^A-Za-z0-9.]+", "-", listing.title).strip("-.")
    name = wanted if wanted and wanted != listing.dataset else f"{listing.dataset}-2"
    return UserError(
        f"{config.archive}: the store holds another dataset that is called {listing.dataset!r} ({why}); nothing was"
        f" changed. Give this one a name of its own with --dataset {name}, or, if it is a newer version of the dataset"
        " in the store, add --same-dataset"
    )


def _says_other(kept: KeptDataset, listing: Listing) -> str:
    """Return which statements about the dataset differ; empty if none does, or one side states nothing."""
    for what, ours, theirs in (("DatasetDOI", listing.doi, kept.doi), ("Name", listing.title, kept.title)):
        if ours and theirs and ours != theirs:
            return f"its {what} is {theirs!r}, the archive's is {ours!r}"
    return ""


def _same_content(store: Store, kept: KeptDataset, listing: Listing, root: Location) -> bool:
    """Return whether at least half of the recordings at the same paths have the content that the store knows."""
    known = read_kept_listing(store, listing.dataset)
    leads = [max(source.files, key=lambda file: file.size) for source in listing.sources if source.files]
    pairs = [(file, known[path]) for file in leads if (path := listing.pseudonyms.path(file.path)) in known]
    if not pairs:  # renamed as a whole: the content is found under other paths
        hashes = {file.sha256 for file in known.values() if file.sha256}
        return any(file.sha256 in hashes for file in leads)
    found = _compare(pairs, root)
    if found.same or found.different:
        return found.same > 0 and found.same >= found.different
    names = bool(listing.title and listing.title == kept.title) or bool(listing.doi and listing.doi == kept.doi)
    return names or _alike_sizes(known, listing)


def _alike_sizes(known: Mapping[str, ListedFile], listing: Listing) -> bool:
    common = [(f, known[path]) for f in listing.files if (path := listing.pseudonyms.path(f.path)) in known]
    same = sum(file.size == before.size for file, before in common)
    return same >= _LEAST_FILES and same >= _ALIKE_SIZES * len(common)


class _Comparison(NamedTuple):
    """Numbers of files with the same and with other content; nothing is known about the remaining files."""

    same: int
    different: int


def _compare(pairs: list[tuple[ListedFile, ListedFile]], root: Location) -> _Comparison:
    """Compare files by their listings; where these allow no comparison, read a few and estimate the rest."""
    verdicts = [(_by_listing(file, before), file, before) for file, before in pairs]
    same, different = (sum(verdict is wanted for verdict, _, _ in verdicts) for wanted in (True, False))
    unknown = [(file, before) for verdict, file, before in verdicts if verdict is None]
    if same or not unknown:
        return _Comparison(same, different)
    smallest = sorted(unknown, key=lambda pair: pair[0].size)[:_SAMPLED]
    read = [verdict for file, before in smallest if (verdict := _by_reading(file, before, root)) is not None]
    if read:
        same = round(len(unknown) * sum(read) / len(read))
        different += len(unknown) - same
    return _Comparison(same, different)


def _by_listing(file: ListedFile, before: ListedFile) -> bool | None:
    """Compare a file's content in two listings; `None` where they state nothing comparable."""
    if file.size != before.size:
        return False
    if file.sha256 and before.sha256:
        return file.sha256 == before.sha256
    if file.etag and file.etag == before.etag:
        return True
    if _MD5.fullmatch(file.etag) and _MD5.fullmatch(before.etag):
        return False
    return None


def _by_reading(file: ListedFile, before: ListedFile, root: Location) -> bool | None:
    """Compare a file with what is known of its earlier content, by reading it."""
    path: Path | None = root.local_path() / file.path if root.is_local else None
    try:
        if before.sha256 and path is not None:
            return sha256_file(path) == before.sha256
        if before.sha256 and file.size <= _SAMPLED_BYTES:
            return sha256_bytes(read_listed(root, file)) == before.sha256
        if _MD5.fullmatch(before.etag) and path is not None:
            with path.open("rb") as opened:
                return hashlib.file_digest(opened, "md5").hexdigest() == before.etag
    except (OSError, TransientError):
        return None
    return None


def _origin(config: IngestConfig) -> str:
    root = locate(config.archive)
    return hash_json(str(root.local_path().resolve() if root.is_local else root))


def _origins(store: Store, dataset: str) -> list[str]:
    table = _origins_table(dataset)
    found: Any = store.read_json(*table) if store.exists(*table) else []
    return [str(origin) for origin in found]


def _origins_table(dataset: str) -> tuple[str, str, str]:
    return ("runs", "ingest", f"{dataset}-origins.json")
