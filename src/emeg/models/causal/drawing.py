"""Draw codes from logits, independently or correlated over channels.

Shape letters: B batch, C channels, N samples, K codes.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Draws(NamedTuple):
    """How the codes of a continuation are drawn."""

    generator: torch.Generator
    """Source of the draws, on the CPU."""
    temperature: float
    """Divides the logits; 0 takes the most likely code."""
    top_p: float
    """Codes are drawn from the most likely ones whose probabilities together reach this value."""
    mixing: Tensor | None = None
    """Output of `mixing`: draws of the channels of a sample are correlated; None: independent."""

    def draw(self, logits: Tensor) -> Tensor:
        """Draw a code from each row of logits: int64, shape (rows,).

        Parameters
        ----------
        logits : float, shape (rows, codes)
            Logits; with `mixing`, a row for each channel of each sample.
        """
        uniform = None if self.mixing is None else draw_uniform(self.mixing, self.generator).flatten().to(logits.device)
        return draw_codes(
            logits, generator=self.generator, temperature=self.temperature, top_p=self.top_p, uniform=uniform
        )


def draw_codes(
    logits_BK: Tensor,
    *,
    generator: torch.Generator,
    temperature: float,
    top_p: float,
    uniform: Tensor | None = None,
) -> Tensor:
    """Draw a code from each row of logits: int64, shape (batch,).

    Parameters
    ----------
    logits_BK : float, shape (batch, codes)
        Logits.
    generator : torch.Generator
        Source of the draws, on the CPU.
    temperature : float
        Divides the logits; 0 takes the most likely code.
    top_p : float
        Draw from the most likely codes whose probabilities together reach this value.
    uniform : float32, shape (batch,), optional
        Uniform random numbers. Each row takes the code at this quantile, in the order of the codes, and the generator
        is not used. For codes that are ordered by amplitude.
    """
    if temperature == 0:
        return logits_BK.argmax(dim=-1)
    all_shares = (logits_BK.float() / temperature).softmax(dim=-1)
    if uniform is not None and top_p == 1:  # all codes are kept, so that they need not be sorted
        return _at_quantile(all_shares, uniform)
    shares, codes = all_shares.sort(dim=-1, descending=True, stable=True)
    is_kept = shares.cumsum(dim=-1) - shares < top_p  # the first code is always kept
    if uniform is not None:
        return _at_quantile(torch.zeros_like(shares).scatter(1, codes, shares * is_kept), uniform)
    drawn = torch.multinomial((shares * is_kept).cpu(), 1, generator=generator).to(codes.device)
    return codes.gather(1, drawn)[:, 0]


def _at_quantile(shares_BK: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the code at a quantile of each row, in the order of the codes."""
    summed = shares_BK.cumsum(dim=-1)
    found: Tensor = torch.searchsorted(summed, uniform_B[:, None].to(summed) * summed[:, -1:])[:, 0]
    return found.clamp(max=summed.shape[1] - 1)


def mixing(innovations: Tensor) -> Tensor:
    """Return the matrix that gives independent normal numbers the correlations of innovations.

    Parameters
    ----------
    innovations : float32, shape (batch, channels, samples)
        Standardised differences of samples from their prediction, dimensionless.

    Returns
    -------
    float32, shape (batch, channels, channels)
        The square root of the correlation matrix; the identity for fewer than two samples.
    """
    if innovations.shape[-1] < 2:
        return torch.eye(innovations.shape[1]).expand(len(innovations), -1, -1)
    centred = innovations.double() - innovations.double().mean(dim=-1, keepdim=True)
    covariance = centred @ centred.transpose(1, 2)
    size = covariance.diagonal(dim1=1, dim2=2).clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    correlation = covariance / (size[:, :, None] * size[:, None, :])
    values, vectors = torch.linalg.eigh(correlation)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.transpose(1, 2)
    return root.float()


def draw_uniform(mixing_BCC: Tensor, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers that are correlated over channels: a normal copula. Shape (batch, channels).

    Parameters
    ----------
    mixing_BCC : float32, shape (batch, channels, channels)
        Output of `mixing`, dimensionless.
    generator : torch.Generator
        Source of the draws, on the CPU.
    """
    normal = torch.randn(mixing_BCC.shape[:2], generator=generator)
    mixed = (mixing_BCC.cpu() @ normal[..., None])[..., 0]
    uniform: Tensor = torch.special.ndtr(mixed)
    return uniform
