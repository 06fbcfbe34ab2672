"""A training on a full disk (a small separate file system) ends with one line that names the path, and exit code 2."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from benchmarks._tiny import NETWORK, make_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    make_store(folder / "store", people=5, seconds=40.0)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 26 MiB for one test: enough for two checkpoints of 10 MiB, not for three."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=26m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def train(folder: Path, disk: Path, *, seed: int) -> subprocess.CompletedProcess[str]:
    settings = {
        "root": str(folder / "store"),
        "steps": 100,
        "seed": seed,
        "ramp_steps": 10,
        "checkpoint_every": 4,
        "keep_checkpoints": 9,
        "checkpoints": str(disk),
        "validate_every": 1000,
        "device": "cpu",
        "threads": 1,
        "overrides": NETWORK | {"n_filters": 16, "n_dim": 64},
        "sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(settings))
    return subprocess.run(
        [sys.executable, "-m", "emeg.cli", "train-tokenizer", "--config", str(folder / "train.yaml")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_disk_that_fills_while_training_is_one_line_with_the_path(folder: Path, disk: Path):
    done = train(folder, disk, seed=0)
    *_, last = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{disk}/" in last
    assert "last-00000012.ckpt" in last
    assert "make room" in last
    assert len(list(disk.glob("*/last-*.ckpt.sha256"))) == 2  # complete ones stay


def test_a_training_whose_checkpoints_cannot_fit_does_not_begin(folder: Path, disk: Path):
    (disk / "other").write_bytes(b"0" * 20 * 2**20)
    done = train(folder, disk, seed=1)
    assert done.returncode == 2, done.stderr
    assert str(disk) in done.stderr.strip().splitlines()[-1]
    assert "--checkpoints" in done.stderr.strip().splitlines()[-1]
    assert not list(disk.glob("*/last-*"))
