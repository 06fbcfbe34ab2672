import pickle

import pytest
import torch

from emeg.training.checkpoints import AtomicCheckpointIO, last_name, newest_checkpoint


class Bomb:
    def __reduce__(self):
        return (print, ("ran",))


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / last_name(3)
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(2)}, path)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        AtomicCheckpointIO().save_checkpoint({"x": lambda: 0}, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["x"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_loading_runs_no_code(tmp_path):
    torch.save({"x": Bomb()}, tmp_path / "bad.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt")


def test_newest_is_by_step_and_ignores_leftovers(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for step in (9, 100, 20):
        AtomicCheckpointIO().save_checkpoint({"step": step}, tmp_path / last_name(step))
    (tmp_path / ".partial-xyz").write_bytes(b"half")
    (tmp_path / "best-00000500.ckpt").write_bytes(b"")
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == last_name(100)
