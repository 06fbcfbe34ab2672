"""Plan and apply an `emeg.yaml` of many deployments on a new Prefect server.

    python -m benchmarks.deployments --n 100

Prints one line of JSON with the wall and CPU seconds of `emeg deploy` and of `emeg deploy --apply`, the CPU seconds of
the server meanwhile, and whether a second `emeg deploy --apply` finds changes (0).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from benchmarks._prefect import running_server


def deploy(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Run `emeg deploy` and return its wall seconds, CPU seconds and output."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "emeg.cli", "deploy", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(time.perf_counter() - began, 1), round(cpu, 1), done.stdout


def main() -> None:
    """Run the measurement and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="deployments")
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory(prefix="emeg-deploy-") as name:
        folder = Path(name)
        training = {"verb": "pretrain", "store": "main", "options": {"recipe": "brainomni-nano"}}
        verbs = 6  # shard, tokenize, train-tokenizer, pretrain, finetune and evaluate of the store
        settings = {
            "name": "many",
            "stores": {"main": "store"},
            "trainings": {f"t{number:03d}": training for number in range(n - verbs)},
        }
        (folder / "emeg.yaml").write_text(yaml.safe_dump(settings))
        with running_server(folder) as (url, server):
            os.environ |= {"PREFECT_API_URL": url, "PREFECT_HOME": str(folder / "prefect"), "DO_NOT_TRACK": "1"}
            before_s = sum(server.cpu_times()[:2])
            plan_s, plan_cpu_s, plan = deploy(folder)
            apply_s, apply_cpu_s, _ = deploy(folder, "--apply")
            server_s = sum(server.cpu_times()[:2]) - before_s
            _, _, again = deploy(folder, "--apply")
    found = {"deployments": plan.count("+ deployment "), "plan_s": plan_s, "plan_cpu_s": plan_cpu_s}
    found |= {"apply_s": apply_s, "apply_cpu_s": apply_cpu_s, "server_cpu_s": round(server_s, 1)}
    found |= {"changes_left": 0 if "no changes" in again else 1}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
