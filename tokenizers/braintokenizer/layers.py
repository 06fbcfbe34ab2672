"""Small layers that both networks use.

Shape letters: B batch, C channels, D features.
"""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.tokenizers.braintokenizer.draws import dropout

NORM_EPS = 1e-6
N_TYPES = 3
"""Sensor types outside the head: EEG, magnetometers, gradiometers."""
N_LEVERS = 4
"""1 and the three components of the orientation: the output of a coil is linear in its orientation."""
N_POSITION = 6
"""Columns of a position: x, y, z and the orientation. A seventh column is the index of the brain region."""


class FeedForward(nn.Module):
    """Linear to four times the width, SELU, linear back, dropout."""

    def __init__(self, n_dim: int, dropout_p: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(n_dim, 4 * n_dim), nn.SELU(), nn.Linear(4 * n_dim, n_dim))
        self.dropout_p = dropout_p

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Apply the two layers to every feature vector.

        Parameters
        ----------
        x : float, shape (..., n_dim)
            Dimensionless features.
        generator : torch.Generator, optional
            Source of the dropout draws; PyTorch's default generator if omitted.

        Returns
        -------
        float, shape (..., n_dim)
        """
        return dropout(self.layer(x), self.dropout_p, training=self.training, generator=generator)


class RMSNorm(nn.RMSNorm):
    """RMS norm in the precision of its input, whose mean square is computed in float32.

    Autocast on CUDA would convert a bf16 input to float32, and the next layer the result back. The weight is converted
    to the input's precision, because PyTorch's fused kernel needs equal ones (decision 0080).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every feature vector.

        Parameters
        ----------
        x : float, shape (..., n_dim)
            Dimensionless features.

        Returns
        -------
        float, shape (..., n_dim)
        """
        if x.is_meta:  # the meta device has no autocast
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SensorEmbedding(nn.Module):
    """Embed each sensor by its position, orientation and type, and by its brain region where `n_regions` is not 0."""

    def __init__(self, n_dim: int, dropout_p: float, *, n_types: int = 3, n_regions: int = 0) -> None:
        super().__init__()
        self.sensor_embedding_layer = nn.Embedding(n_types, n_dim)
        self.pos_embedding_layer = nn.Sequential(nn.Linear(6, n_dim // 2), nn.SELU(), nn.Linear(n_dim // 2, n_dim))
        self.aggregate_mlp = FeedForward(n_dim, dropout_p)
        self.norm = RMSNorm(n_dim, eps=NORM_EPS)
        # An unknown region is the zero vector: such a sensor has its position alone.
        self.region_embedding_layer = nn.Embedding(n_regions, n_dim, padding_idx=0) if n_regions else None

    def forward(self, pos: Tensor, sensor_type_BC: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Embed sensors.

        Parameters
        ----------
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type_BC : int, shape (batch, channels)
            Codes of `SensorType`.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, channels, n_dim)
        """
        where = pos if pos.shape[-1] == N_POSITION else pos[..., :N_POSITION].contiguous()
        x_BCD = self.pos_embedding_layer(where) + self.sensor_embedding_layer(sensor_type_BC)
        if self.region_embedding_layer is not None:
            x_BCD = x_BCD + self.region_embedding_layer(pos[..., N_POSITION].long())
        out: Tensor = self.norm(x_BCD + self.aggregate_mlp(x_BCD, generator))
        return out


def n_sensor_functions(degree: int) -> int:
    """Count the functions of `SensorHarmonics`."""
    return N_TYPES * N_LEVERS * (degree + 1) ** 2


class SensorHarmonics(nn.Module):
    """Compute fixed functions of sensors: (harmonics up to a degree) × (1, orientation) × (sensor type)."""

    exponents: Tensor
    mixing: Tensor

    def __init__(self, degree: int) -> None:
        super().__init__()
        # On the sphere, monomials of two successive degrees span all harmonics up to the higher one.
        exponents = [
            (a, b, total - a - b)
            for total in (degree, degree - 1)
            for a in range(total + 1)
            for b in range(total - a + 1)
        ]
        gram = torch.tensor([[_mean_on_sphere(one, other) for other in exponents] for one in exponents])
        values, vectors = torch.linalg.eigh(gram.double())
        mixing = (vectors / values.sqrt()) @ vectors.T
        self.degree = degree
        self.register_buffer("exponents", torch.tensor(exponents), persistent=False)
        self.register_buffer("mixing", mixing.float(), persistent=False)

    def forward(self, pos: Tensor, sensor_type_BC: Tensor) -> Tensor:
        """Compute the functions; each has a mean square of at most 1 over the sphere.

        They are 0 for intracranial electrodes, whose depth is as important as their direction.

        Parameters
        ----------
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type_BC : int, shape (batch, channels)
            Codes of `SensorType`.

        Returns
        -------
        float, shape (batch, channels, n_sensor_functions(degree))
        """
        direction = F.normalize(pos[..., :3], dim=-1)
        powers = [torch.ones_like(direction)]
        for _ in range(self.degree):
            powers.append(powers[-1] * direction)
        stacked = torch.stack(powers, dim=-2)  # batch, channels, power, axis
        monomials = torch.ones_like(stacked[..., 0, :1])
        for axis in range(3):
            monomials = monomials * stacked[..., self.exponents[:, axis], axis]
        harmonics = monomials @ self.mixing.to(pos.dtype)
        lever = torch.cat([torch.ones_like(pos[..., :1]), pos[..., 3:N_POSITION]], dim=-1)
        by_type = F.one_hot(sensor_type_BC.clamp(max=N_TYPES), N_TYPES + 1)[..., :N_TYPES].to(pos.dtype)
        return torch.einsum("bch,bcl,bct->bcthl", harmonics, lever, by_type).flatten(2)


def _mean_on_sphere(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Return the mean over the unit sphere of the product of two monomials."""
    powers = [a + b for a, b in zip(one, other, strict=True)]
    if any(power % 2 for power in powers):
        return 0.0
    return prod(_double_factorial(power - 1) for power in powers) / _double_factorial(sum(powers) + 1)


def _double_factorial(n: int) -> int:
    return prod(range(n, 0, -2))
