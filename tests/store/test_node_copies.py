"""A product of a bucket is copied once per machine, however many processes ask, and no copy is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emeg.store import Store
from emeg.store.node_copies import copies_folder, sweep_copies

READER = """
import sys, time
from pathlib import Path
from emeg.store import Store
store = Store.open(sys.argv[1])
scratch, name = Path(sys.argv[2]), sys.argv[3]
(scratch / f"{name}.ready").touch()
while not (scratch / "go").exists():
    time.sleep(0.01)
copy = store.local_copy("models", "a")
(scratch / f"{name}.path").write_text(str(copy))
(scratch / f"{name}.text").write_text((copy / "model.safetensors").read_text())
while not (scratch / f"{name}.end").exists():
    time.sleep(0.01)
"""
STOPS = """
import os, sys
from emeg.store import Store, staging
copy = staging.download
def killed(product, target):
    (target.parent / ".partial-x").mkdir()
    (target.parent / ".partial-x" / "half").write_text("half")
    os.kill(os.getpid(), 9)
staging.download = killed
Store.open(sys.argv[1]).local_copy("models", "a")
"""


@pytest.fixture
def counted_bucket(tmp_path, monkeypatch):
    """URI of a bucket, and the paths of its GET requests."""
    import fsspec
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    gets: list[str] = []
    answer = server._server.app

    def count(environ, start_response):
        if environ["REQUEST_METHOD"] == "GET":
            gets.append(environ["PATH_INFO"])
        return answer(environ, start_response)

    server._server.app = count
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    s3fs.S3FileSystem.clear_instance_cache()
    fsspec.filesystem("s3").mkdir(tmp_path.name.replace("_", "-"))
    yield f"s3://{tmp_path.name.replace('_', '-')}/store", gets
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def publish(uri: str, text: str = "weights") -> Store:
    store = Store.open(uri, create=True)
    with store.publishing("models", "a") as folder:
        (folder / "config.json").write_text(f'{{"of": "{text}"}}')
        (folder / "model.safetensors").write_text(text)
    return store


def wait_for(*paths: Path) -> None:
    end = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, paths
        time.sleep(0.02)


def start(uri: str, scratch: Path, name: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", READER, uri, str(scratch), name])


def end(scratch: Path, **readers: subprocess.Popen) -> None:
    for name, reader in readers.items():
        (scratch / f"{name}.end").touch()
        assert reader.wait(timeout=60) == 0


def copies() -> list[Path]:
    return [path for path in copies_folder().iterdir() if path.is_dir()]


def test_two_processes_of_a_machine_share_one_copy(counted_bucket, tmp_path):
    uri, gets = counted_bucket
    publish(uri)
    gets.clear()
    ranks = {name: start(uri, tmp_path, name) for name in ("r0", "r1")}
    wait_for(*(tmp_path / f"{name}.ready" for name in ranks))
    (tmp_path / "go").touch()
    wait_for(*(tmp_path / f"{name}.text" for name in ranks))
    assert [(tmp_path / f"{name}.text").read_text() for name in ranks] == ["weights"] * 2
    assert sum(path.endswith("model.safetensors") for path in gets) == 1
    (found,) = copies()
    assert {(tmp_path / f"{name}.path").read_text() for name in ranks} == {str(found / "content")}
    end(tmp_path, r0=ranks["r0"])
    assert copies() == [found]  # the other rank reads it still
    end(tmp_path, r1=ranks["r1"])
    assert copies() == []


def test_a_process_that_dies_while_it_copies_is_replaced(counted_bucket):
    uri, _ = counted_bucket
    store = publish(uri)
    assert subprocess.run([sys.executable, "-c", STOPS, uri]).returncode == -signal.SIGKILL
    (left,) = copies()
    assert [path.name for path in left.glob(".partial*")] == [".partial-x"]
    copy = store.local_copy("models", "a")
    assert copy == left / "content"
    assert (copy / "model.safetensors").read_text() == "weights"
    assert not list(left.glob(".partial*"))


def test_the_copy_of_a_dead_process_is_used_again_or_swept(counted_bucket, tmp_path):
    uri, gets = counted_bucket
    store = publish(uri)
    (tmp_path / "go").touch()
    reader = start(uri, tmp_path, "dead")
    wait_for(tmp_path / "dead.text")
    assert sweep_copies() == 0
    os.kill(reader.pid, signal.SIGKILL)
    reader.wait()
    gets.clear()
    copy = store.local_copy("models", "a")
    assert not any(path.endswith("model.safetensors") for path in gets)
    assert (copy / "model.safetensors").read_text() == "weights"
    del store
    assert copies() == []
    again = start(uri, tmp_path, "again")
    wait_for(tmp_path / "again.text")
    again.kill()
    again.wait()
    assert len(copies()) == 1
    assert sweep_copies() == 1
    assert list(copies_folder().iterdir()) == []


def test_another_product_of_the_same_name_is_another_copy(counted_bucket):
    uri, _ = counted_bucket
    first = publish(uri)
    before = first.local_copy("models", "a")
    first.root.fs.rm(first.location("models", "a").path, recursive=True)
    second = publish(uri, "other")
    copy = second.local_copy("models", "a")
    assert (copy / "model.safetensors").read_text() == "other"
    assert copy != before
