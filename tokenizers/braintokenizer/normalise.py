"""From volts and teslas to what the networks read."""

import torch
from torch import Tensor

FLOORS = (1e-5, 1e-13, 1e-13)
"""Added to the standard deviation by sensor type: EEG in V, magnetometers in T, gradiometers in T/m. EEG of 10 µV is
halved by it; the published weights were trained so (arXiv 2505.18185, released code)."""


def normalise_signal(x_BCT: Tensor, sensor_type_BC: Tensor, channel_mask: Tensor | None = None) -> Tensor:
    """Bring a segment to one reference and scale, each sensor type by itself.

    At every sample the mean over a type's channels is taken away (for EEG: the average reference); then all are
    divided by one standard deviation over the type's channels and samples, plus a floor. Channels keep their
    relative sizes.

    Parameters
    ----------
    x_BCT : float, shape (batch, channel, sample)
        V, T or T/m.
    sensor_type_BC : int, shape (batch, channel)
        0 EEG, 1 magnetometer, 2 gradiometer.
    channel_mask : bool, shape (batch, channel), optional
        True for real channels; the others come back as 0.

    Returns
    -------
    float32, shape (batch, channel, sample)
        On the device of `x_BCT`; a new tensor.
    """
    x_BCT = x_BCT.float()
    out_BCT = torch.zeros_like(x_BCT)
    for code, floor in enumerate(FLOORS):
        of_type_BC = sensor_type_BC == code
        if channel_mask is not None:
            of_type_BC = of_type_BC & channel_mask
        out_BCT = torch.where(of_type_BC[..., None], _normalise_type(x_BCT, of_type_BC, floor), out_BCT)
    return out_BCT


def _normalise_type(x_BCT: Tensor, of_type_BC: Tensor, floor: float) -> Tensor:
    n_B = of_type_BC.sum(dim=1).clamp(min=1)[:, None, None]
    own_BCT = x_BCT.masked_fill(~of_type_BC[..., None], 0.0)
    # In units of the floor: the squares of teslas leave too little room above the smallest float32.
    centred_BCT = (own_BCT - own_BCT.sum(dim=1, keepdim=True) / n_B) / floor
    centred_BCT = centred_BCT.masked_fill(~of_type_BC[..., None], 0.0)
    n_samples = x_BCT.shape[-1]
    mean_B = centred_BCT.sum(dim=(1, 2), keepdim=True) / (n_B * n_samples)
    squares_BCT = (centred_BCT - mean_B).masked_fill(~of_type_BC[..., None], 0.0).square()
    std_B = (squares_BCT.sum(dim=(1, 2), keepdim=True) / (n_B * n_samples)).sqrt()
    return centred_BCT / (std_B + 1.0)
