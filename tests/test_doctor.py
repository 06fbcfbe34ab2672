import socket
import threading
import time

import pytest
from tests.messages import check_message, refusal
from tests.other_packages import install

from emeg.doctor import (
    DoctorConfig,
    FaultError,
    check_bucket,
    check_name,
    check_plugins,
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
    ("change", "named"),
    [
        ({"RANK": "4"}, "RANK=4"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR"),
        ({"LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE=3"),
    ],
)
def test_variables_of_the_launcher(change, named):
    assert check_ranks(TORCHRUN) == "rank 3 of 4, 1 of 2 on this machine"
    environment = {name: value for name, value in (TORCHRUN | change).items() if value is not None}
    with refusal(FaultError, named, action="torchrun"):
        check_ranks(environment)


def test_a_name_that_nobody_finds(monkeypatch):
    def unknown(*arguments):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *a: [(0, 0, 0, "", ("127.0.0.1", 0))])
    check_name(alone=True)
    with refusal(FaultError, "127.0.0.1", action="/etc/hosts"):
        check_name(alone=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with refusal(FaultError, "no address", action="/etc/hosts"):
        check_name(alone=True)


def test_where_machines_meet():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert "listens" in check_rendezvous(f"127.0.0.1:{port}")
    assert "no process listens" in check_rendezvous(f"127.0.0.1:{port}")
    with refusal(FaultError, "'somewhere'", "host:port", action="free port"):
        check_rendezvous("somewhere")
    with refusal(FaultError, "'no-such-host.invalid'", action="/etc/hosts"):
        check_rendezvous("no-such-host.invalid:29400")


def test_a_bucket_is_listed_written_and_read(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    assert "listed, written, read" in check_bucket("memory://doctor-store")
    assert MemoryFileSystem().find("/doctor-store") == []

    def refused(*arguments, **named):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refused)
    with refusal(FaultError, "memory:///doctor-store", "PermissionError", action="AWS_ACCESS_KEY_ID"):
        check_bucket("memory://doctor-store")


def test_versions(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# exact\nnumpy==1.0 # old\nno-such-package==1\n")
    with refusal(FaultError, "numpy", "==1.0", action="constraints.txt"):
        check_versions(str(file))


def test_all_faults_come_together_and_what_hangs_is_one(tmp_path, monkeypatch):
    hold = threading.Event()
    monkeypatch.setattr("emeg.doctor.check_bucket", lambda root: hold.wait(30) or "")
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        doctor(DoctorConfig(root=str(tmp_path / "none"), device="cuda", limit_s=8), environment={"RANK": "0"})
    hold.set()
    assert time.monotonic() - began < 60  # what the verb promises
    check_message(
        caught.value, "4 of 10", "disk: ", str(tmp_path / "none"), "gpu: ", "ranks: ", "bucket: ", action="mount"
    )


def test_packages_that_cannot_be_imported_are_all_named(tmp_path, monkeypatch):
    """One sound package, one that fails at import, and one whose class is missing."""
    (tmp_path / "sound_code.py").write_text(
        "from emeg.config import Config\nfrom emeg.plugins import Plugin\n"
        "GOOD = Plugin(Config, dict)\nLESS = Plugin(Config, 'sound_code:Missing')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "sound", {"emeg.encoders": {"good": "sound_code:GOOD"}})
    assert "good (sound 1.0)" in check_plugins()
    install(tmp_path, "broken", {"emeg.tokenizers": {"gone": "no_such_module:PLUGIN"}})
    install(tmp_path, "half", {"emeg.objectives": {"less": "sound_code:LESS"}}, version="0.2")
    with refusal(FaultError, "'gone'", "broken", "'less'", "half 0.2", action="uninstall"):
        check_plugins()
