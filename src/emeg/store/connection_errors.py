"""Faults of the line to a bucket, told apart from a caller's mistakes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from emeg.errors import TransientError, UserError
from emeg.uri import Location

_BUSY = {errno.EIO, errno.EBUSY, errno.EAGAIN}
"""What s3fs makes of answers such as SlowDown, ServiceUnavailable and InternalError."""


@contextmanager
def connection_to(place: Location) -> Iterator[None]:
    """Turn what a dead, slow or overloaded line raises into `TransientError`; local folders have no line.

    Raises
    ------
    TransientError
        The same call may succeed later.
    UserError
        There are no credentials.
    """
    if place.is_local:
        yield
        return
    passing: tuple[type[Exception], ...] = (ConnectionError, TimeoutError, *connection_faults())
    try:
        yield
    except passing as error:
        raise _transient(place, error) from error
    except credential_faults() as error:
        raise UserError(
            f"{place}: {error}; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; a public bucket is"
            " read as anonymous:s3://…"
        ) from error
    except OSError as error:
        if error.errno in _BUSY:
            raise _transient(place, error) from error
        raise


def connection_faults() -> tuple[type[Exception], ...]:
    """Name what HTTP clients raise for a line that may be better later, and that is no `OSError`."""
    from aiohttp import ClientError  # a body that is cut while a listing is read passes by s3fs's own retries
    from botocore import exceptions as boto  # type: ignore[import-untyped]
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    return (ClientError, ResponseParserError, boto.ConnectionError, boto.HTTPClientError, boto.FlexibleChecksumError)


def credential_faults() -> tuple[type[Exception], ...]:
    """Name what is raised where nothing says who asks a bucket."""
    from botocore import exceptions as boto

    return (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound)


def _transient(place: Location, error: Exception) -> TransientError:
    return TransientError(f"{place}: the store did not answer: {error}; the same call may succeed later")
