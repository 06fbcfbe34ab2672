"""Count the collective operations of a training step on rank 0 of a few real ranks, and print them as JSON."""

import json
import logging
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import torch
from benchmarks._tiny import NETWORK, fork_ranks, make_store
from benchmarks.resume import free_port, losses_of
from torch.profiler import ProfilerActivity, profile

from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig, pretrain, tokenize, train_tokenizer

FIRST, LAST, MICRO_BATCHES = 2, 4, 8
"""Operations are counted from the end of step FIRST to the end of step LAST."""


def config_of(kind, root, strategy):
    shared = {"root": str(root), "steps": LAST + 1, "log_every": 1, "checkpoint_every": 100, "validate_every": 100}
    shared |= {"device": "cpu", "threads": 1, "launched": False, "strategy": strategy}
    if kind == "tokenizer":
        sampling = {"budget_channel_seconds": 12, "crop_s": 2.0, "micro_batches": MICRO_BATCHES}
        return TrainTokenizerConfig(**shared, overrides=NETWORK, sampling=sampling)
    sizes = {"lm_dim": 32, "lm_head": 4, "lm_depth": 2, "lm_dropout": 0.1}
    return PretrainConfig(**shared, overrides=sizes, batch_segments=2, micro_batches=MICRO_BATCHES)


def counts_of(scratch, kind, base, strategy, *, world, nodes=1):
    """Train, and return operations per step by name, and the losses."""
    root = scratch / f"{kind}-{strategy}-{world}"
    shutil.copytree(base, root, ignore=shutil.ignore_patterns("runs"))
    answer = scratch / "counts.json"
    answer.unlink(missing_ok=True)

    def work(progress):
        del progress
        os.environ["LOCAL_WORLD_SIZE"] = str(world // nodes)
        os.environ["LOCAL_RANK"] = str(int(os.environ["RANK"]) % (world // nodes))
        os.environ["GROUP_RANK"] = str(int(os.environ["RANK"]) // (world // nodes))
        profiler = profile(activities=[ProfilerActivity.CPU])

        def count(done, total, message):
            if done == FIRST:
                profiler.start()
            elif done == LAST:
                profiler.stop()
                found = Counter()
                for event in profiler.key_averages():
                    if event.key.startswith("gloo:"):
                        found[event.key.removeprefix("gloo:")] += event.count
                answer.write_text(json.dumps(found))

        (train_tokenizer if kind == "tokenizer" else pretrain)(config_of(kind, root, strategy), progress=count)

    log = scratch / "log"
    codes = fork_ranks(work, world=world, port=free_port(), log=log).wait()
    assert codes == [0] * world, log.read_text()[-4000:]
    per_step = {name: n / (LAST - FIRST) for name, n in json.loads(answer.read_text()).items()}
    return {"per_step": per_step, "losses": losses_of(root)}


def main(scratch: Path) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    base = scratch / "base"
    make_store(base, seconds=60.0)
    report = {"tokenizer ddp": counts_of(scratch, "tokenizer", base, "ddp", world=2)}
    coded = scratch / "coded"
    shutil.copytree(scratch / "tokenizer-ddp-2", coded)
    tokenize(TokenizeConfig(root=str(coded), device="cpu"))
    report["brainomni ddp"] = counts_of(scratch, "brainomni", coded, "ddp", world=2)
    report["brainomni fsdp2"] = counts_of(scratch, "brainomni", coded, "fsdp2", world=2)
    report["brainomni hybrid"] = counts_of(scratch, "brainomni", coded, "hybrid", world=4, nodes=2)
    (scratch / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
