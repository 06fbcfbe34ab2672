"""Compute the SHA-256 of a folder's files once: later runs read only files that have changed.

A stored hash is used while the file's size, inode, modification time and change time are those at which it was
computed; a program cannot set the change time. A file that was written within the last seconds is hashed again the next
time, since one clock tick may hide a later change.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from emeg.hashing import hash_json, sha256_file
from emeg.ingest.source import ListedFile, Source
from emeg.store import Store
from emeg.uri import locate

_SETTLED_S = 3.0
"""Age from which a file's times are trusted, s; file systems have a resolution of up to 2 s."""


def identify(store: Store, sources: tuple[Source, ...], workers: int) -> tuple[Source, ...]:
    """Return the sources with the SHA-256 of every file of a folder; files of a bucket have their ETags.

    Hashes are kept in ``runs/``, since they are no product.
    """
    if not sources or not locate(sources[0].archive).is_local:
        return sources
    folder = locate(sources[0].archive).local_path()
    table = hashes_table(sources[0].dataset)
    kept: dict[str, list[Any]] = store.read_json(*table) if store.exists(*table) else {}
    files = {file.path: file for source in sources for file in source.all_files}
    with ThreadPoolExecutor(workers) as pool:  # hashing releases the interpreter's lock
        found = dict(zip(files, pool.map(lambda file: _hash(folder, file, kept), files.values()), strict=True))
    hashes = {path: digest for path, (digest, _) in found.items()}
    fresh = {file_key(folder / path): entry for path, (_, entry) in found.items() if entry is not None}
    if fresh != kept:
        store.write_json(fresh, *table)
    return tuple(_with_hashes(source, hashes) for source in sources)


def hashes_table(dataset: str) -> tuple[str, str, str]:
    """Return where the hashes of a dataset's files are kept in the store."""
    return ("runs", "ingest", f"{dataset}-hashes.json")


def _hash(folder: Path, file: ListedFile, kept: dict[str, list[Any]]) -> tuple[str, list[Any] | None]:
    path = folder / file.path
    try:
        stamp = _stamp(path)
        entry = kept.get(file_key(path))
        if entry is not None and entry[1:] == stamp:
            return str(entry[0]), entry
        digest = sha256_file(path)
        after = _stamp(path)
    except OSError:  # a broken link, a file without read permission: `recording_id` says so
        return "", None
    settled = after == stamp and time.time() - max(stamp[2], stamp[3]) / 1e9 > _SETTLED_S
    return digest, [digest, *stamp] if settled else None


def file_key(path: Path) -> str:
    """Return a file's key in the table, a hash, since paths in archives of labs may hold people's names."""
    return hash_json(str(path))


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _with_hashes(source: Source, hashes: dict[str, str]) -> Source:
    return replace(
        source,
        files=tuple(replace(file, sha256=hashes[file.path]) for file in source.files),
        sidecars=tuple((kind, replace(file, sha256=hashes[file.path])) for kind, file in source.sidecars),
    )
