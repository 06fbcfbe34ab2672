"""Compare quantizers of equal rate, and two token rates, by what they keep of each band of validation subjects.

`python -m benchmarks.study.quantizers STORE '{"quantizer": "scalar"}'` trains a tokenizer on the training subjects of
a store whose recordings have equal channels, such as `ssvep`, and prints one JSON line for each number of levels read:
bits a second, correlation by band, CPU seconds. Each latent and step has 64 bits:

- `residual`: eight codebooks of 256 codes, as in the recipes; `dropout` is the share of steps that train with fewer.
- `scalar`: finite scalar quantization (arXiv 2309.15505), 32 dimensions of 4 values.
- `lookup_free`: 64 signs (arXiv 2310.05737).
- `two_rates`: two networks. A slow one codes the equalised signal below `CROSSOVER_HZ` in steps of 128 samples with
  eight codebooks, a fast one the rest in steps of 32 samples with six: 2,048 + 6,144 bits a second.

Shape letters: B batch, C channels, N samples, W windows, L samples in a window, S latent sources, T latent steps,
D features.
"""

import json
import math
import sys
import time
from typing import Any, Literal

import numpy as np
import torch
from benchmarks.study.planar import STUDIED, fitted_equaliser
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from emeg.config import Config
from emeg.data import BatchReader, Corpus, MicroBatch
from emeg.evaluation.reconstruction import correlate_in_bands
from emeg.store import Store
from emeg.tokenizers.braintokenizer import BrainTokenizer, normalise_signal, parameter_groups
from emeg.tokenizers.braintokenizer.equaliser import Equaliser

WINDOW = 512
SFREQ = 256.0
SCALAR_VALUES = {"scalar": 4, "lookup_free": 2}
"""Values of each number of a scalar quantizer; eight levels of 256 codes have 32 and 64 numbers."""
CROSSOVER_HZ = 8.0
CROSSOVER_OCTAVES = 0.5
"""Width of the transition, a raised cosine over the logarithm of frequency."""
SLOW: dict[str, Any] = {"ratios": (8, 4, 4), "num_quantizers": 8}
FAST: dict[str, Any] = {"ratios": (4, 4, 2), "num_quantizers": 6}
LOWER_LEVELS = (6, 4, 2)
"""Further numbers of codebooks at which residual codes are read, and that `dropout` draws from."""

Signals = tuple[Tensor, Tensor, Tensor]
"""Normalised signal (B, C, N), positions (B, C, 6), sensor types (B, C)."""


class Run(Config):
    """One training."""

    name: str = ""
    """Name under which the result is printed."""
    quantizer: Literal["residual", "scalar", "lookup_free", "two_rates"] = "residual"
    """How latents are quantized."""
    dropout: float = Field(0.0, ge=0, le=1)
    """Share of the steps that train with 2, 4 or 6 codebooks; `residual` only."""
    network: dict[str, Any] = Field(default_factory=dict)
    """Changed options of `STUDIED`."""
    steps: int = 400
    """Optimiser steps."""
    windows: int = 16
    """Windows of a step."""
    seed: int = 0
    """Seed of weights and draws."""


class Levels:
    """Number of codebooks that a residual quantizer uses."""

    def __init__(self, network: BrainTokenizer) -> None:
        self.quantizer = network.quantizer
        self.layers = list(network.quantizer.layers)

    def use(self, n: int) -> None:
        """Use the first `n` codebooks only."""
        self.quantizer.layers = nn.ModuleList(self.layers[:n])


class TwoRates(nn.Module):
    """A slow network for low frequencies and a fast one for high ones, whose reconstructions are added.

    Parameters
    ----------
    options : dict
        Options of both networks.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        config = STUDIED.model_copy(update={**options, "equaliser": None})
        self.slow = BrainTokenizer(config.model_copy(update=SLOW))
        self.fast = BrainTokenizer(config.model_copy(update=FAST))

    def training_loss(self, x: Tensor, pos: Tensor, types: Tensor, ramp: float) -> Tensor:
        """Return the sum of both losses on an equalised signal.

        Parameters
        ----------
        x : float32, shape (batch, channels, samples)
            Equalised signal, dimensionless.
        pos : float32, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        types : int64, shape (batch, channels)
            Codes of `SensorType`.
        ramp : float
            Weight of the terms other than correlation and commitment.
        """
        parts = zip((self.slow, self.fast), split(x), strict=True)
        return torch.stack([net.training_loss(part, pos, types, loss_ramp=ramp).total for net, part in parts]).sum()

    def reconstruct(self, x: Tensor, pos: Tensor, types: Tensor) -> Tensor:
        """Return the sum of both reconstructions: float32, shape (batch, channels, samples).

        Parameters
        ----------
        x : float32, shape (batch, channels, samples)
            Equalised signal, dimensionless.
        pos : float32, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        types : int64, shape (batch, channels)
            Codes of `SensorType`.
        """
        parts = zip((self.slow, self.fast), split(x), strict=True)
        return torch.stack([net.reconstruct(part, pos, types).flatten(2) for net, part in parts]).sum(0)


def split(x_BCN: Tensor) -> tuple[Tensor, Tensor]:
    """Split a signal at `CROSSOVER_HZ` into two, whose sum is the signal.

    Parameters
    ----------
    x_BCN : float32, shape (batch, channels, samples)
        Signal, dimensionless.
    """
    mirrored = torch.cat([x_BCN, x_BCN.flip(-1)], dim=-1)
    freqs = torch.fft.rfftfreq(mirrored.shape[-1], 1 / SFREQ).clamp(min=1e-3)
    octaves = (torch.log2(freqs / CROSSOVER_HZ) / CROSSOVER_OCTAVES).clamp(-1, 1)
    gain = 0.5 * (1 - torch.sin(octaves * math.pi / 2))
    low = torch.fft.irfft(torch.fft.rfft(mirrored) * gain, n=mirrored.shape[-1])[..., : x_BCN.shape[-1]]
    return low, x_BCN - low


def bits_per_second(network: BrainTokenizer | TwoRates, levels: int | None = None) -> float:
    """Return the rate of the codes."""
    if isinstance(network, TwoRates):
        return bits_per_second(network.slow) + bits_per_second(network.fast)
    config = network.config
    share = 1.0 if levels is None else levels / config.num_quantizers
    return share * config.bits_per_step * SFREQ / config.samples_per_step


def build(run: Run) -> BrainTokenizer | TwoRates:
    """Build the network of a run, without an equaliser of its own: it reads an equalised signal."""
    torch.manual_seed(run.seed)
    if run.quantizer == "two_rates":
        return TwoRates(run.network)
    options = {**run.network, "equaliser": None}
    if run.quantizer in SCALAR_VALUES:
        options |= {"quantizer": "scalar", "scalar_values": SCALAR_VALUES[run.quantizer]}
    return BrainTokenizer(STUDIED.model_copy(update=options))


def fit(network: BrainTokenizer | TwoRates, run: Run, equalised: Signals) -> None:
    """Train on windows of equalised segments.

    Parameters
    ----------
    network : BrainTokenizer or TwoRates
    run : Run
    equalised : Signals
        Segments of training subjects.
    """
    x_BCN, pos, types = equalised
    rng = np.random.default_rng(run.seed)
    nets = [network.slow, network.fast] if isinstance(network, TwoRates) else [network]
    rate = 3e-4 if run.quantizer in ("residual", "two_rates") else 2e-3
    groups = [
        group
        for net in nets
        for group in parameter_groups(net, learning_rate=2e-3, quantizer_learning_rate=rate, weight_decay=0.01)
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.5, 0.9), eps=1e-8)
    warm = max(1, round(0.02 * run.steps))

    def scale(step: int) -> float:
        if step < warm:
            return 0.1 + 0.9 * step / warm
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, run.steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
    levels = Levels(nets[0]) if run.dropout else None
    network.train()
    for step in range(run.steps):
        rows = rng.integers(0, len(x_BCN), run.windows)
        starts = rng.integers(0, x_BCN.shape[-1] - WINDOW, run.windows)
        batch = torch.stack([x_BCN[row, :, start : start + WINDOW] for row, start in zip(rows, starts, strict=True)])
        if levels is not None:
            levels.use(int(rng.choice(LOWER_LEVELS)) if rng.random() < run.dropout else len(levels.layers))
        ramp = min(1.0, step / 300) ** 2
        if isinstance(network, TwoRates):
            loss = network.training_loss(batch, pos[rows], types[rows], ramp)
        else:
            loss = network.training_loss(batch, pos[rows], types[rows], loss_ramp=ramp).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    if levels is not None:
        levels.use(len(levels.layers))
    network.eval()


def read(corpus: Corpus, kind: str) -> Signals:
    """Read all segments of a split, which must have equal channels."""
    rows = np.flatnonzero(corpus.column("split") == kind).tolist()
    batch = BatchReader(corpus).read(MicroBatch(tuple(rows), (0,) * len(rows), corpus.n_samples))
    types = torch.from_numpy(batch.sensor_type.astype(np.int64))
    return normalise_signal(torch.from_numpy(batch.signal), types), torch.from_numpy(batch.pos), types


def measure(
    network: BrainTokenizer | TwoRates, equalised: Signals, wanted_BCN: Tensor, equaliser: Equaliser
) -> dict[str, float]:
    """Return the mean correlation by band of reconstructions of equalised segments.

    Parameters
    ----------
    network : BrainTokenizer or TwoRates
    equalised : Signals
    wanted_BCN : float32, shape (batch, channels, samples)
        The segments before the equaliser, dimensionless.
    equaliser : Equaliser
    """
    made, targets = [], []
    with torch.inference_mode():
        for start in range(0, len(wanted_BCN), 8):
            x, pos, types = (part[start : start + 8] for part in equalised)
            out = network.reconstruct(x, pos, types).flatten(2)
            out = equaliser.invert(out, types)
            made.append(windows_of(out.numpy()))
            targets.append(windows_of(wanted_BCN[start : start + 8, :, : out.shape[-1]].numpy()))
    found = correlate_in_bands(np.concatenate(targets), np.concatenate(made), SFREQ)
    return {band: round(float(np.nanmean(values)), 3) for band, values in found.items()}


def windows_of(x_BCN: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut segments into windows: float32, shape (windows, channels, samples of a window).

    Parameters
    ----------
    x_BCN : float32, shape (batch, channels, samples)
        Signal, dimensionless.
    """
    n = x_BCN.shape[-1] // WINDOW
    cut_BCWL = x_BCN[..., : n * WINDOW].reshape(*x_BCN.shape[:2], n, WINDOW)
    return cut_BCWL.transpose(0, 2, 1, 3).reshape(-1, x_BCN.shape[1], WINDOW)


def compare(run: Run, training: Signals, validation: Signals) -> list[dict[str, Any]]:
    """Train, and return the result for each number of levels read."""
    began = time.process_time()
    exponent = STUDIED.equaliser or 0.0
    equaliser = fitted_equaliser(list(zip(*training, strict=True)), exponent)
    with torch.no_grad():
        sets = [(equaliser(x, types), pos, types) for x, pos, types in (training, validation)]
    network = build(run)
    fit(network, run, sets[0])
    seconds = round(time.process_time() - began)
    lines = []
    levels = Levels(network) if run.quantizer == "residual" and isinstance(network, BrainTokenizer) else None
    for n in (None, *LOWER_LEVELS) if levels is not None else (None,):
        if levels is not None:
            levels.use(n or len(levels.layers))
        found = measure(network, sets[1], validation[0], equaliser)
        lines.append(
            {"run": run.model_dump(), "bits_per_second": bits_per_second(network, n), **found, "cpu_s": seconds}
        )
    return lines


def main() -> None:
    """Train one run and print its lines."""
    torch.set_num_threads(1)
    corpus = Corpus.open(Store.open(sys.argv[1]), None)
    run = Run.model_validate_json(sys.argv[2] if len(sys.argv) > 2 else "{}")
    for line in compare(run, read(corpus, "train"), read(corpus, "validation")):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
