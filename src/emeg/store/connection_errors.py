"""Faults of the connection to a bucket, as opposed to mistakes of the caller."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from emeg.errors import TransientError, UserError
from emeg.uri import Location

_BUSY = {errno.EIO, errno.EBUSY, errno.EAGAIN}
"""Error numbers that s3fs uses for answers such as SlowDown, ServiceUnavailable and InternalError."""


@contextmanager
def connection_to(location: Location) -> Iterator[None]:
    """Convert faults of a broken, slow or overloaded connection to a bucket into `TransientError`.

    Raises
    ------
    TransientError
        The same call may succeed later.
    UserError
        There are no credentials.
    """
    if location.is_local:
        yield
        return
    passing: tuple[type[Exception], ...] = (ConnectionError, TimeoutError, *connection_faults())
    try:
        yield
    except passing as error:
        raise _transient(location, error) from error
    except credential_faults() as error:
        raise UserError(
            f"{location}: {error}; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; a public bucket is"
            " read as anonymous:s3://…"
        ) from error
    except OSError as error:
        if error.errno in _BUSY:
            raise _transient(location, error) from error
        raise


def connection_faults() -> tuple[type[Exception], ...]:
    """Return the exceptions of HTTP clients for connections that may work later, other than `OSError`."""
    from aiohttp import ClientError  # a body that is cut while a listing is read passes by s3fs's own retries
    from botocore import exceptions as boto  # type: ignore[import-untyped]
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    return (ClientError, ResponseParserError, boto.ConnectionError, boto.HTTPClientError, boto.FlexibleChecksumError)


def credential_faults() -> tuple[type[Exception], ...]:
    """Return the exceptions that are raised where there are no credentials for a bucket."""
    from botocore import exceptions as boto

    return (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound)


def _transient(location: Location, error: Exception) -> TransientError:
    return TransientError(f"{location}: the store did not answer: {error}; try again")
