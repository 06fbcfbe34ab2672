"""Classes of errors. The class decides what happens next: stop, quarantine, retry, or run again later."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class EmegError(Exception):
    """Base of every error that emeg raises on purpose; its text names the problem, place, reason and next action."""

    exit_code: ClassVar[int] = 2
    """Exit code of a command that ends with this error."""


class UserError(EmegError):
    """Wrong use: a setting, a path, a missing product. Ends a command with exit code 2."""


class MissingStoreError(UserError):
    """There is no store yet at the root: nothing was ingested, or its disk is not mounted. Exit code 2."""


class RecordingError(EmegError):
    """One recording cannot be used. It is quarantined and the run continues.

    Parameters
    ----------
    message : str
        What is wrong, where and why.
    stage : str
        Stage of ingest: ``listing``, ``read``, ``sensors``, ``signal`` or ``store``.
    next_action : str
        What the user can do about it.
    """

    def __init__(self, message: str, *, stage: str = "read", next_action: str = "") -> None:
        super().__init__(message)
        self.stage = stage
        self.next_action = next_action

    def __reduce__(self) -> tuple[object, ...]:
        """Return what rebuilds the error with ``stage`` and ``next_action`` in another process."""
        return _rebuild_recording_error, (str(self), self.stage, self.next_action)


def _rebuild_recording_error(message: str, stage: str, next_action: str) -> RecordingError:
    return RecordingError(message, stage=stage, next_action=next_action)


class TransientError(EmegError):
    """Network, quota or lock: the same call may succeed later. The only error that is retried. Exit code 75."""

    exit_code = 75


class StoppedError(EmegError):
    """The run received a stop signal; finished work is kept. Only a person or a scheduler starts it again.

    Exit code 75, which schedulers read as "start me again".
    """

    exit_code = 75


class MachineError(EmegError):
    """No space, no right to write, or a read-only disk: the machine must change first. Exit code 2."""


_OF_THE_MACHINE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})
"""Error numbers about space or rights; other faults of files count as bugs and keep their traceback."""


def machine_fault(error: OSError) -> MachineError | None:
    """Return the error as a one-line `MachineError` if it is about space or rights, else `None`."""
    if error.errno not in _OF_THE_MACHINE:
        return None
    path = os.fsdecode(error.filename) if error.filename else "path unknown"
    action = "make room" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "check the rights of the path"
    return MachineError(f"{path}: {error.strerror}; {action}, then run the same command again. Finished work is kept")


@contextmanager
def naming_path(path: object) -> Iterator[None]:
    """Add `path` to an `OSError` of the block that names no file, as one from a full disk does.

    Raises
    ------
    OSError
        Of the same class and number, with a file name.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
