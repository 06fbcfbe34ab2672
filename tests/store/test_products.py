"""Products appear complete or not at all, in folders and buckets, however the writer is killed."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError
from tests.messages import refusal

from emeg.errors import EmegError, TransientError, UserError
from emeg.store import Store
from emeg.store.files import SCHEMA, marker_of

WRITER = """
import sys
from emeg.store import Store
from emeg.store.files import SCHEMA
store = Store.open(sys.argv[1])
for number in range(10_000):
    with store.publishing("models", f"model-{number:05d}") as folder:
        (folder / "config.json").write_text("{}")
        for part in range(5):
            (folder / f"part-{part}").write_bytes(bytes([part]) * 20_000)
    store.write_bytes(b"x" * 5_000, "catalog", "recordings", f"{number:05d}.parquet")
"""


def publish(store: Store, name: str, text: str = "weights") -> None:
    with store.publishing("models", name) as folder:
        (folder / "config.json").write_text("{}")
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "model.safetensors").write_text(text)


def test_published_product_is_complete(store: Store) -> None:
    assert not store.has("models", "a")
    publish(store, "b")
    publish(store, "a")
    assert store.has("models", "a")
    assert store.names("models") == ["a", "b"]
    copy = store.local_copy("models", "a")
    assert (copy / "deep" / "er" / "model.safetensors").read_text() == "weights"
    assert store.location("models", "a", "deep", "er", "model.safetensors").read_bytes() == b"weights"


def test_error_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.publishing("models", "a") as folder:
            (folder / "config.json").write_text("{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.names("models") == []
    assert not store.location("models", "a").exists()
    assert not store.location(".partial").exists()


def test_product_without_marker_is_refused(store: Store) -> None:
    with (
        refusal(EmegError, "models/a", "config.json", action="write it"),
        store.publishing("models", "a") as folder,
    ):
        (folder / "model.safetensors").write_text("weights")
    assert not store.location("models", "a").exists()


def test_folder_without_marker_does_not_count_and_is_replaced(store: Store) -> None:
    store.write_bytes(b"half", "models", "a", "deep", "er", "model.safetensors")
    assert not store.has("models", "a")
    assert store.names("models") == []
    with refusal(UserError, "models/a", action="another"):
        store.local_copy("models", "a")
    publish(store, "a")
    assert store.names("models") == ["a"]
    assert store.location("models", "a", "deep", "er", "model.safetensors").read_bytes() == b"weights"
    assert not store.location(".partial").exists()


def test_second_writer_discards_its_own(store: Store) -> None:
    with store.publishing("models", "a") as outer:
        (outer / "config.json").write_text("{}")
        (outer / "late").write_text("late")
        publish(store, "a")
    assert store.location("models", "a", "deep", "er", "model.safetensors").read_bytes() == b"weights"
    assert not store.location("models", "a", "late").exists()


def test_second_writer_after_the_check_discards_its_own(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # The other writer's move falls between our look and our move.
    with local_store.publishing("models", "a") as outer:
        (outer / "config.json").write_text("{}")
        publish(local_store, "a")
        monkeypatch.setattr(Store, "has", lambda *_: False)
    monkeypatch.undo()
    assert local_store.location("models", "a", "deep").exists()
    assert not local_store.location(".partial").exists()


def test_marker_is_uploaded_last(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(bucket, create=True)
    fs, uploads = store.root.fs, []
    put_file = fs.put_file

    def failing(local: str, remote: str, **options: object) -> None:
        uploads.append(remote.rsplit("/", 1)[-1])
        if uploads[-1] == "config.json":
            raise ConnectionResetError("the line went down")
        put_file(local, remote, **options)

    monkeypatch.setattr(fs, "put_file", failing)
    with refusal(TransientError, "models/a", "line went", action="again"):
        publish(store, "a")
    assert uploads == ["model.safetensors", "config.json"]
    assert not store.has("models", "a")
    monkeypatch.undo()
    publish(store, "a")
    assert store.names("models") == ["a"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (ConnectionResetError("reset"), TransientError),
        (TimeoutError("slow"), TransientError),
        (EndpointConnectionError(endpoint_url="http://bucket"), TransientError),
        (OSError(errno.EBUSY, "SlowDown"), TransientError),
        (PermissionError("Forbidden"), PermissionError),
    ],
)
def test_faults_of_the_line_may_be_retried(fault: Exception, expected: type, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open("memory://faults", create=True)

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(type(store.root.fs), "exists", fail)
    with pytest.raises(expected) as caught:
        store.has("models", "a")
    assert str(fault) in str(caught.value)


def test_another_process_sees_it_at_once(bucket: str) -> None:
    store = Store.open(bucket, create=True)
    assert store.names("models") == []
    assert not store.has("models", "model-00000")
    environment = dict(os.environ)
    script = WRITER.replace("10_000", "2")
    subprocess.run([sys.executable, "-c", script, bucket], check=True, env=environment, timeout=60)
    assert store.has("models", "model-00000")
    assert store.names("models") == ["model-00000", "model-00001"]


@pytest.mark.parametrize("delay_s", [0.003, 0.02, 0.05])
def test_killed_writer_leaves_partial_at_most(local_store: Store, delay_s: float) -> None:
    root = local_store.root.local_path()
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(root)])
    deadline = time.monotonic() + 30
    while not local_store.names("models"):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for name in [path.name for path in (root / "models").iterdir()]:
        assert [(root / "models" / name / f"part-{part}").stat().st_size for part in range(5)] == [20_000] * 5
    rows = root / "catalog" / "recordings"
    assert all(path.stat().st_size == 5_000 for path in (rows.iterdir() if rows.exists() else []))
    local_store.sweep()
    assert {path.name for path in root.iterdir()} <= {"store.json", "models", "catalog"}


def test_sweep_spares_living_writers(local_store: Store) -> None:
    partial = local_store.root.local_path() / ".partial"
    with local_store.publishing("models", "a") as folder:
        (folder / "config.json").write_text("{}")
        (partial / "models-b-00000000").mkdir()
        (partial / "models-b-00000000" / "config.json").write_text("{}")
        (partial / "models-c-00000000.lock").touch()
        assert Store.open(local_store.root.local_path()).sweep() == 2
        assert [path.name.partition("-")[0] for path in partial.iterdir()] == ["models", "models"]
    assert local_store.names("models") == ["a"]
    assert local_store.sweep() == 0


@pytest.mark.parametrize(
    ("kind", "verb", "option"),
    [("corpora", "shard", "--corpus"), ("tokens", "tokenize", "--tokens"), ("evaluations", "evaluate", "--evaluation")],
)
def test_only_names_the_verb_and_the_option(local_store: Store, kind: str, verb: str, option: str) -> None:
    with refusal(UserError, kind, action=f"`emeg {verb}`"):
        local_store.only(kind, None)
    for name in ("a", "b"):
        with local_store.publishing(kind, name) as folder:
            (folder / marker_of(kind)).write_text("{}")
    with refusal(UserError, kind, action=option):
        local_store.only(kind, None)


def test_only(store: Store) -> None:
    with refusal(UserError, "models/", action="make one"):
        store.only("models", None)
    publish(store, "a")
    assert store.only("models", None) == "a"
    publish(store, "b")
    assert store.only("models", "b") == "b"
    with refusal(UserError, "models/", action="a, b"):
        store.only("models", None)
    with refusal(UserError, "'c'", "models/", action="a, b"):
        store.only("models", "c")


def test_open_refuses_what_is_no_store(tmp_path: Path) -> None:
    with refusal(UserError, tmp_path / "nothing", action="`emeg ingest`"):
        Store.open(tmp_path / "nothing")
    (tmp_path / "thesis.docx").touch()
    with refusal(UserError, tmp_path, "thesis.docx", action="another root"):
        Store.open(tmp_path, create=True)
    assert not (tmp_path / "store.json").exists()
    with refusal(UserError, "nosuchprotocol://x", action="fsspec URI"):
        Store.open("nosuchprotocol://x")


@pytest.mark.parametrize(
    ("content", "action"),
    [
        ("[]", "restore"),
        ("{", "restore"),
        ('{"schema": "1"}', "restore"),
        (json.dumps({"schema": SCHEMA + 1}), "update emeg"),
    ],
)
def test_open_refuses_other_schemas(tmp_path: Path, content: str, action: str) -> None:
    (tmp_path / "store.json").write_text(content)
    with refusal(UserError, "store.json", action=action):
        Store.open(tmp_path, create=True)


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".partial"])
def test_names_stay_in_their_kind(local_store: Store, name: str) -> None:
    with refusal(UserError, repr(name), action="slash"):
        local_store.has("models", name)
    with refusal(UserError, "'kitchen'", action="models"):
        local_store.has("kitchen", "a")


def test_store_travels_to_other_processes(store: Store) -> None:
    publish(store, "a")
    copy = store.local_copy("models", "a")
    again = pickle.loads(pickle.dumps(store))
    assert again.local_copy("models", "a") == copy


def test_downloads_are_removed_with_the_store(bucket: str) -> None:
    store = Store.open(bucket, create=True)
    publish(store, "a")
    copy = store.local_copy("models", "a")
    assert copy.is_dir()
    del store
    assert not copy.exists()
