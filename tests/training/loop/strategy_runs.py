"""Train with one rank, with DDP and with FSDP2 on two; losses and hashes are printed as JSON."""

import hashlib
import json
import logging
import shutil
import sys
from pathlib import Path

from benchmarks._tiny import NETWORK, fork_ranks, make_store
from benchmarks.resume import free_port, losses_of

from emeg.errors import TransientError
from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig, pretrain, tokenize, train_tokenizer

STEPS = 6


def config_of(kind, root, **changes):
    shared = {"root": str(root), "steps": STEPS, "log_every": 1, "checkpoint_every": 4, "validate_every": 3}
    shared |= {"device": "cpu", "threads": 1, "launched": False, **changes}
    if kind == "tokenizer":
        sampling = {"budget_channel_seconds": 12, "crop_s": 2.0, "micro_batches": 8}
        return TrainTokenizerConfig(
            **shared, recipe="braintokenizer-nano", overrides=NETWORK, ramp_steps=3, sampling=sampling
        )
    sizes = {"lm_dim": 32, "lm_head": 4, "lm_depth": 2, "lm_dropout": 0.1}
    return PretrainConfig(**shared, overrides=sizes, batch_segments=2, micro_batches=8)


def train(scratch, kind, root, *, world=2, stop_at=None, **changes):
    def work(progress):
        def stop(done, total, message):
            if done == stop_at:
                raise TransientError("stopped")

        (train_tokenizer if kind == "tokenizer" else pretrain)(config_of(kind, root, **changes), progress=stop)

    log = scratch / "log"
    codes = fork_ranks(work, world=world, port=free_port(), log=log).wait()
    assert stop_at or codes == [0] * world, log.read_text()[-4000:]


def model_of(root, before):
    (folder,) = [path for path in (root / "models").iterdir() if path.name not in before]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def main():
    logging.disable(logging.WARNING)
    scratch = Path(sys.argv[1])
    base = scratch / "base"
    make_store(base, seconds=60.0)
    report = {}
    for kind in ("tokenizer", "brainomni"):
        losses, models = {}, {}
        before = {path.name for path in (base / "models").iterdir()} if (base / "models").exists() else set()
        for name, world, strategy in (("alone", 1, "auto"), ("ddp", 2, "ddp"), ("fsdp2", 2, "fsdp2")):
            root = scratch / f"{kind}-{name}"
            shutil.copytree(base, root, ignore=shutil.ignore_patterns("runs"))
            train(scratch, kind, root, world=world, strategy=strategy)
            losses[name] = losses_of(root)
            models[name] = model_of(root, before)
        # stopped as FSDP2 on two ranks, continued as one process without it
        root = scratch / f"{kind}-mixed"
        shutil.copytree(base, root, ignore=shutil.ignore_patterns("runs"))
        train(scratch, kind, root, strategy="fsdp2", stop_at=5)
        checkpoints = sorted(path.name for path in root.glob("runs/*/checkpoints/last-*.ckpt"))
        train(scratch, kind, root, world=1)
        losses["mixed"] = losses_of(root)
        report[kind] = {"losses": losses, "models": models, "checkpoints": checkpoints}
        if kind == "tokenizer":
            shutil.copytree(scratch / "tokenizer-ddp", scratch / "coded")
            base = scratch / "coded"
            tokenize(TokenizeConfig(root=str(base), device="cpu"))
    (scratch / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
