"""The pretraining variants of the study: what a step masks and predicts.

Shape letters: B batch, S latent sources, T latent steps, D features, W windows, C channels, Q levels.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.config import Config
from emeg.models import PRESETS, BrainOmni
from emeg.models.blocks import SelfAttention
from emeg.models.rotary import Rotary, turn
from emeg.models.window_power import waveform_bands, waveform_power
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.braintokenizer.attention import join_heads, split_heads

TRAINED_ON = ("joint-synth", "ssvep", "arithmetic")
"""Datasets whose training subjects pretrain; the other datasets only have tasks."""
FURTHER = ("motor-imagery", "oddball")
"""Datasets whose training subjects pretrain if `Variant.further` says so."""
STEPS_PER_WINDOW = 16
"""Latent steps in a window of 2 s."""
NEIGHBOURS = 4
"""Sources in a masked block."""
BLOCK_STEPS = 2
"""Steps in a masked block."""
LIMIT = 4.0
"""Largest standardised target of log power, in standard deviations within a recording."""
TEMPERATURE = 0.2
"""Temperature of the contrast."""

Data = dict[str, dict[str, NDArray[Any]]]


class Variant(Config):
    """One pretraining run."""

    name: str
    """Name under which the result is recorded."""
    seed: int = 0
    """Seed of weights, masks and order."""
    steps: int = 200
    """Optimiser steps. 0: random weights."""
    batch: int = 8
    """Crops of a step."""
    crop: int = 32
    """Latent steps of a crop: 4 s."""
    learning_rate: float = 1e-3
    """Peak of the learning rate."""
    codes: float = 1.0
    """Weight of the cross-entropy of the codes."""
    levels: int = 4
    """Codebooks whose codes are predicted."""
    decay: float = 1.0
    """Weight of a level divided by that of the level before it."""
    following: bool = False
    """Predict the codes of the next step instead of masked ones, with causal attention over time."""
    mask: Literal["tokens", "blocks", "time", "sources"] = "tokens"
    """What is masked together: single tokens, blocks of similar sources and two steps, windows, or whole sources."""
    ratio: float = 0.5
    """Share of masked tokens."""
    power: float = 0.0
    """Weight of the log power of each window, by sensor and band."""
    within: float = 0.0
    """Weight of the deviation of that log power from its mean over the segment; only with `slow`."""
    slow: bool = False
    """Whether the transformer reads one token for each source and window of 2 s, the log power of the code features in
    eight frequencies, instead of one for each latent step. Its `batch` counts segments of 10 s."""
    waves: bool = False
    """Whether slow tokens are the log power of the waveforms of the sources in bands of 2 Hz instead; needs a tokenizer
    with a leadfield."""
    itself: float = 0.0
    """Weight of the masked slow tokens as targets."""
    power_from: Literal["mean", "log_std"] = "log_std"
    """Pooling over the steps of a window from which a linear layer predicts its log power."""
    contrast: float = 0.0
    """Weight of the contrast between the two halves of a crop and those of other crops of the same recording; only
    without `slow`."""
    further: bool = False
    """Whether the training subjects of `FURTHER` pretrain as well."""
    fraction: float = 1.0
    """Share of the training subjects."""
    extra: str = ""
    """Folder of further simulated subjects."""
    extra_parts: int = 0
    """Number of files of that folder to use."""
    everyone: bool = False
    """Whether the unlabelled segments of the validation and held-out subjects pretrain as well."""
    dim: int = 64
    """Width of the transformer."""
    depth: int = 4
    """Blocks of the transformer."""
    scaled: bool = False
    """Whether code features enter the transformer with the length of the source vectors; only without `slow`."""
    tokens: str = "tok0"
    """Folder that `prepare` wrote."""
    overlap: float = 0.0
    """Overlap of the windows of these tokens."""
    tokenizer: str = "tokenizer"
    """Folder of the tokenizer's weights."""


def load(folder: Path) -> Data:
    """Load the files of `prepare`."""
    return {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}


def make_causal(network: BrainOmni) -> None:
    """Restrict the attention over time of all blocks to earlier steps."""

    def attend(self: SelfAttention, x: Tensor, rotary: Rotary, generator: torch.Generator | None = None) -> Tensor:
        both, value = self.qkv(x).split([2 * x.shape[-1], x.shape[-1]], dim=-1)
        query, key = turn(both, rotary).chunk(2, dim=-1)
        parts = [split_heads(one, self.n_head) for one in (query, key, value)]
        out: Tensor = self.proj(join_heads(F.scaled_dot_product_attention(*parts, is_causal=True)))
        return out

    for block in network.blocks:
        block.time_attn.forward = partial(attend, block.time_attn)


def build(variant: Variant, tokenizer: BrainTokenizer) -> BrainOmni:
    """Build the transformer with random weights."""
    torch.manual_seed(variant.seed)
    config = PRESETS["nano"].model_copy(
        update={
            "overlap_ratio": variant.overlap,
            "num_quantizers_used": variant.levels,
            "lm_dim": variant.dim,
            "lm_depth": variant.depth,
            "scaled_features": variant.scaled,
        }
    )
    network = BrainOmni(config, tokenizer)
    if variant.following:
        make_causal(network)
    return network


def slow_tokens(features_BSTD: Tensor) -> Tensor:
    """Return log power of features in eight frequencies and in all: (batch, sources, windows, 9 · features)."""
    windows = features_BSTD.unflatten(2, (-1, STEPS_PER_WINDOW))
    spectrum = torch.fft.rfft(windows - windows.mean(3, keepdim=True), dim=3)[:, :, :, 1:].abs().square()
    return torch.cat([spectrum, spectrum.sum(3, keepdim=True)], dim=3).add(1e-4).log().flatten(3)


def wave_tokens(features_BSTD: Tensor, tokenizer: BrainTokenizer) -> Tensor:
    """Return the log power of the waveforms of the sources in bands of 2 Hz: (batch, sources, windows, bands)."""
    return waveform_power(tokenizer.waveforms(features_BSTD))


class SlowNetwork(nn.Module):
    """The blocks of BrainOmni on slow tokens."""

    centre: Tensor
    spread: Tensor

    def __init__(self, variant: Variant, tokenizer: BrainTokenizer) -> None:
        super().__init__()
        self.variant = variant
        self.inner = build(variant, tokenizer)
        self.tokenizer = self.inner.tokenizer
        n_entry = (
            len(waveform_bands(tokenizer.config.window_length))
            if variant.waves
            else tokenizer.config.n_dim * (STEPS_PER_WINDOW // 2 + 1)
        )
        self.entry = nn.Linear(n_entry, variant.dim)
        self.source = nn.Parameter(0.3 * torch.randn(tokenizer.config.n_neuro, 1, variant.dim))
        self.mask_token = nn.Parameter(torch.zeros(variant.dim))
        self.register_buffer("centre", torch.zeros(n_entry))
        self.register_buffer("spread", torch.ones(n_entry))

    def tokens(self, codes_BSTQ: Tensor) -> Tensor:
        """Return standardised slow tokens of codes."""
        return (self.raw_tokens(codes_BSTQ) - self.centre) / self.spread

    def raw_tokens(self, codes_BSTQ: Tensor) -> Tensor:
        """Return slow tokens of codes."""
        features = self.tokenizer.features_from_codes(codes_BSTQ)
        return wave_tokens(features, self.tokenizer) if self.variant.waves else slow_tokens(features)

    def run(self, tokens_BSWD: Tensor, masked_BSW: Tensor | None = None) -> Tensor:
        """Return the input of the last block."""
        entered = self.entry(tokens_BSWD)
        if masked_BSW is not None:
            entered = torch.where(masked_BSW[..., None], self.mask_token, entered)
        return self.inner._run(entered + self.source, range(self.variant.depth - 1), None)

    def embed_codes(self, codes_BSTQ: Tensor) -> dict[str, Tensor]:
        """Return the pooled embedding."""
        return {"mean": F.normalize(self.run(self.tokens(codes_BSTQ)), dim=-1).mean(2).flatten(1)}


class SlowPretraining(nn.Module):
    """A transformer on slow tokens with its pretraining tasks."""

    def __init__(self, variant: Variant, tokenizer: BrainTokenizer, data: Data) -> None:
        super().__init__()
        self.variant = variant
        self.rows = training_rows(variant, data)
        self.network = SlowNetwork(variant, tokenizer)
        n_features = tokenizer.config.n_neuro * variant.dim
        sizes = {head_of(name): int(np.prod(data[name]["power"].shape[2:])) for name in self.rows}
        self.power_heads = nn.ModuleDict({name: nn.Linear(n_features, size) for name, size in sizes.items()})
        self.self_head = nn.Linear(variant.dim, len(self.network.centre))
        self.rng = np.random.default_rng(variant.seed)
        self.subjects = {name: data[name]["subject"] for name in self.rows}
        self.targets = {name: standardise_targets(data[name], rows) for name, rows in self.rows.items()}
        self.variances = {name: float(self.targets[name][rows].var(axis=0).mean()) for name, rows in self.rows.items()}
        self.inner = {name: float(self.targets[name][rows].var(axis=1).mean()) for name, rows in self.rows.items()}
        with torch.no_grad():
            raw = {
                name: torch.cat(
                    [
                        self.network.raw_tokens(torch.as_tensor(data[name]["codes"][rows[i : i + 32]]).long())
                        for i in range(0, len(rows), 32)
                    ]
                )
                for name, rows in self.rows.items()
            }
            flat = torch.cat([one.flatten(0, 2) for one in raw.values()])
            self.network.centre.copy_(flat.mean(0))
            self.network.spread.copy_(flat.std(0) + 0.1)
            self.pool = [(name, i) for name, one in raw.items() for i in range(len(one))]
            self.raw = {name: ((one - self.network.centre) / self.network.spread).half() for name, one in raw.items()}

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters."""
        return [one for one in self.parameters() if one.requires_grad]

    def step(self) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its loss and the terms."""
        variant = self.variant
        drawn = [self.pool[i] for i in self.rng.choice(len(self.pool), variant.batch)]
        tokens = torch.stack([self.raw[name][i] for name, i in drawn]).float()
        masked = torch.rand(tokens.shape[:3]) <= variant.ratio
        if variant.mask == "time":
            masked = (torch.rand(len(tokens), 1, tokens.shape[2]) <= variant.ratio).expand(tokens.shape[:3])
        inner = self.network.run(tokens, masked)
        embedding = F.normalize(inner, dim=-1)
        total, terms = torch.zeros(()), {}
        if variant.power:
            pooled = embedding.transpose(1, 2).flatten(2) * math.sqrt(variant.dim)
            errors = []
            for name in self.rows:
                own = [k for k, (other, _) in enumerate(drawn) if other == name]
                if own:
                    chosen = self.rows[name][[drawn[k][1] for k in own]]
                    target = torch.as_tensor(self.targets[name][chosen]).flatten(2)
                    made = self.power_heads[head_of(name)](pooled[own])
                    error = F.mse_loss(made, target) / self.variances[name]
                    if variant.within:
                        inner = F.mse_loss(made - made.mean(1, keepdim=True), target - target.mean(1, keepdim=True))
                        error = error + variant.within * inner / self.inner[name]
                        terms["within"] = terms.get("within", 0.0) + inner.item() / self.inner[name] * len(own) / len(
                            drawn
                        )
                    errors.append(error * len(own) / len(drawn))
            loss = torch.stack(errors).sum()
            total, terms["power"] = total + variant.power * loss, loss.item()
        if variant.itself:
            last = self.network.inner._run(inner, range(variant.depth - 1, variant.depth), None)
            loss = F.mse_loss(self.self_head(last[masked]), tokens[masked])
            total, terms["itself"] = total + variant.itself * loss, loss.item()
        return total, terms


class Pretraining(nn.Module):
    """The transformer with the heads of its pretraining tasks.

    Parameters
    ----------
    variant : Variant
    tokenizer : BrainTokenizer
        Frozen.
    data : dict
        Output of `load`.
    """

    def __init__(self, variant: Variant, tokenizer: BrainTokenizer, data: Data) -> None:
        super().__init__()
        self.variant = variant
        self.network = build(variant, tokenizer)
        self.rows = training_rows(variant, data)
        self.data = data
        n_features = tokenizer.config.n_neuro * variant.dim
        sizes = {head_of(name): int(np.prod(data[name]["power"].shape[2:])) for name in self.rows}
        self.power_heads = nn.ModuleDict({name: nn.Linear(n_features, size) for name, size in sizes.items()})
        self.contrast_head = nn.Linear(2 * n_features, 64)
        self.contrast_norm = nn.BatchNorm1d(2 * n_features, affine=False)
        self.targets = {name: standardise_targets(data[name], rows) for name, rows in self.rows.items()}
        self.variances = {name: float(self.targets[name][rows].var(axis=0).mean()) for name, rows in self.rows.items()}
        self.neighbours = similar_sources(tokenizer, data[TRAINED_ON[0]]["codes"][:32])
        self.rng = np.random.default_rng(variant.seed)

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters."""
        return [one for one in self.parameters() if one.requires_grad]

    def step(self) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its loss and the terms."""
        drawn = self._draw_moments() if self.variant.contrast else self._draw()
        n, steps = self.variant.crop, self.variant.crop // STEPS_PER_WINDOW
        starts = [int(self.rng.integers(0, self._windows(name) - steps + 1)) for name, _ in drawn]
        crops = [
            self.data[name]["codes"][row, :, first * STEPS_PER_WINDOW : first * STEPS_PER_WINDOW + n]
            for (name, row), first in zip(drawn, starts, strict=True)
        ]
        codes_BSTQ = torch.as_tensor(np.stack(crops)).long()
        masked_BST = self._draw_mask(codes_BSTQ.shape[0], codes_BSTQ.shape[1], n)
        features_BSTD = self.network.tokenizer.features_from_codes(codes_BSTQ)
        entered = self.network._enter(self._replace(features_BSTD, masked_BST))
        depth = self.variant.depth
        inner = self.network._run(entered, range(depth - 1), None)
        embedding_BSTD = F.normalize(inner, dim=-1)
        total, terms = torch.zeros(()), {}
        if self.variant.codes:
            hidden = self.network._run(inner, range(depth - 1, depth), None)
            loss, terms["accuracy"] = self._predict_codes(hidden, codes_BSTQ, masked_BST)
            total, terms["codes"] = total + self.variant.codes * loss, loss.item()
        if self.variant.power:
            loss = self._predict_power(embedding_BSTD, drawn, starts, steps)
            total, terms["power"] = total + self.variant.power * loss, loss.item()
        if self.variant.contrast:
            loss = self._contrast(embedding_BSTD, drawn)
            total, terms["contrast"] = total + self.variant.contrast * loss, loss.item()
        return total, terms

    def _windows(self, name: str) -> int:
        return self.data[name]["codes"].shape[2] // STEPS_PER_WINDOW

    def _draw(self) -> list[tuple[str, int]]:
        pool = [(name, int(row)) for name, rows in self.rows.items() for row in rows]
        return [pool[i] for i in self.rng.choice(len(pool), self.variant.batch, replace=False)]

    def _draw_moments(self) -> list[tuple[str, int]]:
        """Draw crops of two recordings, half of the batch each."""
        counts = {name: len(rows) for name, rows in self.rows.items()}
        share = np.array(list(counts.values())) / sum(counts.values())
        drawn: list[tuple[str, int]] = []
        for _ in range(2):
            name = str(self.rng.choice(list(counts), p=share))
            subjects = self.data[name]["subject"][self.rows[name]]
            own = self.rows[name][subjects == self.rng.choice(np.unique(subjects))]
            half = self.variant.batch // 2
            drawn += [(name, int(row)) for row in self.rng.choice(own, half, replace=len(own) < half)]
        return drawn

    def _draw_mask(self, batch: int, sources: int, n: int) -> Tensor:
        ratio, kind = self.variant.ratio, self.variant.mask
        if self.variant.following or not ratio:
            return torch.zeros(batch, sources, n, dtype=torch.bool)
        if kind == "tokens":
            return torch.rand(batch, sources, n) <= ratio
        if kind == "sources":
            return (torch.rand(batch, sources, 1) <= ratio).expand(batch, sources, n)
        if kind == "time":
            windows = torch.rand(batch, 1, n // STEPS_PER_WINDOW) <= ratio
            return windows.repeat_interleave(STEPS_PER_WINDOW, 2).expand(batch, sources, n)
        # blocks are drawn until their union has the wanted share, on average
        blocks = -(-n // BLOCK_STEPS)
        chance = 1.0 - (1.0 - ratio) ** (1.0 / NEIGHBOURS)
        centres = (torch.rand(batch, sources, blocks) <= chance).float()
        reached = torch.einsum("st,bsn->btn", self.neighbours.float(), centres) > 0
        return reached.repeat_interleave(BLOCK_STEPS, 2)[..., :n]

    def _replace(self, features_BSTD: Tensor, masked_BST: Tensor) -> Tensor:
        with_token = torch.rand(masked_BST.shape) <= 0.8
        flat = features_BSTD.flatten(0, 2)
        elsewhere = flat[torch.randperm(len(flat))].view_as(features_BSTD)
        replaced = torch.where(with_token[..., None], self.network.mask_token, elsewhere)
        return torch.where(masked_BST[..., None], replaced, features_BSTD)

    def _predict_codes(self, hidden_BSTD: Tensor, codes_BSTQ: Tensor, masked_BST: Tensor) -> tuple[Tensor, float]:
        levels = self.variant.levels
        if self.variant.following:
            kept, wanted = hidden_BSTD[:, :, :-1].flatten(0, 2), codes_BSTQ[:, :, 1:, :levels].flatten(0, 2)
        else:
            kept, wanted = hidden_BSTD[masked_BST], codes_BSTQ[..., :levels][masked_BST]
        logits = self.network.predict_head(kept).unflatten(-1, (levels, -1))
        by_level = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none").mean(0)
        weights = self.variant.decay ** torch.arange(levels)
        accuracy = (logits[:, 0].argmax(-1) == wanted[:, 0]).float().mean().item()
        return (by_level * weights).sum() / weights.sum(), accuracy

    def _predict_power(
        self, embedding_BSTD: Tensor, drawn: list[tuple[str, int]], starts: list[int], steps: int
    ) -> Tensor:
        windows = embedding_BSTD.unflatten(2, (steps, STEPS_PER_WINDOW)).transpose(1, 2).flatten(0, 1)
        if self.variant.power_from == "mean":
            pooled = read_out(windows)["mean"] * math.sqrt(self.variant.dim)
        else:
            pooled = read_out(windows)["log_std"] + 0.5 * math.log(self.variant.dim)
        pooled = pooled.unflatten(0, (len(drawn), steps))
        errors = []
        for i, ((name, row), first) in enumerate(zip(drawn, starts, strict=True)):
            target = torch.as_tensor(self.targets[name][row, first : first + steps]).float().flatten(1)
            errors.append(F.mse_loss(self.power_heads[head_of(name)](pooled[i]), target) / self.variances[name])
        return torch.stack(errors).mean()

    def _contrast(self, embedding_BSTD: Tensor, drawn: list[tuple[str, int]]) -> Tensor:
        half = self.variant.crop // 2
        views = torch.cat([read_out(part)["mean+log_std"] for part in embedding_BSTD.split(half, dim=2)])
        first, second = F.normalize(self.contrast_head(self.contrast_norm(views)), dim=-1).chunk(2)
        subjects = np.array([self.data[name]["subject"][row] for name, row in drawn])
        others = torch.as_tensor(subjects[:, None] != subjects[None])
        logits = (first @ second.T / TEMPERATURE).masked_fill(others, -torch.inf)
        own = torch.arange(len(logits))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def head_of(name: str) -> str:
    """Return the dataset that has the head of a dataset: further simulated subjects have the same electrodes."""
    return TRAINED_ON[0] if name.startswith("extra") else name


def training_rows(variant: Variant, data: Data) -> dict[str, NDArray[np.int64]]:
    """Return the segments of each dataset that pretrain."""
    rows = {}
    for name in (*TRAINED_ON, *(FURTHER if variant.further else ())):
        own = data[name]
        kept = np.flatnonzero((own["split"] == "train") | variant.everyone)
        subjects = sorted(set(own["subject"][kept]))
        if variant.fraction < 1.0:
            chosen = subjects[:: round(1 / variant.fraction)]
            kept = kept[np.isin(own["subject"][kept], chosen)]
        rows[name] = kept
    rows |= {name: np.arange(len(data[name]["codes"])) for name in data if name.startswith("extra")}
    return rows


def standardise_targets(own: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return log power minus its mean over the training segments, in standard deviations within a recording."""
    power = own["power"].astype(np.float32)
    subjects = own["subject"][rows]
    means = {one: power[rows[subjects == one]].mean((0, 1)) for one in np.unique(subjects)}
    inner = np.sqrt(
        np.mean([((power[rows[subjects == one]] - mean) ** 2).mean((0, 1)) for one, mean in means.items()], axis=0)
    )
    centre = np.mean(list(means.values()), axis=0)
    return np.clip((power - centre) / (inner + 0.05), -LIMIT, LIMIT)


def similar_sources(tokenizer: BrainTokenizer, codes_BSTQ: NDArray[np.uint8]) -> Tensor:
    """Return which `NEIGHBOURS` sources correlate most with each source: bool, shape (sources, sources)."""
    features = tokenizer.features_from_codes(torch.as_tensor(codes_BSTQ).long())
    flat = features.transpose(0, 1).flatten(1)
    similarity = torch.corrcoef(flat).abs()
    nearest = similarity.topk(NEIGHBOURS, dim=1).indices
    return torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, nearest, value=True)


def read_out(embedding_BSTD: Tensor) -> dict[str, Tensor]:
    """Return the pooled features by name."""
    mean = embedding_BSTD.mean(2).flatten(1)
    spread = (embedding_BSTD.std(2, correction=0) + 1e-3).log().flatten(1)
    return {"mean": mean, "log_std": spread, "mean+log_std": torch.cat([mean, spread], 1)}
