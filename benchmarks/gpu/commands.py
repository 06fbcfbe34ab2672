"""Whole runs: a training that is stopped and resumed, and tokenizing."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._tiny import NETWORK, make_store
from benchmarks._training_modules import tokenizer_module
from benchmarks.gpu.device import Result, Setup, seconds_of

from emeg.training.stages.corpus_tokens import PartWriter


def run(setup: Setup) -> Result:
    """Train through the command line with a process group, stop it by a signal, and resume it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        make_store(root, people=6, channels=6, seconds=60.0)
        steps = 12 if setup.tiny else 200
        options = {
            "root": str(root),
            "overrides": NETWORK,
            "steps": steps,
            "ramp_steps": 10,
            "sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2},
            "log_every": 1,
            "checkpoint_every": 4,
            "validate_every": steps // 2,
            "device": setup.device.type,
            "strategy": "fsdp2",  # one rank has a process group only then: NCCL on a GPU, gloo on a CPU
        }
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(options))
        command = [sys.executable, "-m", "emeg.cli", "train-tokenizer", "--config", str(config)]
        log = Path(folder) / "log"
        began = time.perf_counter()
        first = stopped_run(command, root, log)
        resumed = subprocess.run(command, capture_output=True, text=True, check=False)
        return {
            "stopped_with": first,
            "stopped_at": latest_step(root),
            "resumed_with": resumed.returncode,
            "models": len(list((root / "models").glob("*/config.json"))),
            "seconds": time.perf_counter() - began,
            "error": resumed.stderr[-1500:] if resumed.returncode else "",
        }


def stopped_run(command: Sequence[str], root: Path, log: Path) -> int:
    """Start a training, send SIGTERM after its first checkpoint, and return its exit code (75 if it can resume)."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        until = time.monotonic() + 90
        while child.poll() is None and time.monotonic() < until and latest_step(root) == 0:
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        try:
            return child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise


def latest_step(root: Path) -> int:
    """Return the step of the newest complete checkpoint; 0 if there is none."""
    steps = [int(path.name[5:13]) for path in root.glob("runs/*/checkpoints/last-*.ckpt.sha256")]
    return max(steps, default=0)


def tokenizing(setup: Setup) -> Result:
    """Measure how many segments of 10 s the verb tokenize encodes in a second."""
    found: Result = {}
    preset = "nano" if setup.tiny else "paper"
    for channels, n in ((8, 1),) if setup.tiny else ((19, 20), (64, 6), (306, 1)):
        module, batch = tokenizer_module(preset, channels, n, device="cpu")
        writer = PartWriter.__new__(PartWriter)
        writer.__dict__ |= {"_tokenizer": module.network.to(setup.device).eval(), "_device": setup.device}
        seconds = seconds_of(
            setup,
            lambda writer=writer, batch=batch: writer.codes_of(batch, overlap=0.25),  # type: ignore[misc]
            repeats=1 if setup.tiny else 5,
        )
        found[f"segments_per_s_{channels}"] = n / seconds
    return found
