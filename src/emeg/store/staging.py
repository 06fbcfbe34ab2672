"""Staging folders, atomic moves, uploads with the marker last, and clearing up after a crash.

A local writer works in ``<root>/.partial/<label>-<random>/`` and holds an advisory lock on ``<the same>.lock``. The
system lets go of the lock when the process dies, whatever killed it, so `sweep` tells leftovers from live work.
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emeg.store.connection_errors import line_to
from emeg.uri import Location

PARTIAL = ".partial"
"""Folder of unfinished work below a local root."""


def process_id() -> int:
    """Give the number of this process, to tell an owner from its forked children."""
    return os.getpid()


def json_bytes(value: object) -> bytes:
    """JSON with sorted keys and a final newline."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


@contextmanager
def staged(root: Location, label: str) -> Iterator[Path]:
    """Give an empty local folder, removed at the end with whatever is left in it."""
    if not root.is_local:
        with tempfile.TemporaryDirectory(prefix="emeg-") as folder:
            yield Path(folder)
        return
    partial = root.local_path() / PARTIAL
    with _locked(partial, label) as folder:
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(partial: Path, label: str) -> Iterator[Path]:
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        folder = partial / f"{label}-{secrets.token_hex(4)}"
        lock = folder.with_name(f"{folder.name}.lock")
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileNotFoundError:  # a sweep removed the empty .partial in between
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if same_file(handle, lock):  # else a sweep took it before the lock was held
            break
        os.close(handle)
    try:
        yield folder
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)
        remove_if_empty(partial)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder without entries, any other not."""
    # So that an undisturbed store and one that was swept hold the same entries.
    with suppress(OSError):
        folder.rmdir()


def same_file(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def publish(folder: Path, target: Location, marker: str) -> None:
    """Make a staged folder visible as `target`, which had no marker a moment ago."""
    if target.is_local:
        _move(folder, target.local_path(), marker)
    else:
        with line_to(target):
            _upload(folder, target, marker)


def flush(folder: Path, *, deep: bool = True) -> None:
    """Bring a folder to the disk with all that is in it; its own list of names alone where not `deep`."""
    if deep:
        for path in sorted(folder.rglob("*"), reverse=True):  # contents before the folders that name them
            _fsync(path)
    _fsync(folder)


def _move(folder: Path, target: Path, marker: str) -> None:
    flush(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.replace(target)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise
        if (target / marker).is_file():
            return  # another writer of the same product was first
        # A folder without marker is what a broken copy from elsewhere leaves: out of the way, then ours.
        target.replace(folder.with_name(f"{folder.name}.stale"))
        folder.replace(target)
        shutil.rmtree(folder.with_name(f"{folder.name}.stale"))
    _fsync(target.parent)


def _upload(folder: Path, target: Location, marker: str) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / marker)
    for path in [*files, folder / marker]:
        place = target
        for part in path.relative_to(folder).parts:
            place = place / part
        target.fs.put_file(str(path), place.path)
    target.fs.invalidate_cache(target.path)


def download(product: Location, copy: Path) -> None:
    """Copy a remote product into a local folder, visible when complete."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=copy.parent, prefix=PARTIAL))
    prefix = product.path.rstrip("/") + "/"
    with line_to(product):
        for path in sorted(product.fs.find(product.path)):
            local = part / path[len(prefix) :]
            local.parent.mkdir(parents=True, exist_ok=True)
            product.fs.get_file(path, str(local))
    try:
        part.replace(copy)
    except OSError:
        if not copy.is_dir():
            raise
        shutil.rmtree(part)  # another thread was first


def remove_own(folder: Path, owner: int) -> None:
    """Remove a folder of downloads, unless this is a forked child of the process that made it."""
    if process_id() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def write_file(root: Location, target: Location, data: bytes) -> None:
    """Write one file, whole or not at all, replacing an older one."""
    if not root.is_local:
        with line_to(target):
            target.fs.pipe_file(target.path, data)
        return
    with staged(root, target.name) as folder:
        temporary, final = folder / "file", target.local_path()
        temporary.write_bytes(data)
        _fsync(temporary)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(final)
        _fsync(final.parent)


def sweep(root: Location) -> int:
    """Remove the staging folders of writers that are gone; returns how many."""
    if not root.is_local or not (root.local_path() / PARTIAL).is_dir():
        return 0
    partial = root.local_path() / PARTIAL
    entries = sorted(partial.iterdir())
    folders = {path.name.removesuffix(".lock").removesuffix(".stale") for path in entries}
    removed = sum(_clear(partial / name) for name in sorted(folders))
    remove_if_empty(partial)
    return removed


def _clear(folder: Path) -> bool:
    """Remove one staging folder with its lock, unless its writer lives."""
    lock = folder.with_name(f"{folder.name}.lock")
    # A live writer made its lock before its folder: no lock means nobody's.
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        for path in (folder, folder.with_name(f"{folder.name}.stale")):
            if path.is_file():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)
        lock.unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
