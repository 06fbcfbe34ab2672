"""Counted shares of codes, as the starting point of a network.

codes of training segments ──count──▶ shares of each source, counts of pairs ──▶ log probability of every code

The first level of a token is paired with the first level of the same source one step earlier, other levels with the
first level of the same token. Pairs that were not counted often have the shares of the source.

Shape letters: B batch, N tokens, S latent sources, T latent steps, Q quantizer levels, K codes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from emeg.models.causal.config import CausalConfig
from emeg.models.causal.sequence import TokenSequence
from emeg.tokenizers.interface import Tokenizer

SMOOTHING = (1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0)
"""Pairs that the shares of the source may count as; each level takes the value with the smallest loss."""
SOURCE_SMOOTHING = 64.0
"""Codes that the shares over all sources count as, in the shares of a source."""
CODE_SMOOTHING = 0.5
"""Added to the count of each code."""
LEFT_OUT = 4
"""One of so many segments is not counted until the smoothing has been chosen on it."""


class Position(NamedTuple):
    """Source, level and paired code of tokens, and what remains of their expected latent."""

    source: Tensor
    """int64 (B, N)."""
    level: Tensor
    """int64 (B, N)."""
    paired: Tensor
    """int64 (B, N): the code that the token is paired with; -1 if there is none."""
    remaining: Tensor | None = None
    """float32 (B, N, D): expected latent minus the token's levels so far; see `emeg.models.causal.latents`."""


class CodeTables(nn.Module):
    """Shares of codes by source and level, and of pairs of codes.

    Parameters
    ----------
    n_sources, n_levels, n_codes : int
        Sizes of the tokens; 1 source: all sources share their counts.
    """

    by_source: Tensor
    pairs: Tensor
    smoothing: Tensor

    def __init__(self, n_sources: int, n_levels: int, n_codes: int) -> None:
        super().__init__()
        self.register_buffer("by_source", torch.full((n_sources, n_levels, n_codes), 1.0 / n_codes))
        self.register_buffer("pairs", torch.zeros(n_levels, n_codes, n_codes))
        self.register_buffer("smoothing", torch.ones(n_levels))

    @torch.no_grad()
    def fit(self, segments: Iterable[Tensor]) -> None:
        """Count the codes of segments.

        Parameters
        ----------
        segments : iterable of int64, shape (sources, steps, levels)
            Codes of training segments.
        """
        kept = list(segments)
        if not kept:
            raise ValueError("no training segment was given")
        chosen_on, counted = kept[::LEFT_OUT], [codes for n, codes in enumerate(kept) if n % LEFT_OUT]
        self._count(counted or kept)
        losses = torch.zeros(len(SMOOTHING), len(self.smoothing))
        for number, value in enumerate(SMOOTHING):
            self.smoothing.fill_(value)
            for codes_STQ in chosen_on:
                losses[number] += self.losses(codes_STQ)
        self.smoothing.copy_(torch.tensor(SMOOTHING)[losses.argmin(dim=0)])
        self._count(kept)

    @torch.no_grad()
    def losses(self, codes_STQ: Tensor) -> Tensor:
        """Return the mean cross-entropy of each level, nats: float32, shape (levels,).

        Parameters
        ----------
        codes_STQ : int64, shape (sources, steps, levels)
            Codes of one segment.
        """
        n_steps, n_levels = codes_STQ.shape[1:]
        shares = self(position_of(codes_STQ))
        lost = -shares.gather(2, codes_STQ.flatten(1)[..., None])
        return torch.unflatten(lost[..., 0], 1, (n_steps, n_levels)).mean(dim=(0, 1))

    def _count(self, segments: Iterable[Tensor]) -> None:
        counts = torch.zeros_like(self.by_source)
        self.pairs.zero_()
        n_sources, n_levels, n_codes = counts.shape
        cell = torch.arange(n_sources * n_levels, device=counts.device).view(n_sources, 1, n_levels)
        for codes_STQ in segments:
            flat = (cell * n_codes + codes_STQ).flatten()
            counts += torch.bincount(flat, minlength=counts.numel()).view_as(counts)
            paired_STQ = pair(codes_STQ)
            level = torch.arange(n_levels, device=counts.device).expand_as(paired_STQ)
            flat = ((level * n_codes + paired_STQ) * n_codes + codes_STQ)[paired_STQ >= 0]
            self.pairs += torch.bincount(flat, minlength=self.pairs.numel()).view_as(self.pairs)
        overall = counts.sum(dim=0) + CODE_SMOOTHING
        overall = overall / overall.sum(dim=-1, keepdim=True)
        shares = counts + SOURCE_SMOOTHING * overall
        self.by_source.copy_(shares / shares.sum(dim=-1, keepdim=True))

    def forward(self, position: Position) -> Tensor:
        """Return the log probability of every code: float32, shape (batch, tokens, codes)."""
        shares = self.by_source[position.source.clamp(max=len(self.by_source) - 1), position.level]
        counts = self.pairs[position.level, position.paired.clamp(min=0)]
        counts = counts.masked_fill((position.paired < 0)[..., None], 0.0)
        weight = self.smoothing[position.level][..., None]
        return torch.log((counts + weight * shares) / (counts.sum(dim=-1, keepdim=True) + weight))


def build_tables(config: CausalConfig, tokenizer: Tokenizer) -> CodeTables | None:
    """Return the tables that a configuration asks for, uniform until `fit`; None if it asks for none.

    Channels share their counts, because their number differs from recording to recording.
    """
    if not config.code_tables:
        return None
    sizes = tokenizer.sizes
    return CodeTables(sizes.n_sources or 1, sizes.n_levels, sizes.n_codes)


def pair(codes: Tensor) -> Tensor:
    """Return the code that each code is paired with, -1 if there is none.

    Parameters
    ----------
    codes : int64, shape (..., steps, levels)
        Codes.
    """
    first = codes[..., :1]
    before = torch.cat([torch.full_like(first[..., :1, :], -1), first[..., :-1, :]], dim=-2)
    return torch.cat([before, first.expand_as(codes)[..., 1:]], dim=-1)


def position_of(codes_STQ: Tensor) -> Position:
    """Return source, level and paired code of all codes of a segment, in the order (source, step, level).

    Parameters
    ----------
    codes_STQ : int64, shape (sources, steps, levels)
        Codes.
    """
    axes = (torch.arange(n, device=codes_STQ.device) for n in codes_STQ.shape)
    source, _, level = torch.meshgrid(*axes, indexing="ij")
    return Position(source.flatten(1), level.flatten(1), pair(codes_STQ).flatten(1))


def find_pairs(codes_BN: Tensor, sequence: TokenSequence, of_step: int, tokens: slice = slice(None)) -> Position:
    """Return source, level and paired code of tokens of a sequence.

    Parameters
    ----------
    codes_BN : int64, shape (batch, tokens)
        Codes in the order of the sequence. Only codes before a token are paired with it.
    sequence : TokenSequence
        Sources and levels of all tokens.
    of_step : int
        Tokens of a latent step.
    tokens : slice
        Tokens to return.
    """
    level = sequence.level[:, tokens]
    number = torch.arange(codes_BN.shape[1], device=codes_BN.device)[tokens]
    index = number - torch.where(level == 0, of_step, level)
    paired = codes_BN.gather(1, index.clamp(min=0)).masked_fill(index < 0, -1)
    return Position(sequence.source[:, tokens], level, paired)
