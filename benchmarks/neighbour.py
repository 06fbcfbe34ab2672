"""Measure how much a busy neighbour slows training down, with one rank and with two, or the whole demo.

A tokenizer with the default recipe is trained on a simulated archive for a number of steps: alone, and beside one
process that keeps a core busy. `seconds` are those of the training itself, without the start of its processes. The
weights must be equal in all four runs. Meaningful only on a machine with nothing else to do.

`python -m benchmarks.neighbour demo` runs `emeg demo` on the simulated archive in new stores, alone and beside one
busy process, which takes about half an hour; `ratio_demo` should be at most 1.7.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emeg.data import ShardConfig, shard
from emeg.hashing import sha256_file
from emeg.ingest import IngestConfig, ingest
from emeg.store import Store
from emeg.synthetic import SynthesizeConfig, synthesize
from emeg.training import TrainTokenizerConfig, train_tokenizer

STEPS = int(os.environ.get("EMEG_NEIGHBOUR_STEPS", "150"))
RANKS = (1, 2)


def main() -> None:
    """Measure, and print one flat JSON object last."""
    print(json.dumps(measure_demo() if sys.argv[1:] == ["demo"] else measure_training()))


def measure_demo() -> dict[str, object]:
    """Run the demo twice and compare wall time and the weights of all models."""
    seconds, weights = {}, []
    for name, neighbours in (("idle", 0), ("beside", 1)):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "demo"  # the same name, which is part of the archive's, so that the split is the same
            with busy(neighbours):
                began = time.monotonic()
                subprocess.run([sys.executable, "-m", "emeg.cli", "demo", "--root", str(root)], check=True)
                seconds[name] = time.monotonic() - began
            weights.append(sorted(sha256_file(path) for path in root.glob("models/*/model.safetensors")))
        print(f"demo, {name}: {seconds[name]:.0f} s", flush=True)
    return {
        "bench": "neighbour",
        **{f"demo_{name}_s": round(value, 1) for name, value in seconds.items()},
        "ratio_demo": round(seconds["beside"] / seconds["idle"], 2),
        "models_equal": weights[0] == weights[1] != [],
    }


def measure_training() -> dict[str, object]:
    """Train a tokenizer for a few steps with one rank and with two, alone and beside a busy process."""
    result: dict[str, object] = {"bench": "neighbour", "steps": STEPS}
    hashes: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        archive = synthesize(
            SynthesizeConfig(
                out=f"{folder}/archive",
                n_subjects=4,
                devices=("standard19",),
                imagery_device="standard19",
                devices_per_subject=0,
            )
        ).out
        for ranks in RANKS:
            seconds = {}
            for name, neighbours in (("idle", 0), ("beside", 1)):
                root = f"{folder}/store-{ranks}-{name}"
                ingest(IngestConfig(archive=archive, root=root, workers=2))
                corpus = shard(ShardConfig(root=root, held_out=0.25)).corpus
                config = TrainTokenizerConfig(
                    root=root, corpus=corpus, steps=STEPS, processes=ranks, validate_every=STEPS, device="cpu"
                )
                with busy(neighbours):
                    trained = train_tokenizer(config)
                seconds[name] = trained.seconds
                weights = Path(Store.open(root).local_copy("models", trained.model)) / "model.safetensors"
                hashes.add(sha256_file(weights))
                print(f"{ranks} ranks, {name}: {trained.seconds:.1f} s", flush=True)
            result |= {f"{name}_{ranks}_s": round(value, 1) for name, value in seconds.items()}
            result[f"ratio_{ranks}"] = round(seconds["beside"] / seconds["idle"], 2)
    return result | {"models_equal": len(hashes) == 1}


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Keep `n` cores busy inside the block."""
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


if __name__ == "__main__":
    main()
