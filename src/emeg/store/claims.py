"""Who works on what: a claim keeps two workers from making the same recording at the same time.

Claims save work; they are not what keeps a store whole. Two writers of one product write the same bytes and the second
discards its own (`Store.publishing`), so a claim that is lost, stolen or late costs time and nothing else.

Local root: a lock file ``.partial/claim-<name>.lock``, locked by the kernel for as long as its holder lives. Bucket: an
object ``.partial/claim-<name>``, created only if absent, which others may take when it has expired.
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emeg.store import staging
from emeg.store.faults import line_to
from emeg.store.products import Store
from emeg.uri import Location


@contextmanager
def claimed(store: Store, name: str, *, seconds: float) -> Iterator[bool]:
    """Hold the claim to a name for the time of the block.

    Parameters
    ----------
    store : Store
    name : str
        Name of the recording.
    seconds : float
        A claim in a bucket expires after so long; its holder must have ended by then. Local claims end with their
        holder.

    Yields
    ------
    bool
        Whether the claim is ours; `False` where another worker holds it.
    """
    held = _lock_file(store.root.local_path(), name) if store.root.is_local else _object(store, name, seconds)
    with held as ours:
        yield ours


@contextmanager
def _lock_file(root: Path, name: str) -> Iterator[bool]:
    lock = root / staging.PARTIAL / f"claim-{name}.lock"
    handle = _locked(lock)
    if handle is None:
        yield False
        return
    try:
        yield True
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)
        staging.remove_if_empty(lock.parent)


def _locked(lock: Path) -> int | None:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        except FileNotFoundError:  # a sweep removed the empty .partial in between
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        if staging.same_file(handle, lock):  # else its holder or a sweep removed it before it was ours
            return handle
        os.close(handle)


@contextmanager
def _object(store: Store, name: str, seconds: float) -> Iterator[bool]:
    place, token = store.location(staging.PARTIAL, f"claim-{name}"), secrets.token_hex(8)
    with line_to(place):
        if _expired(place):
            place.remove()
        ours = _created(place, token, seconds)
    try:
        yield ours
    finally:
        if ours:
            with line_to(place):
                if (_content(place) or {}).get("token") == token:
                    place.remove()


def _created(place: Location, token: str, seconds: float) -> bool:
    content = json.dumps({"token": token, "expires": time.time() + seconds}).encode()
    try:
        place.fs.pipe_file(place.path, content, mode="create")  # If-None-Match where the bucket knows it
    except FileExistsError:
        return False
    return (_content(place) or {}).get("token") == token


def _expired(place: Location) -> bool:
    content = _content(place)
    return content is not None and float(content["expires"]) < time.time()


def _content(place: Location) -> dict[str, str] | None:
    try:
        content: dict[str, str] = place.read_json()
    except FileNotFoundError:
        return None
    return content
