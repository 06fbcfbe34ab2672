"""Advisory locks between processes: one helper over `filelock`.

The operating system releases such a lock when its holder dies, whatever ended it, so a lock file that is left over
never blocks anybody.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RETRY_S = 0.01
"""Time for further tries if the holder removed the file at the moment of the first try, s."""

POLL_S = 0.02
"""Pause between two tries of a caller that waits, s."""


@contextmanager
def locked(path: Path, *, wait: bool = False, remove: bool = False) -> Iterator[bool]:
    """Hold the exclusive lock on a file during the block.

    Two callers in one process exclude each other as two processes do. The file and its folder are created where they
    are missing.

    Parameters
    ----------
    path : Path
        Lock file; nothing is written into it.
    wait : bool
        Wait until the lock is free; otherwise yield `False` if another process holds it.
    remove : bool
        Remove the file before the lock is released. Callers that wait for a removed file create a new one.

    Yields
    ------
    bool
        Whether the lock is held.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=-1 if wait else RETRY_S, mode=0o644, thread_local=False)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(poll_interval=POLL_S if wait else RETRY_S / 4)
        except FileNotFoundError:  # another process removed the empty folder in between
            continue
        except FileExistsError:
            if os.path.lexists(path.parent) and not path.parent.is_dir():
                raise
            continue  # the folder existed when it was created and was removed before `mkdir` looked at it
        except Timeout:
            yield False
            return
        break
    try:
        yield True
    finally:
        if remove:
            path.unlink(missing_ok=True)
        lock.release()
