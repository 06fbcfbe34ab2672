"""SHA-256 of a folder's files, each computed once: a nightly run reads only what has changed.

A hash is believed while the file's size, inode, modification and change times are those it was computed at; the change
time cannot be set by a program. A file touched within the last seconds is hashed again the next time, since a clock
tick may hide a later change.
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
"""Age from which a file's times are believed, s; file systems count in up to 2 s."""


def identify(store: Store, sources: tuple[Source, ...], workers: int) -> tuple[Source, ...]:
    """Give the same sources with the SHA-256 of every file of a folder; a bucket's have their ETags.

    Hashes are kept in ``runs/``, since they are no product.
    """
    if not sources or not locate(sources[0].archive).is_local:
        return sources
    folder = locate(sources[0].archive).local_path()
    place = ("runs", "ingest", f"{sources[0].dataset}-hashes.json")
    kept: dict[str, list[Any]] = store.read_json(*place) if store.exists(*place) else {}
    files = {file.path: file for source in sources for file in source.all_files}
    with ThreadPoolExecutor(workers) as pool:  # hashing gives the interpreter's lock away
        found = dict(zip(files, pool.map(lambda file: _hash(folder, file, kept), files.values()), strict=True))
    hashes = {path: digest for path, (digest, _) in found.items()}
    fresh = {_key(folder / path): entry for path, (_, entry) in found.items() if entry is not None}
    if fresh != kept:
        store.write_json(fresh, *place)
    return tuple(_with_hashes(source, hashes) for source in sources)


def _hash(folder: Path, file: ListedFile, kept: dict[str, list[Any]]) -> tuple[str, list[Any] | None]:
    path = folder / file.path
    try:
        stamp = _stamp(path)
        entry = kept.get(_key(path))
        if entry is not None and entry[1:] == stamp:
            return str(entry[0]), entry
        digest = sha256_file(path)
        after = _stamp(path)
    except OSError:  # a link to nothing, a file that nobody may read: `recording_id` says so
        return "", None
    settled = after == stamp and time.time() - max(stamp[2], stamp[3]) / 1e9 > _SETTLED_S
    return digest, [digest, *stamp] if settled else None


def _key(path: Path) -> str:
    """Name a file in the table without saying its name: archives of labs have people in theirs."""
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
