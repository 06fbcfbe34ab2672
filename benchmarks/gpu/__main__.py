"""Measure emeg on one GPU in about eight minutes, the most valuable figures first.

Each stage runs in a process of its own with a time limit, and prints one JSON object when it ends; a stage that fails
does not stop the others. Stages that the budget leaves no time for are named and skipped.

* ceilings: what the device reaches in matrix products, copies and starts of kernels;
* correctness: losses and gradients in float32 and bf16 against float32 on a CPU, codes, and two runs bit for bit;
* waits: every place of a training step at which the host waits for the device;
* speed: milliseconds, segments/s, MFU and memory of a step, eager and compiled, and of a plain implementation;
* kernels: the kernels that take most of a step;
* trainer_overhead: the step of `emeg pretrain` against a bare step;
* memory: micro-batches twice as large each time, until the memory is full, against the forecast of `emeg plan`;
* run: `emeg train-tokenizer` with NCCL, stopped by a signal and resumed;
* tokenizing: segments/s of the verb tokenize.

``--device cpu --tiny`` runs the same code on a CPU within a few minutes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from benchmarks.gpu.device import Result, Setup
from benchmarks.gpu.stages import STAGES


def run_stages(
    names: Sequence[str], *, device: str, tiny: bool, budget_s: float, limit_s: float | None
) -> list[Result]:
    """Run stages one after another, each in a process of its own, and print the result of each as JSON."""
    ends = time.monotonic() + budget_s
    found = []
    for name in names:
        left = ends - time.monotonic()
        limit = min(STAGES[name].limit_s * (4 if tiny else 1) if limit_s is None else limit_s, left)
        result = {"stage": name, "skipped": "no time left"} if left < 5 else run_stage(name, device, tiny, limit)
        found.append(result)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    return found


def run_stage(name: str, device: str, tiny: bool, limit_s: float) -> Result:
    """Run one stage in a process of its own; errors and timeouts are part of the result."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--stage", name, "--device", device]
    command += ["--tiny"] if tiny else []
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, errors = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return {"stage": name, "error": f"not finished within {limit_s:.0f} s"}
    result: Result = {"stage": name, "seconds": round(time.monotonic() - began, 1)}
    if child.returncode:
        return result | {"error": errors.strip()[-1500:] or f"exit code {child.returncode}"}
    return result | json.loads(output.splitlines()[-1])


def main() -> None:
    """Run all stages, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small networks and few repeats, to try the code")
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds for all stages together")
    parser.add_argument("--limit-s", type=float, help="seconds for each stage, in place of its own limit")
    parser.add_argument("--stages", default=",".join(STAGES), help="names, separated by commas")
    parser.add_argument("--stage", choices=tuple(STAGES), help="run this stage in this process")
    asked = parser.parse_args()
    if asked.stage:
        result = STAGES[asked.stage].run(Setup(torch.device(asked.device), asked.tiny))
        sys.stdout.write(json.dumps(result) + "\n")
        return
    names = asked.stages.split(",")
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"--stages: there is no stage {unknown[0]}; choose from {', '.join(STAGES)}")
    found = run_stages(names, device=asked.device, tiny=asked.tiny, budget_s=asked.budget_s, limit_s=asked.limit_s)
    sys.exit(1 if any("error" in result for result in found) else 0)


if __name__ == "__main__":
    main()
