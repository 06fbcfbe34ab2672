"""Repeat a failed request: decide which faults are temporary, and how long to wait before the next attempt.

Waiting times are drawn from 0 to a bound that doubles (exponential back-off with full jitter), so that workers
that were refused at the same time do not return at the same time:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import errno
import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

from emeg.errors import TransientError
from emeg.store.connection_errors import connection_faults, credential_faults

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S = 0.25
"""Bound of the first waiting time, s."""

LONGEST_WAIT_S = 20.0
"""Bound of all waiting times, s."""

_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class SpoiltError(Exception):
    """The answer is not what was requested: cut short, of another version, or an error page."""


def with_retries(action: Callable[[], T], *, what: str, attempts: int) -> T:
    """Call `action` and return its result; after a temporary fault, wait and call it again.

    Parameters
    ----------
    action : callable
        Must be safe to repeat.
    what : str
        Names the request in errors.
    attempts : int
        How often it is tried in all.

    Raises
    ------
    TransientError
        It failed `attempts` times.
    OSError
        A fault that another attempt cannot change: the file does not exist, access is denied, or no space is left.
    """

    def log(state: tenacity.RetryCallState) -> None:
        fault, wait_s = _describe(_error(state)), state.upcoming_sleep
        logger.info("%s: %s; attempt %d of %d in %.2f s", what, fault, state.attempt_number + 1, attempts, wait_s)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        before_sleep=log,
    )
    try:
        return retrying(action)
    except tenacity.RetryError as failure:
        error = failure.last_attempt.exception()
        assert isinstance(error, Exception)
        raise TransientError(
            f"{what}: {attempts} attempts failed, the last with {_describe(error)}; run again later"
        ) from error
    except credential_faults() as error:
        raise PermissionError(f"{what}: {error}") from error


def _error(state: tenacity.RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    assert error is not None, "a request is repeated only after a fault"
    return error


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, credential_faults()):
        return False
    if isinstance(error, OSError):
        return not isinstance(error, _PERMANENT) and error.errno not in _FULL
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    return isinstance(error, (SpoiltError, ClientError, *connection_faults()))


def _describe(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
