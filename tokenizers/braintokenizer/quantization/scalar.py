"""Finite scalar quantizer: rounds a few bounded numbers instead of searching codebooks (arXiv 2309.15505).

Shape letters: B batch (one latent a row), D features, Q quantizer levels, K codes of a level.
"""

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.tokenizers.braintokenizer.quantization import ranks
from emeg.tokenizers.braintokenizer.quantization.interface import Quantized, Quantizer, normalise_latents, sum_latents
from emeg.tokenizers.braintokenizer.quantization.kmeans import count_codes
from emeg.tokenizers.braintokenizer.quantization.residual import Codebook
from emeg.tokenizers.braintokenizer.quantization.sizes import numbers_per_level


class ScalarQuantizer(Quantizer):
    """Project latents to a few numbers between -1 and 1, and round each to one of a few values.

    The code of a level is a number whose digits, in base `n_values`, are the indices of its rounded numbers. Levels are
    independent of each other, and there are no codebooks to initialise, to update or to exchange between ranks. The
    gradient passes the rounding unchanged.

    Parameters
    ----------
    n_dim : int
        Features of a latent.
    codebook_size : int
        Codes of a level: `n_values` to the power of the numbers in a level.
    num_quantizers : int
        Levels.
    n_values : int
        Values of each number, equally spaced from -1 to 1.
    """

    digits: Tensor
    """int64 (numbers of a level,): weight of each digit."""

    def __init__(self, n_dim: int, codebook_size: int, num_quantizers: int, *, n_values: int) -> None:
        super().__init__()
        per_level = numbers_per_level(codebook_size, n_values)
        if per_level is None:
            raise ValueError(f"codebook_size {codebook_size} must be a power of the number of values, {n_values}")
        self.n_values, self.n_levels, self.n_codes = n_values, num_quantizers, codebook_size
        n_numbers = per_level * num_quantizers
        self.project_in, self.project_out = nn.Linear(n_dim, n_numbers), nn.Linear(n_numbers, n_dim)
        self.register_buffer("digits", n_values ** torch.arange(per_level), persistent=False)
        self._observed: Tensor | None = None
        self._n_observed = 0
        self._used: Tensor | None = None
        self._latents: Tensor | None = None

    @property
    def codebooks(self) -> list[Codebook]:
        """No codebooks, so that no code has to ask which quantizer a network has."""
        return []

    @property
    @override
    def exchanged_numbers(self) -> int:
        return self.n_levels * self.n_codes

    @torch.no_grad()
    @override
    def encode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            return self._codes(self._round(self._bounded(latents)))

    @override
    def decode(self, codes: Tensor) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            indices = codes.long()[..., None] // self.digits % self.n_values
            values = indices.to(self.project_out.weight.dtype) * (2 / (self.n_values - 1)) - 1
            features: Tensor = self.project_out(values.flatten(-2))
            return features

    @override
    def forward(self, latents: Tensor, generator: torch.Generator | None = None) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self._bounded(latents)
            indices = self._round(bounded.detach())
            codes = self._codes(indices)
            if self.training:
                self._observe(codes)
                self._latents = sum_latents(latents, self._latents)
            values = indices * (2 / (self.n_values - 1)) - 1
            carried = bounded + (values - bounded).detach() if self.training else values
            return Quantized(self.project_out(carried), codes, bounded.new_zeros(()))

    def _bounded(self, latents: Tensor) -> Tensor:
        """Return the numbers before rounding, from -1 to 1: float, shape (…, numbers of all levels)."""
        scaled = normalise_latents(latents) * sqrt(latents.shape[-1])
        bounded: Tensor = torch.tanh(self.project_in(scaled.to(self.project_in.weight.dtype)))
        return bounded

    def _round(self, bounded: Tensor) -> Tensor:
        """Return the index of the nearest value of each number, as a float."""
        return ((bounded + 1) * ((self.n_values - 1) / 2)).round()

    def _codes(self, indices: Tensor) -> Tensor:
        by_level = torch.unflatten(indices.long(), -1, (self.n_levels, -1))
        return (by_level * self.digits).sum(dim=-1)

    @torch.no_grad()
    def _observe(self, codes: Tensor) -> None:
        by_level = codes.reshape(-1, self.n_levels) + self.n_codes * torch.arange(self.n_levels, device=codes.device)
        counts = count_codes(by_level.flatten(), self.n_levels * self.n_codes).view(self.n_levels, self.n_codes)
        self._observed = counts if self._observed is None else self._observed + counts
        self._n_observed += 1

    @torch.no_grad()
    @override
    def follow(self) -> None:
        ranks.check_alike([self._n_observed], "micro-batches that the quantizer observed")
        if self._observed is not None:
            ranks.exchange([self._observed], [])
            self._used = self._observed if self._used is None else self._used + self._observed
        self._observed, self._n_observed = None, 0

    @override
    def watched(self) -> dict[str, Tensor]:
        if self._used is None or self._latents is None:
            return {}
        return {"used": self._used, "replaced": self._used.new_zeros(self.n_levels), "latents": self._latents}

    @override
    def watch_on(self, watched: Mapping[str, Tensor]) -> None:
        self._used = watched["used"] if watched else None
        self._latents = watched["latents"] if watched else None
