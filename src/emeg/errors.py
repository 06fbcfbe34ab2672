"""The three ways in which work can fail, told apart by class."""


class EmegError(Exception):
    """Base of every error that emeg raises on purpose; its text says what, where, why and what to do."""


class UserError(EmegError):
    """The caller's mistake: a setting, a path, a missing product. Ends a command with exit code 2."""


class RecordingError(EmegError):
    """One recording cannot be used. It is quarantined and the run goes on.

    Parameters
    ----------
    message : str
        What is wrong, where and why.
    stage : str
        Where ingest was: ``listing``, ``read``, ``sensors``, ``signal`` or ``store``.
    next_action : str
        What a person can do about it.
    """

    def __init__(self, message: str, *, stage: str = "read", next_action: str = "") -> None:
        super().__init__(message)
        self.stage = stage
        self.next_action = next_action

    def __reduce__(self) -> tuple[object, ...]:
        """Keep ``stage`` and ``next_action`` when the error crosses a process boundary."""
        return _rebuild_recording_error, (str(self), self.stage, self.next_action)


def _rebuild_recording_error(message: str, stage: str, next_action: str) -> RecordingError:
    return RecordingError(message, stage=stage, next_action=next_action)


class TransientError(EmegError):
    """Network, quota or lock: the same call may succeed later. The only error that is retried."""
