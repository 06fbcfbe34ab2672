"""Kill training with SIGKILL at random steps, resume it, and compare all later losses with an undisturbed run.

Both trainings run (tokenizer, and BrainOmni with dropout): with one rank, with two ranks, and with two ranks that are
resumed as one. The tokenizer runs with 0 and with 2 workers that read ahead; BrainOmni reads its tokens at once and
needs none. A run is killed at a random moment after a random step. With an unchanged number of ranks, losses and the
model's files must be equal bit for bit; with another number, the largest relative gap over the next 20 steps is
reported.
"""

import argparse
import csv
import hashlib
import itertools
import json
import logging
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks._tiny import NETWORK, Ranks, fork_ranks, make_store

EVERY, COMPARED = 4, 20
CASES = (((1, 1), 4), ((2, 2), 4), ((2, 1), 2), ((2, 1), 4))
"""Ranks before and after the kill, and micro-batches in a step."""
Losses = dict[int, float]


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def verb_of(
    kind: str, root: Path, workers: int, steps: int, micro_batches: int
) -> Callable[[Callable[..., None]], object]:
    """Return a function that runs a training in this process."""
    import torch

    from emeg.training import PretrainConfig, TrainTokenizerConfig, pretrain, train_tokenizer

    shared: dict[str, Any] = {
        "root": str(root),
        "steps": steps,
        "log_every": 1,
        "checkpoint_every": EVERY,
        "validate_every": 10,
        "device": "cpu",
        "threads": 1,
        "launched": False,
    }

    def work(progress: Callable[..., None]) -> object:
        torch.set_num_threads(1)
        if kind == "tokenizer":
            sampling = {"budget_channel_seconds": 20, "crop_s": 2.0, "micro_batches": micro_batches}
            sampling |= {"workers": workers}
            config = TrainTokenizerConfig(**shared, overrides=NETWORK, ramp_steps=10, sampling=sampling)
            return train_tokenizer(config, progress=progress)
        sizes = {"lm_dim": 32, "lm_head": 4, "lm_depth": 2, "lm_dropout": 0.1}
        return pretrain(
            PretrainConfig(**shared, overrides=sizes, batch_segments=2, micro_batches=micro_batches), progress=progress
        )

    return work


def losses_of(root: Path) -> Losses:
    """Read the losses of the only run below `root`."""
    (file,) = (root / "runs").glob("*/metrics.csv")
    with file.open(newline="") as rows:
        return {
            int(row["step"]): float(row["value"])
            for row in csv.DictReader(rows)
            if (row["split"], row["name"]) == ("train", "loss")
        }


def files_of(root: Path, before: set[str]) -> dict[str, str]:
    """Return the SHA-256 of each file of the model that was made below `root`."""
    (folder,) = [path for path in (root / "models").iterdir() if path.name not in before]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class Runs:
    """Fresh stores for runs of one kind of training."""

    def __init__(self, base: Path, scratch: Path, kind: str, steps: int, micro_batches: int) -> None:
        self._base, self._scratch, self._kind, self._steps = base, scratch, kind, steps
        self._micro_batches = micro_batches
        self._names = (f"{kind}-{micro_batches}-{number}" for number in itertools.count())
        self._models = {path.name for path in (base / "models").iterdir()} if (base / "models").exists() else set()
        self.undisturbed: dict[int, tuple[Losses, dict[str, str]]] = {}

    def start(self, root: Path, world: int, workers: int) -> Ranks:
        """Start a training below `root`."""
        return fork_ranks(
            verb_of(self._kind, root, workers, self._steps, self._micro_batches),
            world=world,
            port=free_port(),
            log=root.with_suffix(".log"),
        )

    def fresh(self) -> Path:
        """Create a store without training runs and return its path."""
        root = self._scratch / next(self._names)
        shutil.copytree(self._base, root, ignore=shutil.ignore_patterns("runs"))
        return root

    def whole(self, world: int) -> tuple[Losses, dict[str, str]]:
        """Return losses and file hashes of an undisturbed training; it runs once for each number of ranks."""
        if world not in self.undisturbed:
            root = self.fresh()
            self.finish(root, world, 0)
            self.undisturbed[world] = losses_of(root), files_of(root, self._models)
        return self.undisturbed[world]

    def finish(self, root: Path, world: int, workers: int) -> None:
        """Train to the end, and exit with the log if a rank fails."""
        codes = self.start(root, world, workers).wait()
        if any(codes):
            raise SystemExit(f"exit codes {codes}\n{root.with_suffix('.log').read_text()[-3000:]}")

    def killed(self, rng: random.Random, ranks: tuple[int, int], workers: int) -> dict[str, Any]:
        """Kill a training at a random step, resume it, and compare it with the undisturbed one."""
        expected, files = self.whole(ranks[0])
        # across numbers of ranks early enough that as many steps follow as are compared
        root, step = self.fresh(), rng.randrange(1, max(2, self._steps - (1 if ranks[0] == ranks[1] else COMPARED)))
        running = self.start(root, ranks[0], workers)
        running.kill_after(step, rng.uniform(0.0, 0.05))
        running.wait()
        found = [p.name for p in sorted((root / "runs").glob("*/checkpoints/last-*.ckpt"))]
        self.finish(root, ranks[1], workers)
        losses = losses_of(root)
        begun = int(found[-1][5:13]) if found else 0
        later = [s for s in sorted(expected) if s > begun][:COMPARED]
        outcome = {
            "killed_after": step,
            "went_on_from": begun,
            "losses_equal": losses == expected,
            "model_equal": files_of(root, self._models) == files,
            "gap": max(abs(losses[s] - expected[s]) / abs(expected[s]) for s in later),
        }
        shutil.rmtree(root)
        return outcome


def main() -> None:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="cases to leave out before")
    parser.add_argument("--steps", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        outcomes = list(measure(scratch, rng, arguments))
    alone = [o for o in outcomes if o["ranks"] == (1, 1)]
    pairs = [o for o in outcomes if o["ranks"] == (2, 2)]
    changed = [o for o in outcomes if o["ranks"] == (2, 1)]
    print(
        json.dumps(
            {
                "benchmark": "resume",
                "bitwise_equal": all(o["losses_equal"] and o["model_equal"] for o in alone),
                "bitwise_equal_two_ranks": all(o["losses_equal"] and o["model_equal"] for o in pairs),
                "max_rel_gap": gap_of(changed),
                "max_rel_gap_brainomni": gap_of(o for o in changed if o["kind"] == "brainomni"),
                "max_rel_gap_tokenizer": gap_of(o for o in changed if o["kind"] == "tokenizer"),
                "max_rel_gap_one_micro_batch_a_rank": gap_of(o for o in changed if o["micro_batches"] == 2),
                "kills": len(outcomes),
                "kills_one_rank": len(alone),
                "kills_two_ranks": len(pairs),
                "kills_two_to_one": len(changed),
                "went_on_from_a_checkpoint": sum(o["went_on_from"] > 0 for o in outcomes),
            }
        )
    )


def gap_of(outcomes: Iterable[dict[str, Any]]) -> float:
    """Return the largest relative gap of all outcomes."""
    return max((outcome["gap"] for outcome in outcomes), default=0.0)


def measure(scratch: Path, rng: random.Random, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Kill and resume trainings; yield one outcome for each kill."""
    from emeg.training import TokenizeConfig, tokenize

    base, coded = scratch / "base", scratch / "coded"
    make_store(base)
    shutil.copytree(base, coded)
    run = fork_ranks(verb_of("tokenizer", coded, 0, 4, 4), world=1, port=0, log=scratch / "base.log")
    if run.wait() != [0]:
        raise SystemExit((scratch / "base.log").read_text()[-3000:])
    run = fork_ranks(
        lambda progress: tokenize(TokenizeConfig(root=str(coded), device="cpu")), world=1, port=0, log=scratch / "b.log"
    )
    if run.wait() != [0]:
        raise SystemExit((scratch / "b.log").read_text()[-3000:])
    roots = {"tokenizer": base, "brainomni": coded}
    runs = {(kind, m): Runs(root, scratch, kind, asked.steps, m) for kind, root in roots.items() for m in (2, 4)}
    cases = itertools.cycle(itertools.product((0, 2), CASES, roots))
    for n_workers, (ranks, m), kind in itertools.islice(cases, asked.first, asked.first + asked.kills):
        outcome = {"kind": kind, "ranks": ranks, "micro_batches": m, "workers": n_workers}
        outcome |= runs[kind, m].killed(rng, ranks, n_workers)
        print(json.dumps(outcome), flush=True)
        yield outcome


if __name__ == "__main__":
    main()
