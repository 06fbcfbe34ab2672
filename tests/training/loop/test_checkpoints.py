import hashlib
import pickle
import threading

import pytest
import torch

from emeg.training.loop.checkpoints import DIGEST, AtomicCheckpointIO, CheckpointFolder, last_name
from emeg.uri import locate


class Bomb:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.fixture(params=["disk", "memory", "bucket"])
def folder(request, tmp_path):
    uri = {
        "disk": lambda: tmp_path,
        "memory": lambda: f"memory://checkpoints-{tmp_path.name}",
        "bucket": lambda: request.getfixturevalue("bucket"),
    }[request.param]()
    return CheckpointFolder(locate(uri), keep=2)


def save(folder, step, value=0):
    AtomicCheckpointIO().save_checkpoint({"step": step, "value": value}, folder.last(step))


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / last_name(3)
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(2)}, path)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        AtomicCheckpointIO().save_checkpoint({"x": lambda: 0}, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["x"], torch.ones(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + DIGEST]
    assert (tmp_path / (path.name + DIGEST)).read_text().strip() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_loading_runs_no_code(tmp_path):
    torch.save({"x": Bomb()}, tmp_path / "bad.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt")


def test_newest_is_by_step_and_ignores_leftovers(folder):
    assert folder.newest() is None
    for step in (9, 100, 20):
        save(folder, step)
    (folder.location / ".partial-xyz").write_bytes(b"half")
    (folder.location / "best-00000500.ckpt").write_bytes(b"")
    assert folder.newest() == folder.last(100)
    folder.sweep()
    assert not (folder.location / ".partial-xyz").exists()


@pytest.mark.parametrize("harm", ["truncated", "one bit", "no digest", "no file"])
def test_incomplete_checkpoints_are_skipped_and_reported(folder, caplog, harm):
    save(folder, 1)
    save(folder, 2)
    path = locate(folder.last(2))
    digest = locate(folder.last(2) + DIGEST)
    data = path.read_bytes()
    if harm == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "one bit":
        path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    elif harm == "no digest":
        digest.remove()
    else:
        path.remove()
    assert folder.newest() == folder.last(1)
    (warning,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert last_name(2) in warning.getMessage()


def test_the_last_few_and_the_best_are_kept(folder):
    for step in (10, 20, 30, 40):
        save(folder, step)
    for step in (5, 15, 25, 35):
        AtomicCheckpointIO().save_checkpoint({}, folder.best(step))
    folder.prune()
    assert folder.steps("last") == [30, 40]
    # 25 is what the checkpoint at 30 calls the best, 35 what the one at 40 does
    assert folder.steps("best") == [25, 35]
    folder.prune()
    assert folder.steps("last") == [30, 40]


def test_checkpoints_are_written_in_the_background_one_at_a_time(tmp_path, monkeypatch):
    folder = CheckpointFolder(locate(tmp_path), keep=9)
    released, threads = threading.Event(), []
    original = AtomicCheckpointIO._write

    def slow(self, data, path):
        threads.append(threading.current_thread())
        assert released.wait(10)
        original(self, data, path)

    monkeypatch.setattr(AtomicCheckpointIO, "_write", slow)
    writer = AtomicCheckpointIO(in_background=True)
    state = torch.zeros(3)
    writer.save_checkpoint({"x": state}, folder.last(1))
    state += 1  # what follows does not reach what was handed over
    assert folder.newest() is None
    threading.Timer(0.1, released.set).start()
    writer.save_checkpoint({"x": state}, folder.last(2))
    assert folder.steps("last")[0] == 1, "the second waited for the first"
    writer.wait()
    assert threads[0] is not threading.main_thread()
    assert writer.load_checkpoint(folder.last(1))["x"].tolist() == [0.0] * 3
    assert writer.load_checkpoint(folder.last(2))["x"].tolist() == [1.0] * 3


def test_a_fault_of_the_writer_comes_out(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    writer = AtomicCheckpointIO(in_background=True)
    writer.save_checkpoint({}, tmp_path / "file" / "last-00000001.ckpt")
    with pytest.raises(OSError, match="file"):
        writer.wait()
