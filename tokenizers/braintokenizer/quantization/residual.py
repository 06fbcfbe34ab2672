"""Residual vector quantiser whose codebooks follow the latents by running means (arXiv 2107.03312, 2410.06424)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer.losses import at_least_float32
from emeg.tokenizers.braintokenizer.quantization import ranks
from emeg.tokenizers.braintokenizer.quantization.kmeans import cluster, draw_integers, nearest

DECAY = 0.99
"""Of the running counts and sums, per update."""
SMOOTHING = 1e-6
"""Added to every count before sums are divided by them (Laplace)."""
COMMITMENT_WEIGHT = 0.25
FIXED_POINT = 2.0**32
"""Sums of latents are taken in 64-bit integers of this many to one: the same in any order, on any device and any
number of ranks. A unit is 2e-10, finer than float32 has latents of length 1; sums reach 2e9."""
DEAD_COUNT = 2.0
"""A code whose running count falls under this, or under half of an even share where that is less, is replaced."""


class Quantized(NamedTuple):
    """What the quantiser makes of latents (…, D)."""

    features: Tensor
    """(…, D): sums of code vectors; while training they carry the gradient of the latents."""
    codes: Tensor
    """int64 (…, K)."""
    commitment: Tensor
    """Scalar: 0.25 · mean squared distance, averaged over the codebooks."""


class CodebookUse(NamedTuple):
    """How much of each codebook is in use."""

    used: Tensor
    """int64 (K,): codes that occur."""
    perplexity: Tensor
    """float32 (K,): two to the power of the entropy in bits."""


def codebook_use(codes: Tensor, codebook_size: int) -> CodebookUse:
    """Count the codes in use in (…, K)."""
    by_level = [torch.bincount(level, minlength=codebook_size) for level in codes.reshape(-1, codes.shape[-1]).T]
    counts_KV = torch.stack(by_level).float()
    share_KV = counts_KV / counts_KV.sum(dim=1, keepdim=True).clamp(min=1)
    entropy_K = -torch.special.xlogy(share_KV, share_KV).sum(dim=1)
    return CodebookUse((counts_KV > 0).sum(dim=1), entropy_K.exp())


def rotate(x: Tensor, onto: Tensor) -> Tensor:
    """Give `onto` for `x`, as a rotation and scaling of it that counts as constant in the gradient.

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
    """Code vectors with the running counts and sums they come from.

    `observe` gathers what a batch says; `follow` lets the vectors follow. Between the two nothing changes, so several
    micro-batches of one step see the same vectors.
    """

    inited: Tensor
    cluster_size: Tensor
    embed: Tensor
    embed_avg: Tensor

    def __init__(self, size: int, n_dim: int, *, scale: float) -> None:
        super().__init__()
        embed = F.normalize(torch.randn(size, n_dim), dim=-1) * scale
        self.register_buffer("inited", torch.zeros(1))
        self.register_buffer("cluster_size", torch.zeros(size))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())
        self._observed: tuple[Tensor, Tensor, Tensor] | None = None
        self.n_observed = 0
        self.used: Tensor | None = None
        self.replaced: Tensor | None = None
        self._placed = False  # what `inited` says, without asking the device in every step

    def _load_from_state_dict(self, *given: Any) -> None:  # noqa: ANN401 - PyTorch's own
        super()._load_from_state_dict(*given)
        self._placed = False

    def start(self, x_RD: Tensor, generator: torch.Generator | None) -> None:
        """Place the vectors by k-means on the first batch ever seen (rank 0's, for all ranks)."""
        if self._placed:
            return
        self._placed = True
        if bool(self.inited.item()):
            return
        centres_VD, counts_V = cluster(x_RD, len(self.embed), generator)
        self.embed.copy_(centres_VD)
        self.cluster_size.copy_(counts_V)
        self.embed_avg.copy_(centres_VD * counts_V[:, None])
        self.inited.fill_(1.0)
        for buffer in (self.embed, self.cluster_size, self.embed_avg):
            ranks.broadcast(buffer)

    def observe(self, x_RD: Tensor, codes_R: Tensor, generator: torch.Generator | None) -> None:
        """Add a batch's counts and sums; candidates to replace dead codes are drawn from a step's first batch."""
        size = len(self.embed)
        self.n_observed += 1
        whole_RD = fixed_point(x_RD)
        # unlike bincount, which looks for the largest code first, this does not wait for the device
        counts_V = whole_RD.new_zeros(size).index_add_(0, codes_R, whole_RD.new_ones(()).expand(len(codes_R)))
        sums_VD = whole_RD.new_zeros(self.embed.shape).index_add_(0, codes_R, whole_RD)
        if self._observed is None:
            candidates_VD = x_RD[draw_integers(size, len(x_RD), generator, x_RD.device)]
            self._observed = (counts_V, sums_VD, candidates_VD)
        else:
            counts, sums, candidates_VD = self._observed
            self._observed = (counts + counts_V, sums + sums_VD, candidates_VD)

    def follow(self) -> None:
        """Move the vectors after what was observed on all ranks, and replace codes that died out."""
        if self._observed is None:
            return
        counts_V, sums_VD, candidates_VD = self._observed
        self._observed, self.n_observed = None, 0
        ranks.add_up(counts_V)
        ranks.add_up(sums_VD)
        ranks.broadcast(candidates_VD)
        sums_VD = sums_VD.to(self.embed.dtype) / FIXED_POINT
        counts_V = counts_V.to(self.embed.dtype)
        self.used = counts_V if self.used is None else self.used + counts_V
        self.cluster_size.lerp_(counts_V, 1 - DECAY)
        self.embed_avg.lerp_(sums_VD, 1 - DECAY)
        total = self.cluster_size.sum()
        smoothed_V = (self.cluster_size + SMOOTHING) / (total + len(self.embed) * SMOOTHING) * total
        self.embed.copy_(self.embed_avg / smoothed_V[:, None])
        self._replace_dead(candidates_VD)

    def _replace_dead(self, candidates_VD: Tensor) -> None:
        # A small batch has fewer than two vectors a code: then half of an even share is the bound.
        bound = (0.5 * self.cluster_size.mean()).clamp(max=DEAD_COUNT)
        dead_V = self.cluster_size < bound
        self.replaced = dead_V.sum() if self.replaced is None else self.replaced + dead_V.sum()
        dead_V1 = dead_V[:, None]
        self.cluster_size.copy_(torch.where(dead_V, bound, self.cluster_size))
        self.embed_avg.copy_(torch.where(dead_V1, candidates_VD * bound, self.embed_avg))
        self.embed.copy_(torch.where(dead_V1, candidates_VD, self.embed))


class ResidualQuantizer(nn.Module):
    """Codebooks in a row, each quantising what the ones before left over. Latents are brought to length 1 first."""

    def __init__(
        self, n_dim: int, codebook_dim: int, codebook_size: int, num_quantizers: int, *, rotation_trick: bool
    ) -> None:
        super().__init__()
        self.project_in = nn.Linear(n_dim, codebook_dim) if codebook_dim != n_dim else nn.Identity()
        self.project_out = nn.Linear(codebook_dim, n_dim) if codebook_dim != n_dim else nn.Identity()
        # Until k-means places them, later codebooks hold smaller vectors, as residuals are smaller.
        self.layers = nn.ModuleList(
            Codebook(codebook_size, codebook_dim, scale=0.5**level) for level in range(num_quantizers)
        )
        self.rotation_trick = rotation_trick
        self._latents: Tensor | None = None

    @property
    def codebooks(self) -> list[Codebook]:
        """The codebooks in order."""
        return [layer for layer in self.layers if isinstance(layer, Codebook)]

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Find the codes (…, K) of latents (…, D) in float32; nothing is learned."""
        with torch.autocast(latents.device.type, enabled=False):
            residual_RD = self._enter(latents)
            codes = []
            for codebook in self.codebooks:
                embed = codebook.embed.to(residual_RD.dtype)  # where the whole model was cast to half precision
                codes.append(nearest(residual_RD, embed))
                residual_RD = residual_RD - F.embedding(codes[-1], embed)
            return torch.stack(codes, dim=-1).reshape(*latents.shape[:-1], -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum the code vectors of (…, K) in level order, starting from 0.0, and project them out: (…, D)."""
        with torch.autocast(codes.device.type, enabled=False):
            first = self.codebooks[0].embed
            total = first.new_zeros((*codes.shape[:-1], first.shape[-1]))
            for codebook, codes_of_level in zip(self.codebooks, codes.unbind(-1), strict=True):
                total = total + F.embedding(codes_of_level.long(), codebook.embed)
            features: Tensor = self.project_out(total)
            return features

    def forward(self, latents: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantise latents (…, D); while training, codebooks start on and observe them. `follow` moves them."""
        with torch.autocast(latents.device.type, enabled=False):
            residual_RD = self._enter(latents)
            if self.training:
                self._see(latents)
            total_RD = torch.zeros_like(residual_RD)
            codes, distances = [], []
            for codebook in self.codebooks:
                quantized_RD, codes_R = self._quantize(codebook, residual_RD, generator)
                codes.append(codes_R)
                distances.append(F.mse_loss(residual_RD, quantized_RD))
                total_RD = total_RD + self._carry(residual_RD, quantized_RD)
                residual_RD = residual_RD - quantized_RD
            shape = latents.shape[:-1]
            return Quantized(
                self.project_out(total_RD).reshape(*shape, -1),
                torch.stack(codes, dim=-1).reshape(*shape, -1),
                COMMITMENT_WEIGHT * torch.stack(distances).mean(),
            )

    @torch.no_grad()
    def _see(self, latents: Tensor) -> None:
        whole_RD = fixed_point(normalise_latents(latents.detach()).flatten(0, -2))
        seen = torch.cat([whole_RD.sum(dim=0), whole_RD.new_full((1,), len(whole_RD))])
        self._latents = seen if self._latents is None else self._latents + seen

    def _enter(self, latents: Tensor) -> Tensor:
        normalised = normalise_latents(latents)
        if isinstance(self.project_in, nn.Linear):
            normalised = self.project_in(normalised.to(self.project_in.weight.dtype)).to(normalised.dtype)
        return normalised.flatten(0, -2)

    @torch.no_grad()
    def _quantize(self, codebook: Codebook, x_RD: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        if self.training:
            codebook.start(x_RD, generator)
        codes_R = nearest(x_RD, codebook.embed)
        if self.training:
            codebook.observe(x_RD, codes_R, generator)
        return F.embedding(codes_R, codebook.embed), codes_R

    def _carry(self, x_RD: Tensor, quantized_RD: Tensor) -> Tensor:
        if not self.training:
            return quantized_RD
        if self.rotation_trick:
            return rotate(x_RD, quantized_RD)
        return x_RD + (quantized_RD - x_RD).detach()

    @torch.no_grad()
    def follow(self) -> None:
        """Let every codebook follow what it observed since the last call."""
        counts = [n for codebook in self.codebooks for n in (codebook.n_observed, len(codebook.embed))]
        ranks.check_alike(counts, "micro-batches that codebooks observed, and their sizes")
        for codebook in self.codebooks:
            codebook.follow()

    def watched(self) -> dict[str, Tensor]:
        """Give what was seen since the last `watch_on`, on all ranks but for the latents.

        Returns
        -------
        dict
            ``used`` (K, V) latents of each code, ``replaced`` (K,) codes that died out, ``latents`` int64 (D + 1,) the
            sum of this rank's normalised latents, in fixed point, and their number. Empty before the first `follow`.
        """
        used = [codebook.used for codebook in self.codebooks if codebook.used is not None]
        replaced = [codebook.replaced for codebook in self.codebooks if codebook.replaced is not None]
        if not used or self._latents is None:
            return {}
        return {"used": torch.stack(used), "replaced": torch.stack(replaced), "latents": self._latents}

    def watch_on(self, watched: Mapping[str, Tensor]) -> None:
        """Take up what `watched` gave, or nothing."""
        for level, codebook in enumerate(self.codebooks):
            codebook.used = watched["used"][level] if watched else None
            codebook.replaced = watched["replaced"][level] if watched else None
        self._latents = watched["latents"] if watched else None


def fixed_point(x: Tensor) -> Tensor:
    """Turn numbers below 2e9 into int64, `FIXED_POINT` to one."""
    return (x * FIXED_POINT).round().long()


def normalise_latents(latents: Tensor) -> Tensor:
    """Bring latents (…, D) to length 1, in float32."""
    return F.normalize(at_least_float32(latents), dim=-1)
