"""`emeg up` checks its ports before it starts anything."""

import socket

import pytest
from tests.integration.prefect_server import free_port
from tests.messages import refusal

from emeg.errors import UserError
from emeg.service.local import UpConfig, up


@pytest.mark.parametrize(("taken", "service"), [(0, "server"), (1, "reports")])
def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path, taken, service):
    (tmp_path / "emeg.yaml").write_text("name: lab\nstores:\n  main: store\n")
    port = free_port(2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port + taken))
        listener.listen()
        with refusal(UserError, f"127.0.0.1:{port + taken}", service, action="--port"):
            up(UpConfig(file=str(tmp_path / "emeg.yaml"), folder=str(tmp_path / "service"), port=port))
    assert not (tmp_path / "service" / "processes.json").exists()
