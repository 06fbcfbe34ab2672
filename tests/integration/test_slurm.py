"""A training handed to a real Slurm: submitted, stopped by a signal, queued again, finished."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks._slurm import ask, cluster, missing, wait_until
from benchmarks._tiny import NETWORK, make_store

from emeg.store import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_submit_requeue_after_a_signal_and_finish(tmp_path):
    if reason := missing():
        pytest.skip(reason)
    root = tmp_path / "store"
    make_store(root, people=5, seconds=40.0)
    config = tmp_path / "train.yaml"
    config.write_text(
        f"root: {root}\nsteps: 150\nramp_steps: 10\nlog_every: 1\ncheckpoint_every: 1000\nvalidate_every: 50\n"
        f"device: cpu\nthreads: 1\nlauncher: slurm\noverrides: {NETWORK}\n"
        "sampling: {budget_channel_seconds: 40, crop_s: 2.0, micro_batches: 2}\n"
    )
    (tmp_path / "slurm").mkdir()
    with cluster(tmp_path / "slurm") as environment:
        environment |= {"PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "emeg.cli", "train-tokenizer", "--config", str(config)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        job = re.search(r"slurm job (\d+)", done.stdout)[1]
        (run,) = (root / "runs").iterdir()
        log = run / f"slurm-{job}.log"

        def state():
            return re.search(r"JobState=(\w+)", ask(environment, "scontrol", "show", "job", job) + "JobState=GONE")[1]

        def steps():
            metrics = run / "metrics.csv"
            return metrics.read_text().count(",loss,") if metrics.exists() else 0

        try:
            wait_until(lambda: steps() >= 10, 90, "ten steps")
            subprocess.run(["scancel", "--signal=TERM", job], env=environment, check=True)
            wait_until(lambda: "ended with 75" in log.read_text(), 60, "exit code 75")
            (checkpoint,) = (run / "checkpoints").glob("last-*.ckpt")
            wait_until(lambda: state() == "COMPLETED", 150, "the second start's end")
        finally:
            sys.stdout.write(log.read_text()[-3000:] if log.exists() else f"no {log}")
    text = log.read_text()
    assert f"job {job}, start 0" in text
    assert f"job {job}, start 1" in text
    assert f"going on from {checkpoint}" in text
    assert len(Store.open(root).names("models")) == 1
