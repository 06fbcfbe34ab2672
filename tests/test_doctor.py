import socket
import threading
import time

import pytest

from emeg.doctor import (
    DoctorConfig,
    FaultError,
    check_bucket,
    check_name,
    check_ranks,
    check_rendezvous,
    check_versions,
    doctor,
)
from emeg.errors import UserError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29400",
}


def test_a_sound_machine(tmp_path):
    result = doctor(DoctorConfig(root=str(tmp_path), min_free_gb=0.0), environment={})
    assert list(result.findings)[:3] == ["ranks", "name", "cards"]
    assert "fsync at" in result.findings["disk"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"RANK": "4"}, "RANK=4"),
        ({"LOCAL_RANK": "x"}, "not a number: LOCAL_RANK=x"),
        ({"MASTER_ADDR": None}, "not MASTER_ADDR"),
        ({"LOCAL_WORLD_SIZE": "3"}, "contradict"),
    ],
)
def test_variables_of_the_launcher(change, cause):
    assert check_ranks(TORCHRUN) == "rank 3 of 4, 1 of 2 on this machine"
    environment = {name: value for name, value in (TORCHRUN | change).items() if value is not None}
    with pytest.raises(FaultError, match=cause):
        check_ranks(environment)


def test_a_name_that_nobody_finds(monkeypatch):
    def unknown(*arguments):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *a: [(0, 0, 0, "", ("127.0.0.1", 0))])
    check_name(alone=True)
    with pytest.raises(FaultError, match=r"leads to 127\.0\.0\.1, where no other machine"):
        check_name(alone=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FaultError, match="/etc/hosts"):
        check_name(alone=True)


def test_where_machines_meet():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert "listens" in check_rendezvous(f"127.0.0.1:{port}")
    assert "nobody listens" in check_rendezvous(f"127.0.0.1:{port}")
    with pytest.raises(FaultError, match="not host:port"):
        check_rendezvous("somewhere")
    with pytest.raises(FaultError, match="no address here"):
        check_rendezvous("no-such-host.invalid:29400")


def test_a_bucket_is_listed_written_and_read(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    assert "listed, written, read" in check_bucket("memory://doctor-store")
    assert MemoryFileSystem().find("/doctor-store") == []

    def refused(*arguments, **named):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refused)
    with pytest.raises(FaultError, match=r"cannot be written \(PermissionError: Access Denied\); check AWS_ACCESS_KEY"):
        check_bucket("memory://doctor-store")


def test_versions(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# exact\nnumpy==1.0 # old\nno-such-package==1\n")
    with pytest.raises(FaultError, match=r"numpy \d+\.\d+\.\d+, asked for ==1\.0"):
        check_versions(str(file))


def test_all_faults_come_together_and_what_hangs_is_one(tmp_path, monkeypatch):
    hold = threading.Event()
    monkeypatch.setattr("emeg.doctor.check_bucket", lambda root: hold.wait(30) or "")
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        doctor(DoctorConfig(root=str(tmp_path / "none"), device="cuda", limit_s=8), environment={"RANK": "0"})
    hold.set()
    assert time.monotonic() - began < 60  # what the verb promises
    causes = ("4 of 9 checks", "disk: ", "there is no such folder; mount it", "gpu: ", "ranks: ", "bucket: no answer")
    for cause in causes:
        assert cause in str(caught.value)
