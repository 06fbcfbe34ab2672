"""Find what limits the reconstruction of planar gradiometers.

`python -m benchmarks.study.planar bound STORE DEVICE[,DEVICE…] [TOKENIZER]` prints the correlation that 16, 24 and 32
spatial components of training subjects keep on validation subjects, by sensor type: with any maps, and with maps that
are linear functions of a description of the sensors (the embedding of a tokenizer, or spherical harmonics times the
orientation).

`python -m benchmarks.study.planar ceiling STORE DEVICE` prints, for all sensors and for those of each type alone, what
16 to 64 spatial components keep that are fitted in the equalised domain, what the rate of the codes allows at best for
a Gaussian signal, and how much of the signal is white noise of the sensors.

`python -m benchmarks.study.planar train STORE DEVICE '{"network": {"gain_harmonics": 5}}'` trains a tokenizer on one
device and prints the same correlation of its reconstructions. `plan` lists (first step, channels shown, windows a
step). With `"weights": "FILE"` it writes the weights.

`python -m benchmarks.study.planar parts STORE DEVICE RUN FILE` prints what each part of such a network costs: the
correlation from latents that are not quantized, from the codes, and with fewer channels shown to the encoder.

Shape letters: B batch, C channels, N samples, D features.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks._rate_bounds import gaussian_bound
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from emeg.config import Config
from emeg.data import BatchReader, Corpus, MicroBatch
from emeg.store import Store
from emeg.tokenizers.braintokenizer import (
    PRESETS,
    BrainTokenizer,
    PowerSum,
    correlation,
    normalise_signal,
    parameter_groups,
    sum_power,
)
from emeg.tokenizers.braintokenizer.equaliser import Equaliser
from emeg.tokenizers.braintokenizer.layers import SensorHarmonics
from emeg.tokenizers.braintokenizer.quantization.interface import normalise_latents

STUDIED = PRESETS["emeg-nano"].model_copy(update={"n_neuro": 16, "num_quantizers": 8, "leadfield": False})
"""The preset as it was for these questions: 8,192 bits a second, no leadfield."""
WINDOW = 512
COMPONENTS = (16, 24, 32)
DEGREES = (1, 3, 5)
TRAINING_SEGMENTS, TEST_SEGMENTS = 8, 6
PART_SEGMENTS = 2
"""Segments for `parts`, which reconstructs them several times."""
BETA_HZ = (13.0, 30.0)
MORE_COMPONENTS = (16, 24, 32, 48, 64)
PASS_BAND_HZ = 96.0
"""Width of the band that standardised recordings keep."""
NOISE_DENSITY = {1: 3e-15, 2: 3e-13}
"""White noise of simulated VectorView sensors by sensor type: T/√Hz and (T/m)/√Hz."""
BOUND_WINDOW = 128
"""Samples of the windows for the Gaussian bound: more windows than sensors are needed."""

Segment = tuple[Tensor, Tensor, Tensor]
"""Normalised signal (C, N), positions (C, 6) and sensor types (C)."""


class Run(Config):
    """One training on one device."""

    name: str = "run"
    """Name under which the result is recorded."""
    network: dict[str, Any] = Field(default_factory=dict)
    """Changed options of `STUDIED`."""
    plan: tuple[tuple[int, int, int], ...] = ((0, 16, 9),)
    """First step, channels shown and windows of a step."""
    steps: int = 400
    """Optimiser steps."""
    seed: int = 0
    """Seed of weights and draws."""
    every: int = 200
    """Steps between two measurements."""
    weights: str = ""
    """File for the weights; none if empty."""


def read(corpus: Corpus, device: str, split: str, most: int | None = None) -> list[Segment]:
    """Read segments of a device and a split, evenly spread if there are more than `most`."""
    rows = np.flatnonzero((corpus.column("device") == device) & (corpus.column("split") == split))
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
    reader, found = BatchReader(corpus), []
    for row in rows.tolist():
        batch = reader.read(MicroBatch((row,), (0,), corpus.n_samples))
        types = torch.from_numpy(batch.sensor_type.astype(np.int64))
        x = normalise_signal(torch.from_numpy(batch.signal), types)
        found.append((x[0], torch.from_numpy(batch.pos)[0], types[0]))
    return found


def by_type(made: Tensor, wanted: Tensor, types: Tensor) -> dict[str, float]:
    """Return the mean correlation by sensor type over windows of 2 s, and that at 13 to 30 Hz."""
    made, wanted = (one.unflatten(-1, (-1, WINDOW)) for one in (made, wanted))
    whole = correlation(made[None], wanted[None])[0].mean(-1)
    freqs = torch.fft.rfftfreq(WINDOW, 1 / 256)
    kept = (freqs >= BETA_HZ[0]) & (freqs < BETA_HZ[1])
    one, other = (torch.fft.rfft(x)[..., kept] for x in (made, wanted))
    norm = (one.abs().square().sum(-1) * other.abs().square().sum(-1)).sqrt()
    beta = ((one.conj() * other).real.sum(-1) / (norm + 1e-9)).mean(-1)
    out = {}
    for code in types.unique().tolist():
        out[f"type {code}"] = whole[types == code].mean().item()
        out[f"type {code}, 13-30 Hz"] = beta[types == code].mean().item()
    return out


def mean_of(found: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each entry."""
    return {key: round(float(np.mean([one[key] for one in found])), 3) for key in found[0]}


def descriptions(segment: Segment, tokenizer: BrainTokenizer | None) -> dict[str, NDArray[np.floating[Any]] | None]:
    """Return the descriptions of the sensors of which maps may be linear functions; None stands for any map."""
    _, pos, types = segment
    found: dict[str, NDArray[np.floating[Any]] | None] = {"any map": None}
    if tokenizer is not None:
        with torch.inference_mode():
            found["embedding of the tokenizer"] = tokenizer.sensor_embed(pos[None], types[None], None)[0].numpy()
    for degree in DEGREES:
        found[f"harmonics, degree {degree}"] = SensorHarmonics(degree)(pos[None], types[None])[0].numpy()
    return found


def bound(corpus: Corpus, device: str, tokenizer: BrainTokenizer | None) -> None:
    """Print one line for each description of the sensors and each number of components."""
    training = read(corpus, device, "train", TRAINING_SEGMENTS)
    # A device without validation subjects is measured on held-out ones: nothing is chosen by these figures.
    test = read(corpus, device, "validation", TEST_SEGMENTS) or read(corpus, device, "held_out", TEST_SEGMENTS)
    covariance = sum((x @ x.T).double() for x, _, _ in training).numpy()
    for name, described in descriptions(training[0], tokenizer).items():
        basis = np.eye(len(covariance))
        if described is not None:
            vectors, sizes, _ = np.linalg.svd(described.astype(np.float64), full_matrices=False)
            basis = vectors[:, sizes > 1e-6 * sizes[0]]
        _, maps = np.linalg.eigh(basis.T @ covariance @ basis)
        for n in COMPONENTS:
            kept = torch.from_numpy(basis @ maps[:, -n:]).float()
            found = mean_of([by_type(kept @ (kept.T @ x), x, types) for x, _, types in test])
            print(
                json.dumps({"device": device, "maps": name, "rank": basis.shape[1], "components": n, **found}),
                flush=True,
            )


def fitted_equaliser(segments: list[Segment], exponent: float) -> Equaliser:
    """Return the equaliser of training segments."""
    equaliser = Equaliser()
    sums = [sum_power(x[None], types[None]) for x, _, types in segments]
    equaliser.fit(PowerSum(sum(one.power for one in sums), sum(one.n_windows for one in sums)), exponent)  # type: ignore[arg-type]
    return equaliser


def noise_share(corpus: Corpus, device: str, split: str) -> dict[int, float]:
    """Return the mean share of the sensors' white noise in the variance of a channel, by sensor type."""
    rows = np.flatnonzero((corpus.column("device") == device) & (corpus.column("split") == split))
    reader, shares = BatchReader(corpus), {code: [] for code in NOISE_DENSITY}
    for row in rows.tolist():
        batch = reader.read(MicroBatch((row,), (0,), corpus.n_samples))
        for code, density in NOISE_DENSITY.items():
            windows = batch.signal[0][batch.sensor_type[0] == code].astype(np.float64).reshape(-1, 5, WINDOW)
            if len(windows):
                shares[code].append(np.minimum(density**2 * PASS_BAND_HZ / windows.var(axis=-1), 1.0))
    return {code: float(np.concatenate(one).mean()) for code, one in shares.items() if one}


def ceiling(corpus: Corpus, device: str) -> None:
    """Print one line for each set of sensors and each limit."""
    config = STUDIED
    training, test = read(corpus, device, "train"), read(corpus, device, "validation")
    equaliser = fitted_equaliser(training, config.equaliser or 0.0)
    kinds = training[0][2].unique().tolist()
    bits = config.bits_per_second(corpus.sfreq)
    for name, codes in [("all", kinds)] + [(f"type {code}", [code]) for code in kinds]:
        chosen = [
            tuple(part[torch.isin(types, torch.tensor(codes))] for part in (x, pos, types))
            for x, pos, types in training + test
        ]
        flat = [(equaliser(x[None], types[None])[0], x, types) for x, _, types in chosen]
        fitted, held = flat[: len(training)], flat[len(training) :]
        _, maps = np.linalg.eigh(sum((x @ x.T).double() for x, _, _ in fitted).numpy())
        for n in MORE_COMPONENTS:
            kept = torch.from_numpy(maps[:, -n:]).float()
            made = [equaliser.invert((kept @ (kept.T @ x))[None], types[None])[0] for x, _, types in held]
            found = mean_of([by_type(one, x, types) for one, (_, x, types) in zip(made, held, strict=True)])
            print(json.dumps({"device": device, "sensors": name, "components": n, **found}), flush=True)
        windows = np.concatenate([x.unfold(-1, BOUND_WINDOW, BOUND_WINDOW // 2).transpose(0, 1) for x, _, _ in flat])
        bound = {band: round(value, 3) for band, value in gaussian_bound(windows, corpus.sfreq, bits).items()}
        print(
            json.dumps({"device": device, "sensors": name, "bits_per_second": bits, "windows": len(windows), **bound})
        )
    shares = noise_share(corpus, device, "validation")
    best = {
        f"type {code}, largest correlation without it": round(math.sqrt(1 - one), 3) for code, one in shares.items()
    }
    print(json.dumps({"device": device, "noise share": {f"type {c}": round(s, 4) for c, s in shares.items()}, **best}))


def train(corpus: Corpus, device: str, run: Run) -> None:
    """Train on one device and print the correlations of validation subjects."""
    training, test = read(corpus, device, "train"), read(corpus, device, "validation", TEST_SEGMENTS)
    torch.manual_seed(run.seed)
    rng, began = np.random.default_rng(run.seed), time.process_time()
    config = STUDIED.model_copy(update=run.network)
    network = BrainTokenizer(config).train()
    if network.equaliser is not None and config.equaliser is not None:
        sums = [sum_power(x[None], types[None]) for x, _, types in training]
        power = PowerSum(sum(one.power for one in sums), sum(one.n_windows for one in sums))  # type: ignore[arg-type]
        network.equaliser.fit(power, config.equaliser)
    groups = parameter_groups(network, learning_rate=2e-3, quantizer_learning_rate=3e-4, weight_decay=0.01)
    optimiser = torch.optim.AdamW(groups, betas=(0.5, 0.9), eps=1e-8)
    warm = max(1, round(0.02 * run.steps))

    def rate(step: int) -> float:
        if step < warm:
            return 0.1 + 0.9 * step / warm
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (run.steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    for step in range(run.steps):
        _, shown, windows = next(part for part in reversed(run.plan) if step >= part[0])
        drawn = [draw(training, shown, rng) for _ in range(windows)]
        x, pos, types = (torch.stack(part) for part in zip(*drawn, strict=True))
        loss = network.training_loss(x, pos, types, loss_ramp=min(1.0, step / 300) ** 2)
        optimiser.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % run.every == 0:
            found = measure(network.eval(), test)
            network.train()
            line = {"run": run.model_dump(), "device": device, "step": step + 1, **found}
            print(json.dumps(line | {"cpu_s": round(time.process_time() - began)}), flush=True)
    if run.weights:
        torch.save(network.state_dict(), run.weights)


def parts(corpus: Corpus, device: str, run: Run, weights: str) -> None:
    """Print the correlations of validation subjects with parts of a trained network left out."""
    network = BrainTokenizer(STUDIED.model_copy(update=run.network))
    network.load_state_dict(torch.load(weights))
    network.eval()
    test = read(corpus, device, "validation", PART_SEGMENTS)
    quantizer = network.quantizer
    encode, decode = quantizer.encode, quantizer.decode
    quantizer.encode, quantizer.decode = normalise_latents, lambda latents: latents  # type: ignore[method-assign]
    print(json.dumps({"device": device, "part": "latents, not quantized", **measure(network, test)}), flush=True)
    quantizer.encode, quantizer.decode = encode, decode  # type: ignore[method-assign]
    print(json.dumps({"device": device, "part": "codes", **measure(network, test)}), flush=True)
    rng = np.random.default_rng(0)
    for shown in (96, 16):
        found = []
        for x, pos, types in test:
            seen = torch.zeros(1, len(x), dtype=torch.bool)
            seen[0, rng.permutation(len(x))[:shown]] = True
            made = network.reconstruct(x[None], pos[None], types[None], seen=seen)[0].flatten(1)
            found.append(by_type(made, x[:, : made.shape[-1]], types))
        print(json.dumps({"device": device, "part": f"{shown} channels seen", **mean_of(found)}), flush=True)


def draw(segments: list[Segment], shown: int, rng: np.random.Generator) -> Segment:
    """Draw a window of some channels."""
    x, pos, types = segments[rng.integers(len(segments))]
    first = int(rng.integers(0, x.shape[-1] - WINDOW))
    chosen = torch.as_tensor(rng.permutation(len(x))[:shown])
    return x[chosen, first : first + WINDOW], pos[chosen], types[chosen]


def measure(network: BrainTokenizer, test: list[Segment]) -> dict[str, float]:
    """Return the mean correlations of reconstructed segments."""
    found = []
    for x, pos, types in test:
        made = network.reconstruct(x[None], pos[None], types[None])[0].flatten(1)
        found.append(by_type(made, x[:, : made.shape[-1]], types))
    return mean_of(found)


def main() -> None:
    """Run one of the two commands."""
    torch.set_num_threads(1)
    command, root, devices = sys.argv[1:4]
    corpus = Corpus.open(Store.open(root), None)
    if command == "ceiling":
        ceiling(corpus, devices)
        return
    if command == "parts":
        parts(corpus, devices, Run.model_validate_json(sys.argv[4]), sys.argv[5])
        return
    if command == "train":
        train(corpus, devices, Run.model_validate_json(sys.argv[4]))
        return
    tokenizer = BrainTokenizer.from_pretrained(Path(sys.argv[4])) if len(sys.argv) > 4 else None
    for device in devices.split(","):
        bound(corpus, device, tokenizer)


if __name__ == "__main__":
    main()
