"""Connection faults of a bucket and the errors that they cause."""

import aiohttp
import fsspec
import pytest
from botocore.exceptions import FlexibleChecksumError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from tests.messages import refusal

from emeg.errors import TransientError
from emeg.store.connection_errors import connection_to
from emeg.uri import Location


@pytest.mark.parametrize(
    "fault",
    [
        aiohttp.ClientPayloadError("cut"),
        ResponseParserError("an HTML page"),
        FlexibleChecksumError(error_msg="another object's"),
        ReadTimeoutError(endpoint_url="x", error="stalled"),
        TimeoutError("stalled"),
        ConnectionResetError("gone"),
    ],
)
def test_faults_of_the_line_are_worth_another_try(fault):
    with (
        refusal(TransientError, "memory:///x", action="again"),
        connection_to(Location(fsspec.filesystem("memory"), "/x")),
    ):
        raise fault


def test_a_callers_mistake_stays_one():
    with pytest.raises(PermissionError), connection_to(Location(fsspec.filesystem("memory"), "/x")):
        raise PermissionError("no")
