"""Functions of a sensor that a leadfield is made of: spherical harmonics of its direction, times its orientation.

Shape letters: B batch, C channels.
"""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_TYPES = 3
N_LEVERS = 4
"""1 and the three components of the orientation: the output of a coil is linear in its orientation."""


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

        Parameters
        ----------
        pos : float, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        sensor_type_BC : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.

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
        lever = torch.cat([torch.ones_like(pos[..., :1]), pos[..., 3:]], dim=-1)
        by_type = F.one_hot(sensor_type_BC, N_TYPES).to(pos.dtype)
        return torch.einsum("bch,bcl,bct->bcthl", harmonics, lever, by_type).flatten(2)


def _mean_on_sphere(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Return the mean over the unit sphere of the product of two monomials."""
    powers = [a + b for a, b in zip(one, other, strict=True)]
    if any(power % 2 for power in powers):
        return 0.0
    return prod(_double_factorial(power - 1) for power in powers) / _double_factorial(sum(powers) + 1)


def _double_factorial(n: int) -> int:
    return prod(range(n, 0, -2))
