"""Cache shards of buckets on this machine up to a size: content-addressed, verified, shared by processes.

A file is named after its SHA-256. It is written under the lock of that name to ``<sha256>.partial``, hashed meanwhile,
flushed and renamed, so that a file without ``.partial`` is complete whatever crashed. The least recently used file is
removed first; a process that has a removed file open can still read it.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from emeg.errors import TransientError, UserError
from emeg.files import replacing
from emeg.hashing import sha256_file
from emeg.locks import locked
from emeg.progress import Progress, silent
from emeg.uri import Location

logger = logging.getLogger(__name__)

PIECE = 16 * 2**20
"""Bytes of one request while a shard is copied."""

_SUFFIX, _PARTIAL = ".tar", ".partial"


class RemoteShard(NamedTuple):
    """A shard in a bucket with its size and hash from the manifest."""

    location: Location
    n_bytes: int
    sha256: str


class Entry(NamedTuple):
    """A file of the cache."""

    path: Path
    n_bytes: int
    used: float
    """Time of the last use, s."""


class ShardCache:
    """Folder of shards with a size limit.

    Parameters
    ----------
    folder : Path
        Processes of one machine may share it; its file system must support locks.
    limit_bytes : int
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def choose(self, folder: Location, manifest: Mapping[str, Any]) -> dict[str, RemoteShard]:
        """Return the shards of a corpus that the cache keeps: all, or the first that fit together.

        Shards that do not fit are read from the bucket range by range. If they were cached in turn, each would evict
        another before the next epoch, and every epoch would copy everything.
        """
        chosen: dict[str, RemoteShard] = {}
        free = self.limit_bytes
        for shard in manifest["shards"]:
            if int(shard["bytes"]) <= free:
                free -= int(shard["bytes"])
                name = str(shard["name"])
                chosen[name] = RemoteShard(folder / name, int(shard["bytes"]), str(shard["sha256"]))
        if len(chosen) < len(manifest["shards"]):
            logger.warning(
                "%s: %d of %d shards fit into %.1f GiB; the others are read from the bucket in every epoch;"
                " raise sampling.cache_gib",
                self.folder,
                len(chosen),
                len(manifest["shards"]),
                self.limit_bytes / 2**30,
            )
        return chosen

    def open(self, shard: RemoteShard) -> BinaryIO:
        """Open a shard; copy and verify it first if it is not cached. The file stays readable if it is removed.

        Raises
        ------
        UserError
            The shard is larger than the cache, missing, or differs from its manifest, or the disk is full.
        TransientError
            The bucket did not answer.
        """
        path = self.folder / f"{shard.sha256}{_SUFFIX}"
        file = _open_whole(path, shard.n_bytes)
        if file is not None:
            return file
        if shard.n_bytes > self.limit_bytes:
            raise UserError(
                f"{shard.location}: {shard.n_bytes} bytes, the cache {self.folder} holds {self.limit_bytes};"
                " raise sampling.cache_gib, or do not use a cache"
            )
        with self._locked(shard.sha256):
            return _open_whole(path, shard.n_bytes) or self._copy(shard, path)

    def _copy(self, shard: RemoteShard, path: Path) -> BinaryIO:
        try:
            with replacing(path, temporary=path.with_suffix(_PARTIAL)) as file:
                file.truncate(shard.n_bytes)  # counts for the limit from now on
                self.trim()
                _copy_verified(shard, file)
                kept = os.fdopen(os.dup(file.fileno()), "rb")  # readable even if another process trims the file
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error}); free disk space, or choose another sampling.cache"
            ) from error
        kept.seek(0)
        return kept

    def entries(self) -> list[Entry]:
        """Return the complete files, least recently used first."""
        return sorted(self._files(_SUFFIX), key=lambda entry: (entry.used, entry.path.name))

    def trim(self, limit_bytes: int | None = None) -> int:
        """Remove least recently used files until all, unfinished copies included, fit the limit; return the number."""
        limit = self.limit_bytes if limit_bytes is None else limit_bytes
        removed = 0
        with self._locked("trim"):
            total = sum(entry.n_bytes for entry in [*self.entries(), *self._files(_PARTIAL)])
            for entry in self.entries():
                if total <= limit:
                    break
                entry.path.unlink(missing_ok=True)
                total -= entry.n_bytes
                removed += 1
        return removed

    def verify(self, progress: Progress = silent) -> list[Path]:
        """Check the SHA-256 of every file; remove and return damaged files."""
        wrong = []
        entries = self.entries()
        for number, entry in enumerate(entries):
            progress(number, len(entries), "hashing shards")
            try:
                found = sha256_file(entry.path)
            except FileNotFoundError:
                continue  # trimmed meanwhile
            if found != entry.path.stem:
                entry.path.unlink(missing_ok=True)
                wrong.append(entry.path)
        return wrong

    def sweep(self) -> int:
        """Remove incomplete copies of a crash, not those in progress; return their number."""
        removed = 0
        for entry in self._files(_PARTIAL):
            with self._locked(entry.path.stem, wait=False) as mine:
                if mine:
                    entry.path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _files(self, suffix: str) -> Iterator[Entry]:
        for path in self.folder.glob(f"*{suffix}"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            yield Entry(path, status.st_size, status.st_mtime)

    def _locked(self, name: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        return locked(self.folder / "locks" / name, wait=wait)


def _open_whole(path: Path, n_bytes: int) -> BinaryIO | None:
    """Open a file of the cache and mark its use; return `None` if it is missing or incomplete."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    if os.fstat(file.fileno()).st_size != n_bytes:
        file.close()
        return None
    os.utime(file.fileno())
    return file


def _copy_verified(shard: RemoteShard, file: BinaryIO) -> None:
    digest = hashlib.sha256()
    for start in range(0, shard.n_bytes, PIECE):
        piece = _fetch(shard, start, min(start + PIECE, shard.n_bytes))
        digest.update(piece)
        file.write(piece)
    if digest.hexdigest() != shard.sha256:
        raise UserError(
            f"{shard.location}: differs from its manifest; copy the corpus again, or run `emeg shard` again"
        )


def _fetch(shard: RemoteShard, start: int, stop: int) -> bytes:
    try:
        piece: bytes = shard.location.fs.cat_file(shard.location.path, start=start, end=stop)
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(
            f"{shard.location}: cannot be read ({error}); copy the corpus again, or check the rights"
        ) from error
    except OSError as error:
        raise TransientError(
            f"{shard.location}: bytes {start} to {stop} could not be read: {error}; try again"
        ) from error
    if len(piece) != stop - start:
        raise UserError(f"{shard.location}: ends at byte {start + len(piece)}; copy the corpus again")
    return piece
