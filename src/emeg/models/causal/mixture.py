"""Probabilities of codes under normal distributions, and a mixture of two with a heavy tail.

Shape letters: N samples, K codes.
"""

import torch
from torch import Tensor, nn

START = (0.8, 2.5, 0.1)
"""Narrow and wide standard deviation and weight of the wide one, before the first step of the fit."""
FIT_STEPS = 60
"""Steps of expectation and maximisation; after 60 the values no longer change by .01."""
MOST_INNOVATIONS = 400_000
"""Innovations that are used for the fit, which limits time."""


def interval_shares(edges_K: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the probability of every code's interval under a normal distribution: float, shape (..., codes).

    Parameters
    ----------
    edges_K : float32, shape (codes + 1,)
        Edges of the codes' intervals, in the scale of `normalise_signal`, dimensionless.
    location, scale : float, shape (...)
        Mean and standard deviation in the same scale, dimensionless.
    """
    z = (edges_K - location[..., None]) / scale[..., None]
    low, high = z[..., :-1], z[..., 1:]
    # the tail is computed on the side where it is small, so that no digits are lost
    is_right = low > 0
    low, high = torch.where(is_right, -high, low), torch.where(is_right, -low, high)
    found: Tensor = torch.special.ndtr(high) - torch.special.ndtr(low)
    return found


class NormalMixture(nn.Module):
    """A narrow and a wide normal distribution with the same mean, whose widths are multiples of a given scale."""

    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(START))

    @torch.no_grad()
    def fit(self, innovations_N: Tensor) -> None:
        """Fit both widths and the weight of the wide distribution by maximum likelihood.

        Parameters
        ----------
        innovations_N : float, shape (samples,)
            Differences of samples from their prediction, divided by the scale of the prediction, dimensionless.
        """
        step = max(1, len(innovations_N) // MOST_INNOVATIONS)
        squares = innovations_N[::step].double().square()
        narrow, wide, weight = (torch.tensor(value, dtype=torch.float64) for value in START)
        for _ in range(FIT_STEPS):
            # densities without the common factor
            thin = (1 - weight) / narrow * torch.exp(-squares / (2 * narrow**2))
            thick = weight / wide * torch.exp(-squares / (2 * wide**2))
            belongs = thick / (thin + thick)
            weight = belongs.mean().clamp(1e-4, 0.5)
            wide = ((belongs * squares).sum() / belongs.sum()).sqrt()
            narrow = (((1 - belongs) * squares).sum() / (1 - belongs).sum()).sqrt()
        self.values.copy_(torch.stack([narrow, wide, weight]))

    def shares(self, edges_K: Tensor, location: Tensor, scale: Tensor, change: Tensor | None = None) -> Tensor:
        """Return the probability of every code's interval: float, shape (..., codes).

        Parameters
        ----------
        edges_K : float32, shape (codes + 1,)
            Edges of the codes' intervals, in the scale of `normalise_signal`, dimensionless.
        location, scale : float, shape (...)
            Mean, and the scale whose multiples the widths are, dimensionless.
        change : float, shape (..., 2), optional
            Added to the log odds of the wide distribution and to the logarithm of its width, dimensionless.
        """
        narrow, wide, weight = self.values.unbind()
        if change is not None:
            wide = wide * change[..., 1].exp()
            weight = torch.sigmoid(torch.logit(weight) + change[..., 0])[..., None]
        thin = interval_shares(edges_K, location, scale * narrow)
        thick = interval_shares(edges_K, location, scale * wide)
        return (1 - weight) * thin + weight * thick
