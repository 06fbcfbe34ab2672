"""Regions of the head and neighbourhoods of sensors, from their positions: no names, no parameters.

Shape letters: B batch, C channels, D features (here the three coordinates), K regions.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

DIRECTIONS = {
    "frontal": (0.0, 1.0, 0.1),
    "central": (0.0, 0.0, 1.0),
    "parietal": (0.0, -0.8, 0.6),
    "occipital": (0.0, -1.0, -0.4),
    "left temporal": (-1.0, 0.0, -0.3),
    "right temporal": (1.0, 0.0, -0.3),
}
"""Middle of each region as a direction from the middle of the sensors: right, front, up."""
N_REGIONS = len(DIRECTIONS)
SMALLEST_WIDTH = 1e-3
"""Smallest width of a kernel: sensors at one position do not divide by zero."""


class SensorLayout(NamedTuple):
    """Regions of sensors, and kernels over them."""

    member: Tensor
    """float32 (batch, regions, channels): 1 for the region of a channel, 0 elsewhere and for padded channels."""
    kernel: Tensor
    """float32 (batch, scales, channels, channels): weights with which a channel averages those of its region."""

    @property
    def is_present(self) -> Tensor:
        """Whether a region has channels: bool (batch, regions)."""
        return self.member.any(dim=-1)


def assign_regions(pos: Tensor) -> Tensor:
    """Return the region of each sensor: the one whose direction is nearest to that of the sensor.

    Parameters
    ----------
    pos : float, shape (batch, channels, 3 or more)
        Normalised positions (right, front, up) and what follows them, dimensionless.

    Returns
    -------
    int64, shape (batch, channels)
        Indices into `DIRECTIONS`.
    """
    middles_KD = F.normalize(torch.tensor(list(DIRECTIONS.values()), dtype=torch.float32, device=pos.device), dim=-1)
    found: Tensor = (F.normalize(pos[..., :3].float(), dim=-1) @ middles_KD.T).argmax(dim=-1)
    return found


def find_layout(pos: Tensor, widths: tuple[float, ...], channel_mask: Tensor | None = None) -> SensorLayout:
    """Compute regions and kernels of sensors.

    Within a region, the weight of a neighbour falls with its squared distance; the weights of a row sum to 1.

    Parameters
    ----------
    pos : float, shape (batch, channels, 3 or more)
        Normalised positions (right, front, up) and what follows them, dimensionless.
    widths : tuple of float
        Widths of the kernels, in units of the positions.
    channel_mask : bool, shape (batch, channels), optional
        True for real channels.
    """
    place = pos[..., :3].float()
    region_BC = assign_regions(pos)
    member_BCK = F.one_hot(region_BC, N_REGIONS).float()
    if channel_mask is not None:
        member_BCK = member_BCK * channel_mask[..., None]
    is_near = member_BCK @ member_BCK.transpose(1, 2)
    squares = (place[:, :, None] - place[:, None]).square().sum(dim=-1)
    scales = torch.tensor(widths, dtype=torch.float32, device=pos.device).clamp(min=SMALLEST_WIDTH)
    weights = torch.exp(-0.5 * squares[:, None] / scales[:, None, None].square()) * is_near[:, None]
    kernel = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return SensorLayout(member_BCK.transpose(1, 2), kernel)
