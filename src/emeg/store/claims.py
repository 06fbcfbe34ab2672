"""Claims: they prevent two workers from making the same recording at the same time.

Claims save work; the integrity of a store does not depend on them. Two writers of one product write the same bytes, and
the second discards its own (`Store.publishing`), so a claim that is lost, stolen or late costs only time.

Local root: a lock file ``.partial/claim-<name>.lock``, locked by the kernel for as long as its holder lives. Bucket: an
object ``.partial/claim-<name>``, created only if absent, which its holder renews and others may take when it has
expired. On the holder's own machine, a lock file also shows whether the holder lives, so that the claim of a killed run
can be taken at once.
"""

import json
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from emeg.errors import TransientError
from emeg.hashing import hash_json
from emeg.locks import locked
from emeg.store import staging
from emeg.store.connection_errors import connection_to
from emeg.store.products import Store
from emeg.uri import Location

logger = logging.getLogger(__name__)

LEASE_S = 60.0
"""Time without renewal after which a claim in a bucket expires, s; clocks may differ by half of it."""

_PREFIX = "claim-"

_RENEWALS = 4
"""How often a claim is renewed within a lease."""


@contextmanager
def claimed(store: Store, name: str, *, lease_s: float = LEASE_S) -> Iterator[bool]:
    """Hold the claim to a name for the time of the block.

    Parameters
    ----------
    store : Store
    name : str
        Name of the recording.
    lease_s : float
        Time without renewal after which a claim in a bucket expires, s. Local claims end with their holder.

    Yields
    ------
    bool
        Whether the claim is ours; `False` where another worker holds it.
    """
    if store.root.is_local:
        with _lock_file(store.root.local_path() / staging.PARTIAL / f"{_PREFIX}{name}.lock") as ours:
            yield ours
        return
    with _lock_file(_lock_here(store, name)) as alone_here:
        if not alone_here:
            yield False
            return
        with _object(store.location(staging.PARTIAL, f"{_PREFIX}{name}"), lease_s) as ours:
            yield ours


def sweep_claims(store: Store) -> int:
    """Remove claims in a bucket whose holders have ended and that no run will request again; return their number.

    A holder that was killed between its recording's row and the end of its claim leaves one. A folder's claims are
    removed by `Store.sweep`.
    """
    if store.root.is_local:
        return 0
    left = [location for location in store.children(staging.PARTIAL) if location.name.startswith(_PREFIX)]
    return sum(_swept(store, location) for location in left)


def _swept(store: Store, location: Location) -> bool:
    with _lock_file(_lock_here(store, location.name.removeprefix(_PREFIX))) as alone_here, connection_to(location):
        gone = alone_here and _is_abandoned(_content(location))
        if gone:
            _remove(location)
    return gone


@contextmanager
def _lock_file(lock: Path) -> Iterator[bool]:
    try:
        with locked(lock, remove=True) as held:
            yield held
    finally:
        staging.remove_if_empty(lock.parent)


def _folder() -> Path:
    """Return the folder of this machine's locks for claims in buckets."""
    folder = Path(tempfile.gettempdir()) / f"emeg-claims-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _lock_here(store: Store, name: str) -> Path:
    return _folder() / f"{hash_json([str(store.root), name])}.lock"


def _machine() -> str:
    """Name the machines that share the lock files: a random text beside them, and the host's name for copied disks."""
    file = _folder() / "machine"
    if not file.exists():
        own = file.with_name(f"machine-{secrets.token_hex(8)}")
        own.write_text(own.name)
        with suppress(FileExistsError):
            os.link(own, file)
        own.unlink()
    return hash_json([socket.gethostname(), file.read_text()])


@contextmanager
def _object(location: Location, lease_s: float) -> Iterator[bool]:
    token = secrets.token_hex(8)
    with connection_to(location):
        if _is_abandoned(_content(location)):
            _remove(location)
        ours = _created(location, token, lease_s)
    if not ours:
        yield False
        return
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(location, token, lease_s, ended), daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        ended.set()
        renewing.join()
        with connection_to(location):
            if _content(location).get("token") == token:
                _remove(location)


def _is_abandoned(claim: dict[str, Any]) -> bool:
    """Return whether a claim can be taken: it has expired, or is of this machine, whose lock is held here."""
    return bool(claim) and (float(claim["expires"]) < time.time() or claim.get("machine") == _machine())


def _claim(token: str, lease_s: float) -> bytes:
    return json.dumps({"token": token, "expires": time.time() + lease_s, "machine": _machine()}).encode()


def _created(location: Location, token: str, lease_s: float) -> bool:
    # If-None-Match where the bucket knows it. A caller may find a claim of its own: the first answer got lost on the
    # way, and the client asked again.
    with suppress(FileExistsError):
        location.fs.pipe_file(location.path, _claim(token, lease_s), mode="create")
    return _content(location).get("token") == token


def _renew(location: Location, token: str, lease_s: float, ended: threading.Event) -> None:
    while not ended.wait(lease_s / _RENEWALS):
        try:
            with connection_to(location):
                if _content(location).get("token") != token:
                    return  # it expired, and another worker holds it now
                location.fs.pipe_file(location.path, _claim(token, lease_s))
        except TransientError as error:
            logger.info("%s; the claim is renewed later", error)


def _remove(location: Location) -> None:
    with suppress(FileNotFoundError):
        location.fs.rm_file(location.path)


def _content(location: Location) -> dict[str, Any]:
    try:
        content: dict[str, Any] = location.read_json()
    except FileNotFoundError:
        return {}
    return content
