"""Shards of buckets, kept on this machine up to a size: content-addressed, verified, shared by any processes.

A file is named after its sha256. It is written under the lock of that name into ``<sha256>.partial``, hashed on the
way, flushed and renamed, so that a name without ``.partial`` is whole whatever crashed. What was not used for longest
goes first; a process that has a removed file open goes on reading it.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from emeg.errors import TransientError, UserError
from emeg.hashing import sha256_file
from emeg.progress import Progress, silent
from emeg.uri import Location

logger = logging.getLogger(__name__)

PIECE = 16 * 2**20
"""Bytes of one request while a shard is copied."""

_SUFFIX, _PARTIAL = ".tar", ".partial"


class RemoteShard(NamedTuple):
    """A shard in a bucket and what its manifest says of it."""

    place: Location
    n_bytes: int
    sha256: str


class Entry(NamedTuple):
    """A file of the cache."""

    path: Path
    n_bytes: int
    used: float
    """Time of the last use, s."""


class ShardCache:
    """A folder of at most `limit_bytes`.

    Parameters
    ----------
    folder : Path
        Any processes of one machine may share it; it must be on a file system that knows locks.
    limit_bytes : int
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def choose(self, folder: Location, manifest: Mapping[str, Any]) -> dict[str, RemoteShard]:
        """Choose the shards of a corpus that the cache keeps: all, or the first that fit together.

        Those that do not fit are read from the bucket range by range: were they cached in turn, each would push out
        another before an epoch comes round, and every epoch would copy everything.
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
                "%s: %d of %d shards fit into %.1f GiB; the others are read from the bucket in every epoch",
                self.folder,
                len(chosen),
                len(manifest["shards"]),
                self.limit_bytes / 2**30,
            )
        return chosen

    def open(self, shard: RemoteShard) -> BinaryIO:
        """Open a shard, copied and verified first where it is not there; the file stays readable if it is removed.

        Raises
        ------
        UserError
            The shard is larger than the cache, missing, or differs from its manifest; or the disk is full.
        TransientError
            The bucket did not answer.
        """
        path = self.folder / f"{shard.sha256}{_SUFFIX}"
        file = _open_whole(path, shard.n_bytes)
        if file is not None:
            return file
        if shard.n_bytes > self.limit_bytes:
            raise UserError(
                f"{shard.place}: {shard.n_bytes} bytes, the cache {self.folder} holds {self.limit_bytes};"
                " raise its limit, or leave it out"
            )
        with self._locked(shard.sha256):
            return _open_whole(path, shard.n_bytes) or self._copy(shard, path)

    def _copy(self, shard: RemoteShard, path: Path) -> BinaryIO:
        partial = path.with_suffix(_PARTIAL)
        file = partial.open("w+b")
        try:
            file.truncate(shard.n_bytes)  # counts for the limit from now on
            self.trim()
            _copy_verified(shard, file)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
            file.seek(0)
        except BaseException as error:
            file.close()
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise UserError(f"{path}: cannot be written ({error}); make room, or choose another cache") from error
            raise
        return file

    def entries(self) -> list[Entry]:
        """Whole files, the longest unused first."""
        return sorted(self._files(_SUFFIX), key=lambda entry: (entry.used, entry.path.name))

    def trim(self, limit_bytes: int | None = None) -> int:
        """Remove the longest unused until all, copies under way included, are within the limit; give how many."""
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
        """Hash every file; remove and give those that are not what their names say."""
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
        """Remove copies that a crash cut short; those under way are kept. Give how many."""
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

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a lock that the kernel takes back if we die; without `wait`, say whether it was free."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True


def _open_whole(path: Path, n_bytes: int) -> BinaryIO | None:
    """Open a file of the cache and mark its use; `None` where it is missing or was cut."""
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
        raise UserError(f"{shard.place}: differs from its manifest; copy the corpus again, or run shard again")


def _fetch(shard: RemoteShard, start: int, stop: int) -> bytes:
    try:
        piece: bytes = shard.place.fs.cat_file(shard.place.path, start=start, end=stop)
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(
            f"{shard.place}: cannot be read ({error}); copy the corpus again, or check the rights"
        ) from error
    except OSError as error:
        raise TransientError(f"{shard.place}: bytes {start} to {stop} did not come: {error}") from error
    if len(piece) != stop - start:
        raise UserError(f"{shard.place}: ends at byte {start + len(piece)}; copy the corpus again")
    return piece
