"""What every quantizer of a BrainTokenizer has: codes of latents, features of codes, and statistics of a training.

Shape letters: B batch (one latent a row), D features, Q quantizer levels, K codes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer.losses import at_least_float32
from emeg.tokenizers.braintokenizer.quantization.kmeans import fixed_point


class Quantized(NamedTuple):
    """Quantized latents of shape (…, D)."""

    features: Tensor
    """float32 (…, D): features of the codes. In training they carry the gradient of the latents."""
    codes: Tensor
    """int64 (…, Q)."""
    commitment: Tensor
    """float32 scalar: loss that keeps latents near their code vectors; 0 if there are none."""


class Quantizer(nn.Module, ABC):
    """Turns latents, which it scales to length 1, into whole numbers and back."""

    @property
    @abstractmethod
    def exchanged_numbers(self) -> int:
        """Numbers of 8 bytes that ranks exchange in a step."""

    @abstractmethod
    def encode(self, latents: Tensor) -> Tensor:
        """Return the codes of latents, computed in float32.

        Parameters
        ----------
        latents : float, shape (..., n_dim)
            Dimensionless features.

        Returns
        -------
        int64, shape (..., levels)
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return the features of codes.

        Parameters
        ----------
        codes : int, shape (..., levels)
            Codes.

        Returns
        -------
        float32, shape (..., n_dim)
        """

    @abstractmethod
    def forward(self, latents: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Quantize latents. In training mode, collect statistics of codes and latents.

        Parameters
        ----------
        latents : float, shape (..., n_dim)
            Dimensionless features.
        generator : torch.Generator, optional
            Source of the draws.
        """

    @abstractmethod
    def follow(self) -> None:
        """Finish a step: sum the statistics over all ranks, and update what is computed from them."""

    @abstractmethod
    def watched(self) -> dict[str, Tensor]:
        """Return codebook usage and latent statistics since the last call of `watch_on`.

        Returns
        -------
        dict
            ``used``, shape (levels, codes): latents of each code, over all ranks. ``replaced``, shape (levels,): codes
            replaced, over all ranks. ``latents``, int64, shape (features + 1,): fixed-point sum of the normalised
            latents of this rank, and their number. Empty before the first call of `follow`.
        """

    @abstractmethod
    def watch_on(self, watched: Mapping[str, Tensor]) -> None:
        """Restore the statistics that `watched` returned, or reset them.

        Parameters
        ----------
        watched : mapping of int or float tensors, shape as `watched` returns
            Counts of latents and codes. Empty: reset the statistics.
        """


def normalise_latents(latents: Tensor) -> Tensor:
    """Scale latents to length 1, in float32.

    Parameters
    ----------
    latents : float, shape (..., features)
        Dimensionless features.
    """
    return F.normalize(at_least_float32(latents), dim=-1)


@torch.no_grad()
def sum_latents(latents: Tensor, before: Tensor | None) -> Tensor:
    """Add normalised latents and their number to an earlier sum.

    Parameters
    ----------
    latents : float, shape (..., features)
        Dimensionless features.
    before : int64, shape (features + 1,), optional
        Earlier sum, features in fixed point.

    Returns
    -------
    int64, shape (features + 1,)
    """
    whole_BD = fixed_point(normalise_latents(latents.detach()).flatten(0, -2))
    summed = torch.cat([whole_BD.sum(dim=0), whole_BD.new_full((1,), len(whole_BD))])
    return summed if before is None else before + summed
