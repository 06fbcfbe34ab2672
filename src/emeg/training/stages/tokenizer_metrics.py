"""Metrics of validation: reconstruction for each device and channel count, use of codes, similarity of latents.

Shape letters: B batch, C channels, W windows, L samples in a window, S latent sources, T latent steps, D features,
Q quantizer levels, K codes of a codebook.

Only sums are kept, so that ranks can add theirs and every segment counts once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emeg import metrics
from emeg.tokenizers.braintokenizer import pcc
from emeg.tokenizers.braintokenizer.quantization.kmeans import FIXED_POINT, count_codes

MIN_PCC = 0.4
"""Correlation on unseen subjects below which a tokenizer that has passed its ramp has not left the plateau."""
MIN_CODE_SHARE = 200 / 256
"""Share of a codebook in use below which it has collapsed."""
MAX_LATENT_COSINE = 0.8
"""Mean cosine of latents above which they are all the same."""


class Group(NamedTuple):
    """Segments whose reconstruction is averaged together."""

    device: str
    n_channels: int

    def __str__(self) -> str:
        return f"{self.device}/{self.n_channels}"


class ReconstructionMetrics:
    """Sums over the segments seen since the last `reset`.

    Parameters
    ----------
    groups : sequence of Group
        Every group that may occur, in an order that all ranks share.
    n_quantizers, n_codes, n_dim : int
        Sizes of the quantiser.
    """

    def __init__(self, groups: Sequence[Group], *, n_quantizers: int, n_codes: int, n_dim: int) -> None:
        self.groups = tuple(groups)
        self._index = {group: i for i, group in enumerate(self.groups)}
        self._shape = (n_quantizers, n_codes)
        self._n_dim = n_dim
        self.reset()

    def reset(self) -> None:
        """Reset all sums."""
        self._pcc = torch.zeros(len(self.groups), 2, dtype=torch.float64)
        self._used_QK = torch.zeros(*self._shape, dtype=torch.float64)
        self._latents_D = torch.zeros(self._n_dim, dtype=torch.float64)
        self._outer_DD = torch.zeros(self._n_dim, self._n_dim, dtype=torch.float64)
        self._n_latents = 0.0

    def add(
        self,
        groups: Sequence[Group],
        reconstruction_BCWL: Tensor,
        target_BCWL: Tensor,
        codes_BSTQ: Tensor,
        latents_BSTD: Tensor,
        channel_mask_BC: Tensor | None,
    ) -> None:
        """Add one batch to the sums.

        Parameters
        ----------
        groups : sequence of Group
            Group of every sample.
        reconstruction_BCWL, target_BCWL : float32, shape (batch, channels, windows, samples)
            Standardised, dimensionless.
        codes_BSTQ : int64, shape (batch, sources, steps, levels)
            Codes.
        latents_BSTD : float, shape (batch, sources, steps, features)
            Dimensionless features.
        channel_mask_BC : bool, shape (batch, channels), optional
            True for real channels.
        """
        pcc_BC = pcc(reconstruction_BCWL, target_BCWL).mean(dim=-1)
        mask_BC = torch.ones_like(pcc_BC) if channel_mask_BC is None else channel_mask_BC.to(pcc_BC)
        sums_B2 = torch.stack([(pcc_BC * mask_BC).sum(dim=1), mask_BC.sum(dim=1)], dim=1).double().cpu()
        index_B = torch.tensor([self._index[group] for group in groups])
        self._pcc.index_add_(0, index_B, sums_B2)
        n_quantizers, n_codes = self._shape
        by_level = [count_codes(codes_B, n_codes) for codes_B in codes_BSTQ.reshape(-1, n_quantizers).T]
        self._used_QK += torch.stack(by_level).cpu().double()
        unit_BD = torch.nn.functional.normalize(latents_BSTD.float().reshape(-1, self._n_dim), dim=-1)
        self._latents_D += unit_BD.sum(dim=0).double().cpu()
        self._outer_DD += (unit_BD.T @ unit_BD).double().cpu()
        self._n_latents += len(unit_BD)

    def pool(self, add_up: Callable[[Tensor], Tensor]) -> None:
        """Add the sums of all ranks."""
        self._pcc = add_up(self._pcc)
        self._used_QK = add_up(self._used_QK)
        self._latents_D = add_up(self._latents_D)
        self._outer_DD = add_up(self._outer_DD)
        self._n_latents = float(add_up(torch.tensor(self._n_latents, dtype=torch.float64)))

    def metrics(self) -> dict[str, float]:
        """Return correlations, the use of the codes, and the similarity of the latents.

        ``pcc`` weights every device and channel count equally; ``pcc/<device>/<channels>`` is that of one group.
        ``codes/<k>`` and ``perplexity/<k>`` describe level k, ``latent_cosine`` (mean over all pairs) and
        ``effective_rank`` the latents.
        """
        seen = [(str(group), *row) for group, row in zip(self.groups, self._pcc.tolist(), strict=True) if row[1] > 0]
        means = {metrics.group_pcc(name): total / count for name, total, count in seen}
        values = {metrics.PCC: sum(means.values()) / max(1, len(means)), **means}
        values |= code_metrics(self._used_QK)
        values[metrics.LATENT_COSINE] = mean_cosine(self._latents_D, self._n_latents)
        values[metrics.EFFECTIVE_RANK] = rank_from_sums(self._latents_D, self._outer_DD, self._n_latents)
        return values


def code_metrics(used_QK: Tensor) -> dict[str, float]:
    """Return ``codes/<k>``, the number of codes in use, and ``perplexity/<k>`` of each level.

    Parameters
    ----------
    used_QK : float64, shape (levels, codes)
        How often each code was used.
    """
    values = {}
    for k, used_K in enumerate(used_QK):
        values[metrics.codes_in_use(k)] = float((used_K > 0).sum())
        values[metrics.perplexity_of(k)] = metrics.perplexity(used_K.numpy())
    return values


def mean_cosine(sum_D: Tensor, n: float) -> float:
    """Return the mean cosine of all pairs of `n` vectors of length 1.

    Parameters
    ----------
    sum_D : float64, shape (features,)
        Sum of the vectors, dimensionless.
    n : float
        Number of vectors.
    """
    return (float(sum_D.square().sum()) - n) / max(1.0, n * (n - 1))


def rank_from_sums(sum_D: Tensor, outer_DD: Tensor, n: float) -> float:
    """Return `emeg.metrics.effective_rank` of `n` vectors from their sums.

    Parameters
    ----------
    sum_D : float64, shape (features,)
        Sum of the vectors, dimensionless.
    outer_DD : float64, shape (features, features)
        Sum of their outer products with themselves, dimensionless.
    n : float
        Number of vectors.
    """
    scatter_DD = outer_DD - torch.outer(sum_D, sum_D) / max(n, 1.0)
    return metrics.perplexity(torch.linalg.eigvalsh(scatter_DD).clamp(min=0.0).sqrt().numpy())


def collapse_metrics(watched: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the use of codes and the similarity of latents in training batches.

    ``codes/<k>``, ``perplexity/<k>``, ``dead/<k>`` (codes replaced because they had died out), ``latent_cosine``.

    Parameters
    ----------
    watched : mapping of float or int tensors, shapes as `ResidualQuantizer.watched` returns
        Counts of codes, and sums of latents as features in fixed point.
    """
    if not watched:
        return {}
    sums = watched["latents"].double().cpu()
    dead = {metrics.dead_codes(k): float(n) for k, n in enumerate(watched["replaced"].tolist())}
    return {
        **code_metrics(watched["used"].double().cpu()),
        **dead,
        metrics.LATENT_COSINE: mean_cosine(sums[:-1] / FIXED_POINT, float(sums[-1])),
    }


def plateau(found: dict[str, float], *, n_codes: int) -> str | None:
    """Describe why a tokenizer has not learned although its ramp is over; `None` if it has learned."""
    missing = []
    if found[metrics.PCC] < MIN_PCC:
        missing.append(f"correlation {found[metrics.PCC]:.3f} is below {MIN_PCC}")
    used = {k: v for k, v in found.items() if metrics.is_codes_in_use(k) and v < MIN_CODE_SHARE * n_codes}
    missing += [f"quantizer {metrics.level_of(k)} uses {v:.0f} of {n_codes} codes" for k, v in used.items()]
    if found[metrics.LATENT_COSINE] > MAX_LATENT_COSINE:
        missing.append(f"latents are alike (mean cosine {found[metrics.LATENT_COSINE]:.2f})")
    return "; ".join(missing) or None
