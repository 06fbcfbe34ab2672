"""Staging folders, atomic moves, uploads with the marker last, and removal of what a crash left.

A local writer works in ``<root>/.partial/<label>-<random>/`` and holds an advisory lock on ``<the same>.lock``. The
system releases the lock when the process ends for any reason, so `sweep` can distinguish leftovers from live work.
"""

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emeg.files import fsync_path, replacing
from emeg.locks import locked
from emeg.store.connection_errors import connection_to
from emeg.uri import Location

PARTIAL = ".partial"
"""Folder of unfinished work below a local root."""


def process_id() -> int:
    """Return the id of this process, which distinguishes an owner from its forked children."""
    return os.getpid()


@contextmanager
def staged(root: Location, label: str) -> Iterator[Path]:
    """Yield an empty local folder, which is removed at the end with its content."""
    if not root.is_local:
        with tempfile.TemporaryDirectory(prefix="emeg-") as temporary:
            yield Path(temporary)
        return
    partial = root.local_path() / PARTIAL
    folder = partial / f"{label}-{secrets.token_hex(4)}"
    try:
        with locked(_lock_of(folder), wait=True, remove=True):
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        remove_if_empty(partial)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    # An undisturbed store and one that was swept then hold the same entries.
    with suppress(OSError):
        folder.rmdir()


def publish(folder: Path, target: Location, marker: str) -> None:
    """Make a staged folder visible as `target`, which had no marker a moment ago."""
    if target.is_local:
        _move(folder, target.local_path(), marker)
    else:
        with connection_to(target):
            _upload(folder, target, marker)


def flush(folder: Path, *, deep: bool = True) -> None:
    """Flush a folder with everything in it to the disk; if not `deep`, only its list of names."""
    if deep:
        for path in sorted(folder.rglob("*"), reverse=True):  # contents before the folders that name them
            fsync_path(path)
    fsync_path(folder)


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
        # An incomplete copy from elsewhere leaves a folder without marker: move it away first.
        target.replace(folder.with_name(f"{folder.name}.stale"))
        folder.replace(target)
        shutil.rmtree(folder.with_name(f"{folder.name}.stale"))
    fsync_path(target.parent)


def _upload(folder: Path, target: Location, marker: str) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / marker)
    for path in [*files, folder / marker]:
        location = target
        for part in path.relative_to(folder).parts:
            location = location / part
        target.fs.put_file(str(path), location.path)
    target.fs.invalidate_cache(target.path)


def download(product: Location, copy: Path) -> None:
    """Copy a remote product into a local folder, visible when complete; the caller holds a lock."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=copy.parent, prefix=PARTIAL))
    prefix = product.path.rstrip("/") + "/"
    with connection_to(product):
        for path in sorted(product.fs.find(product.path)):
            local = part / path[len(prefix) :]
            local.parent.mkdir(parents=True, exist_ok=True)
            product.fs.get_file(path, str(local))
    part.replace(copy)


def write_file(root: Location, target: Location, data: bytes) -> None:
    """Write one file, whole or not at all, replacing an older one."""
    if not root.is_local:
        with connection_to(target):
            target.fs.pipe_file(target.path, data)
        return
    with staged(root, target.name) as folder:
        final = target.local_path()
        with replacing(final, temporary=folder / "file") as file:
            file.write(data)
        fsync_path(final.parent)


def sweep(root: Location) -> int:
    """Remove the staging folders of writers that have ended; return their number."""
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
    # A live writer makes its lock before its folder: a folder without a lock has no live writer.
    with locked(_lock_of(folder), remove=True) as free:
        if free:
            for path in (folder, folder.with_name(f"{folder.name}.stale")):
                if path.is_file():
                    path.unlink()
                else:
                    shutil.rmtree(path, ignore_errors=True)
        return free
