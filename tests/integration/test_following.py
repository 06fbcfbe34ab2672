"""Jobs of a real Slurm, followed: adopted, submitted again after a crash, cancelled, and failed with their log."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from benchmarks._slurm import ask, cluster, missing, wait_until
from benchmarks._tiny import NETWORK, make_store

from emeg.errors import StoppedError
from emeg.store import Store
from emeg.training import TrainTokenizerConfig, train_tokenizer
from emeg.training.follow import follow, read_standing
from emeg.training.launch.jobs import find_job, job_state
from emeg.training.loop.rank import find_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster that this process's commands reach, and a store."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("following")
    make_store(folder / "store", people=5, seconds=40.0)
    (folder / "slurm").mkdir()
    before = dict(os.environ)
    with cluster(folder / "slurm") as environment:
        os.environ |= environment | {"PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
        try:
            yield folder / "store"
        finally:
            os.environ.clear()
            os.environ |= before


def training(store: Path, *, seed: int, steps: int, **slurm: object) -> TrainTokenizerConfig:
    return TrainTokenizerConfig.checked(
        {
            "root": str(store),
            "steps": steps,
            "seed": seed,
            "ramp_steps": 10,
            "log_every": 1,
            "checkpoint_every": 10,
            "validate_every": 1000,
            "device": "cpu",
            "threads": 1,
            "launcher": "slurm",
            "overrides": NETWORK,
            "sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2},
            "slurm": slurm,
        },
        source="test",
    )


def kill_ranks(job: str) -> list[int]:
    """Kill the training processes of a job, and no other training; their launcher then fails, and the job with it."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        is_rank = "emeg.training.launch.worker" in (process.info["cmdline"] or [])
        if is_rank and (process.info["environ"] or {}).get("SLURM_JOB_ID") == job:
            process.kill()
            found.append(process.pid)
    return found


def test_a_job_with_killed_ranks_is_queued_again_and_followed_to_its_model(slurm: Path):
    """A rank ended by a signal is lost: the job ends with 75, and its script queues it again under the same number."""
    config = training(slurm, seed=0, steps=150)
    submitted = train_tokenizer(config)
    assert train_tokenizer(config).job == submitted.job  # adopted: the job waits or runs
    run = find_run(config, submitted.model, {})
    killed = []
    heard = []

    def listen(done: int, total: int, message: str) -> None:
        heard.append(message)
        if read_standing(run).step >= 11 and not killed:
            killed.extend(kill_ranks(find_job(run.folder).job))

    result = follow("train-tokenizer", config, submitted, progress=listen, poll_s=1.0)
    assert killed
    assert result.model == submitted.model
    assert not result.done_before
    assert Store.open(slurm).has("models", result.model)
    note = find_job(run.folder)
    assert note.attempts == 1
    assert "Restarts=1" in ask(dict(os.environ), "scontrol", "show", "job", note.job)
    assert any("step 1" in message and "loss" in message for message in heard)
    assert f"{run.checkpoints}/last-" in (run.folder / f"slurm-{find_job(run.folder).job}.log").read_text()


def test_cancelling_the_follower_cancels_the_job_for_good(slurm: Path):
    config = training(slurm, seed=1, steps=4000)
    submitted = train_tokenizer(config)
    run = find_run(config, submitted.model, {})
    with pytest.raises(StoppedError):
        follow(
            "train-tokenizer",
            config,
            submitted,
            progress=lambda *_: None,
            is_cancelled=lambda: read_standing(run).step >= 3,
            poll_s=1.0,
        )
    note = find_job(run.folder)
    wait_until(lambda: job_state(note)[0] == "ended", 60, "the end of the job")
    time.sleep(10.0)
    assert job_state(note)[1] in {"CANCELLED", "unknown to Slurm"}
    assert note.job not in ask(dict(os.environ), "squeue", "-h", "-o", "%i").split()


def test_a_job_that_never_finishes_fails_with_the_end_of_its_log(slurm: Path):
    config = training(slurm, seed=2, steps=20, setup=["echo no-such-module", "exit 3"])
    submitted = train_tokenizer(config)
    with pytest.raises(RuntimeError, match=r"FAILED.* 2 attempts[\s\S]*no-such-module"):
        follow("train-tokenizer", config, submitted, progress=lambda *_: None, restarts=1, poll_s=1.0)
