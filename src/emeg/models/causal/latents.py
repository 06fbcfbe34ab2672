"""Linear prediction of latents from other sources, as the starting point of a network over latent sources.

codes ──code vectors──▶ latents ──ridge regression──▶ expected latent ──minus own levels so far──▶ score of every code

The latent of a source is predicted from all sources one step earlier and from the sources before it at the same step.
Sources overlap, so that these tell most of it. A code scores by the normal distribution of errors,
given what remains of the expected latent.

Shape letters: B batch, N tokens, S latent sources, T latent steps, D features, Q quantizer levels, K codes.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from emeg.errors import UserError
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.tables import LEFT_OUT, CodeTables, Position, position_of
from emeg.tokenizers.interface import Tokenizer

RIDGE = 3.0
"""Added to the diagonal of the sums of products of latents, whose length is 1."""
SHRINKAGE = 0.1
"""Share of the mean variance in the covariances of errors, which limited segments determine badly."""
TABLE_WEIGHTS = (0.5, 0.75, 1.0)
"""Weights of the logarithm of the counted shares to choose from."""
ERROR_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the log probability of the error to choose from."""
CHOSEN_ON = 8
"""Most segments on which both weights are chosen, which limits time."""


def vectors_of_codes(tokenizer: Tokenizer) -> Tensor:
    """Return what each code adds to a latent, relative to code 0: float32, shape (levels, codes, n_dim).

    Parameters
    ----------
    tokenizer : Tokenizer
        Features are sums over levels.
    """
    sizes = tokenizer.sizes
    codes = torch.zeros(sizes.n_levels, sizes.n_codes, sizes.n_levels, dtype=torch.int64)
    for level in range(sizes.n_levels):
        codes[level, :, level] = torch.arange(sizes.n_codes)
    device = next(tokenizer.parameters()).device if isinstance(tokenizer, nn.Module) else None
    features = tokenizer.features_from_codes(codes.to(device))
    return features - features[:, :1]


class LatentPrediction(nn.Module):
    """Ridge regression of a latent, and scores of codes by what remains of it.

    Parameters
    ----------
    n_sources, n_levels, n_codes, n_dim : int
        Sizes of the tokens.
    """

    vectors: Tensor
    constant: Tensor
    before: Tensor
    same: Tensor
    table_weight: Tensor
    inverse: Tensor

    def __init__(self, n_sources: int, n_levels: int, n_codes: int, n_dim: int) -> None:
        super().__init__()
        size = n_sources * n_dim
        self.n_sources = n_sources
        self.register_buffer("vectors", torch.zeros(n_levels, n_codes, n_dim))
        self.register_buffer("constant", torch.zeros(size))
        self.register_buffer("before", torch.zeros(size, size))
        self.register_buffer("same", torch.zeros(size, size))
        self.register_buffer("table_weight", torch.ones(n_levels))
        self.register_buffer("inverse", torch.zeros(n_sources, n_levels, n_dim, n_dim))

    @torch.no_grad()
    def fit(self, segments: Sequence[Tensor], vectors_QKD: Tensor, tables: CodeTables) -> None:
        """Fit the regression to segments, and its errors and the weight of counted shares to segments left out of it.

        Parameters
        ----------
        segments : sequence of int64, shape (sources, steps, levels)
            Codes of training segments.
        vectors_QKD : float32, shape (levels, codes, n_dim)
            Output of `vectors_of_codes`, dimensionless.
        tables : CodeTables
            Counted shares.
        """
        self.vectors.copy_(vectors_QKD)
        chosen_on, fitted = segments[::LEFT_OUT], [codes for n, codes in enumerate(segments) if n % LEFT_OUT]
        self._regress(fitted or segments)
        self._choose_weights(chosen_on, tables)
        self._regress(segments)

    def _regress(self, segments: Sequence[Tensor]) -> None:
        n_dim, size = self.vectors.shape[2], len(self.constant)
        gram = torch.zeros(1 + 2 * size, 1 + 2 * size, device=self.vectors.device)
        for codes_STQ in segments:
            latents = self._latents(codes_STQ.transpose(0, 1)).flatten(1)
            row = torch.cat([torch.ones_like(latents[1:, :1]), latents[:-1], latents[1:]], dim=1)
            gram += row.T @ row
        ridge = RIDGE * torch.eye(len(gram), device=gram.device)
        # each source knows a leading part of the predictors, so that one decomposition serves all
        root = torch.linalg.cholesky((gram + ridge).double())
        for source in range(self.n_sources):
            known, own = 1 + size + source * n_dim, slice(source * n_dim, (source + 1) * n_dim)
            target = root[known : known + n_dim, :known].T
            weights = torch.linalg.solve_triangular(root[:known, :known].T, target, upper=True).to(gram)
            self.constant[own] = weights[0]
            self.before[:, own] = weights[1 : 1 + size]
            self.same[: source * n_dim, own] = weights[1 + size :]

    def _choose_weights(self, segments: Sequence[Tensor], tables: CodeTables) -> None:
        """Set the inverse covariance of errors, and the weight of the counted shares, of each level."""
        levels = torch.arange(len(self.vectors), device=self.vectors.device)
        remaining = [self._whole(codes_STQ) for codes_STQ in segments]
        errors = torch.cat(
            [part - self.vectors[levels, codes] for part, codes in zip(remaining, segments, strict=True)], dim=1
        )
        covariance = torch.einsum("stqd,stqe->sqde", errors, errors) / errors.shape[1]
        variance = covariance.diagonal(dim1=2, dim2=3).mean(dim=2).clamp(min=1e-9)[..., None, None]
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * variance * torch.eye(errors.shape[3]).to(errors)
        self.inverse.copy_(torch.linalg.inv(covariance))
        few = slice(None, None, -(-len(segments) // CHOSEN_ON))
        pairs = list(product(TABLE_WEIGHTS, ERROR_WEIGHTS))
        losses = torch.zeros(len(pairs), len(levels)).to(errors)
        for codes_STQ, part in zip(segments[few], remaining[few], strict=True):
            counted, scores = (
                tables(position_of(codes_STQ)),
                self._scores(part.transpose(0, 1)[None])[0].transpose(0, 1),
            )
            counted = torch.unflatten(counted, 1, (-1, len(levels)))
            losses = losses + torch.stack([_loss(a * counted + b * scores, codes_STQ) for a, b in pairs])
        for level, number in enumerate(losses.argmin(dim=0).tolist()):
            self.table_weight[level] = pairs[number][0]
            self.inverse[:, level] *= pairs[number][1]

    def _whole(self, codes_STQ: Tensor) -> Tensor:
        """Return what remains of the expected latents of a segment: (sources, steps, levels, n_dim)."""
        n_sources, n_steps, n_levels = codes_STQ.shape
        found = self.remaining(codes_STQ.transpose(0, 1).reshape(1, -1))[0]
        return torch.unflatten(found, 0, (n_steps, n_sources, n_levels)).transpose(0, 1)

    def _latents(self, codes: Tensor) -> Tensor:
        """Return the latents of codes relative to those of code 0: (..., n_dim) of (..., levels)."""
        return self.vectors[torch.arange(len(self.vectors), device=codes.device), codes].sum(dim=-2)

    def remaining(self, codes_BN: Tensor, tokens: slice = slice(None)) -> Tensor:
        """Return the expected latent minus the token's levels so far: float32, shape (batch, tokens, n_dim).

        Parameters
        ----------
        codes_BN : int64, shape (batch, tokens)
            Codes in the order time, source, level, from the first source of a step on. Only codes before a token are
            read.
        tokens : slice
            Tokens to return.
        """
        n_levels, n_dim = self.vectors.shape[0], self.vectors.shape[2]
        of_step = self.n_sources * n_levels
        index = torch.arange(codes_BN.shape[1], device=codes_BN.device)[tokens]
        first, last = int(index[0]) // of_step, int(index[-1]) // of_step + 1
        start = max(0, first - 1)
        grid = torch.unflatten(codes_BN[:, start * of_step : last * of_step], 1, (-1, self.n_sources, n_levels))
        added = self.vectors[torch.arange(n_levels, device=grid.device), grid]
        latents = added.sum(dim=3).flatten(2)
        before = nn.functional.pad(latents, (0, 0, 1 - (first - start), 0))[:, : last - first]
        own = added[:, first - start :]
        expected = self.constant + before @ self.before + latents[:, first - start :] @ self.same
        so_far = nn.functional.pad(own.cumsum(dim=3)[..., :-1, :], (0, 0, 1, 0))
        left = torch.unflatten(expected, 2, (self.n_sources, n_dim))[..., None, :] - so_far
        return left.flatten(1, 3)[:, index - first * of_step]

    def forward(self, position: Position, counted_BNK: Tensor) -> Tensor:
        """Return the score of every code, the logarithm of a share up to a constant: float32, as `counted_BNK`.

        Parameters
        ----------
        position : Position
            One token, or all levels of some latents in their order, with ``remaining``.
        counted_BNK : float32, shape (batch, tokens, codes)
            Logarithms of the counted shares, dimensionless.
        """
        remaining, level = position.remaining, position.level
        if remaining is None:
            raise ValueError("position has no remaining latents; pass the output of `remaining`")
        if remaining.shape[1] == 1:
            scores = self._score(remaining[:, 0], position.source[:, 0], level[:, 0])[:, None]
        else:
            scores = self._scores(torch.unflatten(remaining, 1, (-1, *self.inverse.shape[:2]))).flatten(1, 3)
        return self.table_weight[level][..., None] * counted_BNK + scores

    def _scores(self, remaining: Tensor) -> Tensor:
        """Return log probabilities of the error of every code: (batch, steps, sources, levels, codes).

        Parameters
        ----------
        remaining : float32, shape (batch, steps, sources, levels, n_dim)
            What remains of the expected latents, dimensionless.
        """
        half = 0.5 * torch.einsum("qkd,sqde,qke->sqk", self.vectors, self.inverse, self.vectors)
        weighted = torch.einsum("btsqd,sqde->btsqe", remaining, self.inverse)
        return torch.einsum("btsqe,qke->btsqk", weighted, self.vectors) - half

    def _score(self, remaining_BD: Tensor, source_B: Tensor, level_B: Tensor) -> Tensor:
        """Return the same for one token of each sequence: (batch, codes)."""
        vectors_BKD = self.vectors[level_B]
        weighted = (remaining_BD[:, None] - 0.5 * vectors_BKD) @ self.inverse[source_B, level_B]
        return (weighted * vectors_BKD).sum(-1)


def build_latents(config: CausalConfig, tokenizer: Tokenizer) -> LatentPrediction | None:
    """Return the prediction of latents that a configuration asks for, without effect until `fit`; None if for none.

    Raises
    ------
    UserError
        The tokens have no fixed sources.
    """
    sizes = tokenizer.sizes
    if not config.latent_prediction:
        return None
    if sizes.n_sources is None:
        raise UserError(
            f"latent_prediction: tokens of {getattr(tokenizer, 'kind', '')!r} have no fixed sources to predict from"
            " each other; set it to false, or choose the network nano-channels (µ-law tokens) or nano-samples"
        )
    return LatentPrediction(sizes.n_sources, sizes.n_levels, sizes.n_codes, sizes.n_dim)


def _loss(logits: Tensor, codes_STQ: Tensor) -> Tensor:
    """Return the mean cross-entropy of each level: (levels,)."""
    lost = nn.functional.cross_entropy(logits.flatten(0, 2), codes_STQ.flatten(), reduction="none")
    return lost.view(codes_STQ.shape).mean(dim=(0, 1))
