"""Asking again: what is worth another try, and how long to wait before it.

Waiting times are drawn from 0 to a bound that doubles (exponential back-off with full jitter), so that many workers
that were turned away together do not come back together:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import errno
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from emeg.errors import TransientError
from emeg.store.connection_errors import connection_faults, credential_faults

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S = 0.25
"""Bound of the first waiting time."""

LONGEST_WAIT_S = 20.0
"""Bound of all waiting times."""

_HOPELESS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

# Never for secrets or results: only when to ask again, which must differ between processes.
_chance = random.SystemRandom()


class SpoiltError(Exception):
    """What arrived is not what was asked for: cut short, of another version, or an error page."""


def patiently(action: Callable[[], T], *, what: str, attempts: int) -> T:
    """Do `action`; on a fault that may pass, wait and do it again.

    Parameters
    ----------
    action : callable
        Must be safe to repeat.
    what : str
        Names it in errors.
    attempts : int
        How often it is tried in all.

    Raises
    ------
    TransientError
        It failed `attempts` times.
    OSError
        What no other try can change: not there, not allowed, or no space left.
    """
    for attempt in range(1, attempts + 1):
        try:
            return action()
        except Exception as error:
            if isinstance(error, credential_faults()):
                raise PermissionError(f"{what}: {error}") from error
            if not _may_pass(error):
                raise
            if attempt == attempts:
                raise TransientError(
                    f"{what}: {attempts} attempts failed, the last with {_describe(error)}; run again later"
                ) from error
            wait_s = _chance.uniform(0.0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)))
            logger.info("%s: %s; attempt %d of %d in %.2f s", what, _describe(error), attempt + 1, attempts, wait_s)
            time.sleep(wait_s)
    raise AssertionError("attempts is at least one")


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, _HOPELESS) and error.errno not in _FULL
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    return isinstance(error, (SpoiltError, ClientError, *connection_faults()))


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
