"""Checks of the arguments of the networks' methods.

Shape letters: B batch, C channels.
"""

import torch
from torch import Tensor

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer.config import N_TYPES
from emeg.tokenizers.braintokenizer.layers import N_POSITION


def values_at_hand(device: torch.device) -> bool:
    """Return whether values can be read without synchronising a device, which training never does within a step."""
    return device.type == "cpu"


def check_input(
    x: Tensor,
    pos: Tensor,
    sensor_type: Tensor,
    channel_mask: Tensor | None,
    *,
    values: bool = True,
    n_types: int = N_TYPES,
    needs_regions: bool = False,
) -> None:
    """Raise where shapes, types or values cannot be used.

    Parameters
    ----------
    x : float, shape (batch, channels, samples)
        Normalised signal, dimensionless.
    pos : float, shape (batch, channels, 6) or (batch, channels, 7)
        Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
    sensor_type : int, shape (batch, channels)
        Codes of `SensorType`.
    channel_mask : bool, shape (batch, channels), optional
        True for real channels.
    values : bool
        Whether to check the values too, which synchronises the device.
    n_types : int
        Sensor types that the network knows.
    needs_regions : bool
        Whether the network needs the seventh column.

    Raises
    ------
    UserError
        Names the argument, what was expected and what was given.
    """
    if x.ndim != 3 or 0 in x.shape:
        raise UserError(f"x: shape {tuple(x.shape)}; pass (batch, channel, sample), none of them 0")
    batch, channels, _ = x.shape
    if needs_regions and pos.ndim == 3 and pos.shape[-1] == N_POSITION:
        raise UserError(
            "pos: 6 columns, but this tokenizer uses brain regions; pass `positions_with_regions` of sensors"
        )
    _expect(
        "pos", pos[..., :N_POSITION] if pos.ndim == 3 and pos.shape[-1] == N_POSITION + 1 else pos, (batch, channels, 6)
    )
    _expect("sensor_type", sensor_type, (batch, channels))
    for name, tensor in (("x", x), ("pos", pos)):
        if not tensor.is_floating_point():
            raise UserError(f"{name}: is {tensor.dtype}; pass floating point")
    if sensor_type.is_floating_point() or sensor_type.dtype == torch.bool:
        raise UserError(f"sensor_type: is {sensor_type.dtype}; pass whole numbers")
    real_BC = torch.ones_like(sensor_type, dtype=torch.bool)
    if channel_mask is not None:
        _expect("channel_mask", channel_mask, (batch, channels))
        if channel_mask.dtype != torch.bool:
            raise UserError(f"channel_mask: is {channel_mask.dtype}; pass bool, True for real channels")
        real_BC = channel_mask
    if values:
        _check_values(x, pos, sensor_type, real_BC, n_types)


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise UserError(f"{name}: shape {tuple(tensor.shape)}; pass {shape} to fit x")


def _check_values(x: Tensor, pos: Tensor, sensor_type: Tensor, real_BC: Tensor, n_types: int) -> None:
    allowed = "0 (EEG), 1 (magnetometer) and 2 (gradiometer) only"
    if n_types == N_TYPES:
        allowed = "0 (EEG), 1 (magnetometer), 2 (gradiometer), 3 (SEEG), 4 (ECOG) and 5 (DBS) only"
    faults = {
        "channel_mask: a sample has no real channel; leave it out": ~real_BC.any(dim=1),
        f"sensor_type: use {allowed}": ((sensor_type < 0) | (sensor_type >= n_types)) & real_BC,
        "x: NaN or infinite; repair or exclude these stretches": ~x.isfinite().all(dim=-1) & real_BC,
        "pos: NaN or infinite; exclude channels without a position": ~pos.isfinite().all(dim=-1) & real_BC,
    }
    # One synchronisation of the device for all checks.
    found = torch.stack([fault.any() for fault in faults.values()]).tolist()
    for (message, fault), is_there in zip(faults.items(), found, strict=True):
        if is_there:
            index = fault.nonzero()[0].tolist()
            where = ", ".join(f"{what} {i}" for what, i in zip(("sample", "channel"), index, strict=False))
            raise UserError(f"{where}: {message}")
