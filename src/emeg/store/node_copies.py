"""Copies of a bucket's products on this machine: one for all processes, removed after the last of them.

Each copy is a folder below the machine's temporary folder, named by the product's location and its marker file::

    <name>.lock           locked while a process copies or removes
    <name>/content/       the product; complete if it exists
    <name>/users/*.lock   one for each process that uses the copy, locked for as long as it lives

The operating system releases the locks of a process that dies. Its copy is used by the next process that wants the
same product; any other is removed when the next product is copied.
"""

import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import time
import weakref
from contextlib import ExitStack
from pathlib import Path

from emeg.locks import locked
from emeg.store import staging
from emeg.store.connection_errors import connection_to
from emeg.uri import Location

logger = logging.getLogger(__name__)


class NodeCopies:
    """Copies that one owner uses.

    Parameters
    ----------
    owner : object
        The copies are released when it is let go, or when this process ends.
    """

    def __init__(self, owner: object) -> None:
        self._paths: dict[str, Path] = {}
        self._used = ExitStack()
        weakref.finalize(owner, _release, self._used, staging.process_id())

    def get(self, product: Location, marker: Location) -> Path:
        """Return a product as a folder of this machine; the first process copies it, others wait.

        Parameters
        ----------
        product : Location
            Complete product in a bucket.
        marker : Location
            Its marker file, which tells it from another product of the same name.
        """
        key = str(product)
        if key not in self._paths:
            with connection_to(product):
                identity = hashlib.sha256(key.encode() + b"\0" + marker.read_bytes()).hexdigest()[:32]
            folder = copies_folder() / identity
            self._paths[key] = self._use(folder, product)
            sweep_copies()
        return self._paths[key]

    def _use(self, folder: Path, product: Location) -> Path:
        content = folder / "content"
        began = time.monotonic()
        with locked(_lock_of(folder), wait=True):
            if time.monotonic() - began > 1.0:
                logger.info("%s: waited %.0f s for another process", product, time.monotonic() - began)
            self._used.callback(_remove_unused, folder)
            self._used.enter_context(locked(folder / "users" / f"{secrets.token_hex(8)}.lock", wait=True, remove=True))
            if not content.is_dir():
                for unfinished in folder.glob(f"{staging.PARTIAL}*"):
                    shutil.rmtree(unfinished)
                staging.download(product, content)
        return content


def copies_folder() -> Path:
    """Return the folder of this user's copies on this machine."""
    folder = Path(tempfile.gettempdir()) / f"emeg-copies-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def sweep_copies() -> int:
    """Remove the copies of processes that have ended; return their number."""
    return sum(_remove_unused(path.with_suffix("")) for path in sorted(copies_folder().glob("*.lock")))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove_unused(folder: Path) -> bool:
    """Remove a copy that no process uses."""
    with locked(_lock_of(folder), wait=False, remove=False) as ours:
        if not ours or any(_is_held(path) for path in (folder / "users").glob("*.lock")):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        _lock_of(folder).unlink(missing_ok=True)
        return True


def _is_held(lock: Path) -> bool:
    with locked(lock, remove=True) as free:
        return not free


def _release(used: ExitStack, owner: int) -> None:
    """Release copies, unless this is a forked child of the process that uses them."""
    if staging.process_id() == owner:
        used.close()
