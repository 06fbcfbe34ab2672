"""Residual vector quantizer whose codebooks are running means of the latents (arXiv 2107.03312, 2410.06424).

Shape letters: B batch (one latent a row), D features, Q quantizer levels, K codes of a codebook.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from emeg.tokenizers.braintokenizer.quantization import ranks
from emeg.tokenizers.braintokenizer.quantization.interface import Quantized, Quantizer, normalise_latents, sum_latents
from emeg.tokenizers.braintokenizer.quantization.kmeans import (
    FIXED_POINT,
    cluster,
    count_codes,
    draw_integers,
    fixed_point,
    nearest,
)

DECAY = 0.99
"""Decay of the running counts and sums at each update."""
SMOOTHING = 1e-6
"""Added to every count before sums are divided by them (Laplace)."""
COMMITMENT_WEIGHT = 0.25
DEAD_COUNT = 2.0
"""A code is replaced if its running count falls below this, or below half of an equal share if that is less."""


class Observed(NamedTuple):
    """What a codebook observed in the micro-batches of a step."""

    counts: Tensor
    """int64 (K,): latents of each code."""
    sums: Tensor
    """int64 (K, D): fixed-point sums of the latents of each code."""
    candidates: Tensor
    """float32 (K, D): latents of the first micro-batch that replace dead codes."""


class CodebookUse(NamedTuple):
    """Usage of each codebook."""

    used: Tensor
    """int64 (Q,): codes that occur."""
    perplexity: Tensor
    """float32 (Q,): two to the power of the entropy in bits."""


def codebook_use(codes: Tensor, codebook_size: int) -> CodebookUse:
    """Count the codes in use at each quantizer level.

    Parameters
    ----------
    codes : int64, shape (..., levels)
        Codes.
    codebook_size : int
    """
    by_level = [torch.bincount(level, minlength=codebook_size) for level in codes.reshape(-1, codes.shape[-1]).T]
    counts_QK = torch.stack(by_level).float()
    share_QK = counts_QK / counts_QK.sum(dim=1, keepdim=True).clamp(min=1)
    entropy_Q = -torch.special.xlogy(share_QK, share_QK).sum(dim=1)
    return CodebookUse((counts_QK > 0).sum(dim=1), entropy_Q.exp())


def rotate(x: Tensor, onto: Tensor) -> Tensor:
    """Rotate and scale `x` onto `onto`, with a rotation and a scale that are constants in the gradient.

    Parameters
    ----------
    x, onto : float32, shape (rows, features)
        Dimensionless features.

    References
    ----------
    arXiv 2410.06424, section 4.2: x − 2 (x·w) w + 2 (x·u) v with u, v the directions of both and w that of u + v.
    """
    with torch.no_grad():
        norm_x = x.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        norm_onto = onto.norm(dim=-1, keepdim=True)
        u, v = x / norm_x, onto / norm_onto.clamp(min=1e-6)
        w = F.normalize(u + v, dim=-1)
        scale: Tensor = norm_onto / norm_x
    turned: Tensor = x - 2 * (x * w).sum(-1, keepdim=True) * w + 2 * (x * u).sum(-1, keepdim=True) * v
    return turned * scale


class Codebook(nn.Module):
    """Code vectors, and the running counts and sums that they are computed from.

    `observe` accumulates the counts and sums of a batch, `take_observed` returns them, and `follow` updates the vectors
    from them. The vectors do not change in between, so that all micro-batches of one step see the same vectors.
    """

    inited: Tensor
    cluster_size: Tensor
    embed: Tensor
    embed_avg: Tensor

    def __init__(self, size: int, n_dim: int, *, scale: float, latent_dim: int | None = None) -> None:
        super().__init__()
        if latent_dim is not None:
            self.project_in = nn.Linear(latent_dim, n_dim)
            self.project_out = nn.Linear(n_dim, latent_dim)
        self._is_projected = latent_dim is not None
        embed = F.normalize(torch.randn(size, n_dim), dim=-1) * scale
        self.register_buffer("inited", torch.zeros(1))
        self.register_buffer("cluster_size", torch.zeros(size))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())
        self._observed: Observed | None = None
        self.n_observed = 0
        self.used: Tensor | None = None
        self.replaced: Tensor | None = None
        self._placed = False  # the value of `inited`, without synchronising the device in every step

    def _load_from_state_dict(self, *given: Any) -> None:  # noqa: ANN401 - PyTorch's own
        super()._load_from_state_dict(*given)
        self._placed = False

    def enter(self, x_BD: Tensor) -> Tensor:
        """Project residuals to the size of the code vectors, if this codebook has projections.

        Parameters
        ----------
        x_BD : float32, shape (rows, n_dim)
            Residuals, dimensionless features.
        """
        return self.project_in(x_BD) if self._is_projected else x_BD

    def leave(self, x: Tensor) -> Tensor:
        """Project code vectors to the size of the latents, if this codebook has projections.

        Parameters
        ----------
        x : float32, shape (..., codebook_dim)
            Code vectors, dimensionless features.
        """
        return self.project_out(x) if self._is_projected else x

    def start(self, x_BD: Tensor, generator: torch.Generator | None) -> None:
        """Initialise the vectors by k-means on the first batch of rank 0, on all ranks; later calls do nothing.

        Parameters
        ----------
        x_BD : float32, shape (rows, features)
            Latents or residuals, features.
        generator : torch.Generator, optional
            Source of the draws.
        """
        if self._placed:
            return
        self._placed = True
        if bool(self.inited.item()):
            return
        centres_KD, counts_K = cluster(x_BD, len(self.embed), generator)
        self.embed.copy_(centres_KD)
        self.cluster_size.copy_(counts_K)
        self.embed_avg.copy_(centres_KD * counts_K[:, None])
        self.inited.fill_(1.0)
        for buffer in (self.embed, self.cluster_size, self.embed_avg):
            ranks.broadcast(buffer)

    def observe(self, x_BD: Tensor, codes_B: Tensor, generator: torch.Generator | None) -> None:
        """Add the counts and sums of a batch, and draw replacements for dead codes from the first batch of a step.

        Parameters
        ----------
        x_BD : float32, shape (rows, features)
            Latents or residuals, features.
        codes_B : int64, shape (rows,)
            Codes of the rows.
        generator : torch.Generator, optional
            Source of the draws.
        """
        size = len(self.embed)
        self.n_observed += 1
        whole_BD = fixed_point(x_BD)
        counts_K = count_codes(codes_B, size)
        sums_KD = whole_BD.new_zeros(self.embed.shape).index_add_(0, codes_B, whole_BD)
        if self._observed is None:
            candidates_KD = x_BD[draw_integers(size, len(x_BD), generator, x_BD.device)]
            self._observed = Observed(counts_K, sums_KD, candidates_KD)
        else:
            counts, sums, candidates_KD = self._observed
            self._observed = Observed(counts + counts_K, sums + sums_KD, candidates_KD)

    def take_observed(self) -> Observed | None:
        """Return the observations of this rank since the last call; None if there are none."""
        observed, self._observed, self.n_observed = self._observed, None, 0
        return observed

    def follow(self, observed: Observed) -> None:
        """Update the vectors from the observations of all ranks, and replace dead codes."""
        counts_K, sums_KD, candidates_KD = observed
        sums_KD = sums_KD.to(self.embed.dtype) / FIXED_POINT
        counts_K = counts_K.to(self.embed.dtype)
        self.used = counts_K if self.used is None else self.used + counts_K
        self.cluster_size.lerp_(counts_K, 1 - DECAY)
        self.embed_avg.lerp_(sums_KD, 1 - DECAY)
        total = self.cluster_size.sum()
        smoothed_K = (self.cluster_size + SMOOTHING) / (total + len(self.embed) * SMOOTHING) * total
        self.embed.copy_(self.embed_avg / smoothed_K[:, None])
        self._replace_dead(candidates_KD)

    def _replace_dead(self, candidates_KD: Tensor) -> None:
        # A small batch has fewer than two latents a code: then half of an equal share is the bound.
        bound = (0.5 * self.cluster_size.mean()).clamp(max=DEAD_COUNT)
        dead_K = self.cluster_size < bound
        self.replaced = dead_K.sum() if self.replaced is None else self.replaced + dead_K.sum()
        dead = dead_K[:, None]
        self.cluster_size.copy_(torch.where(dead_K, bound, self.cluster_size))
        self.embed_avg.copy_(torch.where(dead, candidates_KD * bound, self.embed_avg))
        self.embed.copy_(torch.where(dead, candidates_KD, self.embed))


class ResidualQuantizer(Quantizer):
    """Quantize latents of length 1 by several codebooks, each of which quantizes the residual of those before it."""

    def __init__(
        self,
        n_dim: int,
        codebook_dim: int,
        codebook_size: int,
        num_quantizers: int,
        *,
        rotation_trick: bool,
        projections: str = "shared",
    ) -> None:
        super().__init__()
        differs = codebook_dim != n_dim
        shared, by_level = differs and projections == "shared", differs and projections == "level"
        self.project_in = nn.Linear(n_dim, codebook_dim) if shared else nn.Identity()
        self.project_out = nn.Linear(codebook_dim, n_dim) if shared else nn.Identity()
        self._inner_dim = codebook_dim if shared else n_dim
        # Before k-means, later codebooks hold smaller vectors, because residuals are smaller.
        self.layers = nn.ModuleList(
            Codebook(codebook_size, codebook_dim, scale=0.5**level, latent_dim=n_dim if by_level else None)
            for level in range(num_quantizers)
        )
        self.rotation_trick = rotation_trick
        self._latents: Tensor | None = None

    @property
    def codebooks(self) -> list[Codebook]:
        """The codebooks in order."""
        return [layer for layer in self.layers if isinstance(layer, Codebook)]

    @property
    @override
    def exchanged_numbers(self) -> int:
        return sum(len(book.embed) + 2 * book.embed.numel() for book in self.codebooks)

    @torch.no_grad()
    @override
    def encode(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            residual_BD = self._enter(latents)
            codes = []
            for codebook in self.codebooks:
                embed = codebook.embed.to(residual_BD.dtype)  # where the whole model was cast to half precision
                codes.append(nearest(codebook.enter(residual_BD), embed))
                residual_BD = residual_BD - codebook.leave(F.embedding(codes[-1], embed))
            return torch.stack(codes, dim=-1).reshape(*latents.shape[:-1], -1)

    @override
    def decode(self, codes: Tensor) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            total = self.codebooks[0].embed.new_zeros((*codes.shape[:-1], self._inner_dim))
            for codebook, codes_of_level in zip(self.codebooks, codes.unbind(-1), strict=True):
                total = total + codebook.leave(F.embedding(codes_of_level.long(), codebook.embed))
            features: Tensor = self.project_out(total)
            return features

    @override
    def forward(self, latents: Tensor, generator: torch.Generator | None = None) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            residual_BD = self._enter(latents)
            if self.training:
                self._latents = sum_latents(latents, self._latents)
            total_BD = torch.zeros_like(residual_BD)
            codes, distances = [], []
            for codebook in self.codebooks:
                inner_BD = codebook.enter(residual_BD)
                quantized_BD, codes_B = self._quantize(codebook, inner_BD, generator)
                codes.append(codes_B)
                distances.append(F.mse_loss(inner_BD, quantized_BD))
                total_BD = total_BD + codebook.leave(self._carry(inner_BD, quantized_BD))
                residual_BD = residual_BD - codebook.leave(quantized_BD).detach()
            shape = latents.shape[:-1]
            return Quantized(
                self.project_out(total_BD).reshape(*shape, -1),
                torch.stack(codes, dim=-1).reshape(*shape, -1),
                COMMITMENT_WEIGHT * torch.stack(distances).mean(),
            )

    def _enter(self, latents: Tensor) -> Tensor:
        normalised = normalise_latents(latents)
        if isinstance(self.project_in, nn.Linear):
            normalised = self.project_in(normalised.to(self.project_in.weight.dtype)).to(normalised.dtype)
        return normalised.flatten(0, -2)

    @torch.no_grad()
    def _quantize(self, codebook: Codebook, x_BD: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        if self.training:
            codebook.start(x_BD, generator)
        codes_B = nearest(x_BD, codebook.embed)
        if self.training:
            codebook.observe(x_BD, codes_B, generator)
        return F.embedding(codes_B, codebook.embed), codes_B

    def _carry(self, x_BD: Tensor, quantized_BD: Tensor) -> Tensor:
        if not self.training:
            return quantized_BD
        if self.rotation_trick:
            return rotate(x_BD, quantized_BD)
        return x_BD + (quantized_BD - x_BD).detach()

    @torch.no_grad()
    @override
    def follow(self) -> None:
        counts = [n for codebook in self.codebooks for n in (codebook.n_observed, len(codebook.embed))]
        ranks.check_alike(counts, "micro-batches that codebooks observed, and their sizes")
        seen = [(codebook, codebook.take_observed()) for codebook in self.codebooks]
        found = [(codebook, observed) for codebook, observed in seen if observed is not None]
        ranks.exchange(
            [part for _, observed in found for part in (observed.counts, observed.sums)],
            [observed.candidates for _, observed in found],
        )
        for codebook, observed in found:
            codebook.follow(observed)

    @override
    def watched(self) -> dict[str, Tensor]:
        used = [codebook.used for codebook in self.codebooks if codebook.used is not None]
        replaced = [codebook.replaced for codebook in self.codebooks if codebook.replaced is not None]
        if not used or self._latents is None:
            return {}
        return {"used": torch.stack(used), "replaced": torch.stack(replaced), "latents": self._latents}

    @override
    def watch_on(self, watched: Mapping[str, Tensor]) -> None:
        for level, codebook in enumerate(self.codebooks):
            codebook.used = watched["used"][level] if watched else None
            codebook.replaced = watched["replaced"][level] if watched else None
        self._latents = watched["latents"] if watched else None
