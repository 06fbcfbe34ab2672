"""Sum the sizes of the all-reduces of a training step on rank 0 of two real ranks, and write them as JSON."""

import json
import logging
import math
import sys
from pathlib import Path

import torch
from benchmarks._tiny import NETWORK, fork_ranks, make_store
from benchmarks.resume import free_port
from torch.profiler import ProfilerActivity, profile

from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.training import TrainTokenizerConfig, train_tokenizer
from emeg.training.product_names import tokenizer_network

FIRST, LAST = 2, 4
"""Counted from the end of step FIRST to the end of step LAST."""


def main(scratch: Path) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    root, answer = scratch / "store", scratch / "sizes.json"
    make_store(root, seconds=60.0)
    config = TrainTokenizerConfig(
        root=str(root),
        overrides=NETWORK,
        steps=6,
        log_every=1,
        checkpoint_every=100,
        validate_every=100,
        device="cpu",
        threads=1,
        launched=False,
        sampling={"budget_channel_seconds": 12, "crop_s": 2.0, "micro_batches": 2},
    )

    def work(progress):
        del progress
        profiler = profile(activities=[ProfilerActivity.CPU], record_shapes=True)

        def measure(done, total, message):
            del total, message
            if done == FIRST:
                profiler.start()
            elif done == LAST:
                profiler.stop()
                shapes = [event.input_shapes for event in profiler.events() if event.name == "gloo:all_reduce"]
                answer.write_text(json.dumps(shapes))

        train_tokenizer(config, progress=measure)

    log = scratch / "log"
    codes = fork_ranks(work, world=2, port=free_port(), log=log).wait()
    assert codes == [0, 0], log.read_text()[-4000:]
    network = BrainTokenizer(BrainTokenizerConfig(**tokenizer_network(config).model_dump()))
    numbers = network.quantizer.exchanged_numbers
    sizes = [math.prod(shape[0]) if shape else 0 for shape in json.loads(answer.read_text())]
    report = {
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "codebook_numbers": numbers,
        "sizes": sizes,
        "logged": sizes[2 : len(sizes) // 2],  # means and codebook use, exchanged when metrics are logged
    }
    (scratch / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
