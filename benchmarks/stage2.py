"""Measure how many times faster a training step of BrainOmni is from stored tokens than with tokenising on the fly.

`tiny` on the paper's tokenizer, 306 channels, one segment of 30 s, overlap 0.25, float32, one thread. Both sides run in
one process in alternating steps; times are medians of CPU seconds (user and system). One side reads its codes from a
memory-mapped token set; the other has its signal in memory, so its time includes no reads. Both must give the same
losses.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from emeg.data import MicroBatch, TokenSet
from emeg.models import PRESETS, BrainOmni, parameter_groups
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.training import PretrainConfig
from emeg.training.loop.batches import TokenReader

CHANNELS, SECONDS, RATE, ROUNDS = 306, 30, 256, 4


def network() -> BrainOmni:
    """Create a network with random weights; a first batch initialises the codebooks, so that many codes are used."""
    torch.manual_seed(0)
    tokenizer = BrainTokenizer(TOKENIZERS["paper"]).train()
    x, pos, kind = signal(channels=32, seed=1)
    with torch.no_grad():
        tokenizer.training_loss(x, pos, kind, generator=torch.Generator().manual_seed(0))
    model = BrainOmni(PRESETS["tiny"], tokenizer.requires_grad_(requires_grad=False)).train()
    tokenizer.eval()
    return model


def signal(*, channels: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Create normalised noise with the spectrum of a random walk, and random sensors."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, SECONDS * RATE, generator=generator).cumsum(-1)
    x = x - x.mean(1, keepdim=True)
    pos = torch.randn(1, channels, 6, generator=generator)
    return x / x.std(), pos, torch.randint(3, (1, channels), generator=generator)


def seconds(work: Callable[[], float]) -> tuple[float, float]:
    """Run one step and return its CPU seconds and its loss."""
    began = time.process_time()
    loss = work()
    return time.process_time() - began, loss


def measure(folder: Path) -> dict[str, object]:
    """Time both sides and compare their losses."""
    model = network()
    given = signal(channels=CHANNELS, seed=2)
    codes = model.tokenizer.tokenize(*given, overlap=model.config.overlap_ratio).codes
    np.save(folder / "codes.npy", codes.numpy().astype(np.uint16), allow_pickle=False)
    stored = np.load(folder / "codes.npy", mmap_mode="r", allow_pickle=False)
    reader = TokenReader(cast(TokenSet, SimpleNamespace(codes=stored)))
    place = MicroBatch((0,), (0,), SECONDS * RATE)
    recipe = PretrainConfig(root="", recipe="brainomni-tiny").optimiser
    groups = parameter_groups(model, learning_rate=1e-6, weight_decay=recipe.weight_decay)
    optimiser = torch.optim.AdamW(groups, betas=recipe.betas, eps=recipe.eps, fused=True)
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def step(codes_BQWK: Tensor, features_BQWD: Tensor) -> float:
        loss = model.pretraining_loss(features_BQWD, codes_BQWK, generator=torch.Generator().manual_seed(3)).total
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    def from_tokens() -> float:
        batch = reader.read(place)
        return step(batch.codes, model.tokenizer.features_from_codes(batch.codes))

    def on_the_fly() -> float:
        tokens = model.tokenizer.tokenize(*given, overlap=model.config.overlap_ratio)
        return step(tokens.codes, tokens.features)

    times: dict[str, list[float]] = {"stored": [], "fly": []}
    gap = 0.0
    for _ in range(ROUNDS + 1):
        losses = []
        for name, work in (("stored", from_tokens), ("fly", on_the_fly)):
            model.load_state_dict(start)
            took, loss = seconds(work)
            times[name].append(took)
            losses.append(loss)
        gap = max(gap, abs(losses[0] - losses[1]))
    stored_s, fly_s = (statistics.median(values[1:]) for values in times.values())
    return {
        "benchmark": "stage2",
        "ratio": round(fly_s / stored_s, 2),
        "stored_s": round(stored_s, 2),
        "on_the_fly_s": round(fly_s, 2),
        "tokenize_s": round(fly_s - stored_s, 2),
        "loss_gap": gap,
        "bytes_tokens": int(stored.nbytes),
        "bytes_signal_int16": CHANNELS * SECONDS * RATE * 2,
    }


def main() -> None:
    """Measure, and print the result as one JSON object."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder))))


if __name__ == "__main__":
    main()
