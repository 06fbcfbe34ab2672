"""Normalise volts and teslas to the scale that the networks read.

Shape letters: B batch, C channels, N samples.
"""

import torch
from torch import Tensor

from emeg.tokenizers.braintokenizer.checks import values_at_hand

FLOORS = (1e-5, 1e-13, 1e-13)
"""Added to the standard deviation by sensor type: EEG in V, magnetometers in T, gradiometers in T/m. The floor
halves EEG of 10 µV; the published weights were trained with it (arXiv 2505.18185, released code)."""

INTRACRANIAL_FLOORS = (1e-5, 1e-5, 1e-5)
"""The same for SEEG, ECOG and DBS, V."""


def normalise_signal(
    x_BCN: Tensor, sensor_type_BC: Tensor, channel_mask: Tensor | None = None, *, intracranial: bool | None = None
) -> Tensor:
    """Normalise the reference and the scale of a segment, separately for each sensor type.

    Subtract the mean over the channels of a type at every sample (for EEG this is the average reference). Then divide
    by one standard deviation over all channels and samples of the type, plus a floor. Channels keep their relative
    amplitudes. Intracranial electrodes keep their reference, because the mean of a few contacts in different tissue is
    no reference: the mean of each channel over time is subtracted instead.

    Parameters
    ----------
    x_BCN : float, shape (batch, channels, samples)
        Electrodes in V, magnetometers in T, gradiometers in T/m.
    sensor_type_BC : int, shape (batch, channels)
        Codes of `SensorType`.
    channel_mask : bool, shape (batch, channels), optional
        True for real channels; the result is 0 in the others.
    intracranial : bool, optional
        Whether there can be SEEG, ECOG or DBS. By default the types tell on the CPU, and other devices, where reading
        them would wait, compute for these types too.

    Returns
    -------
    float32, shape (batch, channels, samples)
        A new tensor on the device of `x_BCN`, dimensionless.
    """
    x_BCN = x_BCN.float()
    out_BCN = torch.zeros_like(x_BCN)
    for code, floor in enumerate(FLOORS):
        of_type_BC = sensor_type_BC == code
        if channel_mask is not None:
            of_type_BC = of_type_BC & channel_mask
        out_BCN = torch.where(of_type_BC[..., None], _normalise_type(x_BCN, of_type_BC, floor), out_BCN)
    if intracranial is None:
        intracranial = not values_at_hand(x_BCN.device) or bool((sensor_type_BC >= len(FLOORS)).any())
    if intracranial:
        out_BCN = _normalise_intracranial(x_BCN, sensor_type_BC, channel_mask, out_BCN)
    return out_BCN


def _normalise_intracranial(
    x_BCN: Tensor, sensor_type_BC: Tensor, channel_mask: Tensor | None, out_BCN: Tensor
) -> Tensor:
    n_samples = x_BCN.shape[-1]
    for code, floor in enumerate(INTRACRANIAL_FLOORS, start=len(FLOORS)):
        of_type_BC = sensor_type_BC == code
        if channel_mask is not None:
            of_type_BC = of_type_BC & channel_mask
        own_BCN = ((x_BCN - x_BCN.mean(dim=-1, keepdim=True)) / floor).masked_fill(~of_type_BC[..., None], 0.0)
        n_B = of_type_BC.sum(dim=1).clamp(min=1)[:, None, None]
        std_B = (own_BCN.square().sum(dim=(1, 2), keepdim=True) / (n_B * n_samples)).sqrt()
        out_BCN = torch.where(of_type_BC[..., None], own_BCN / (std_B + 1.0), out_BCN)
    return out_BCN


def _normalise_type(x_BCN: Tensor, of_type_BC: Tensor, floor: float) -> Tensor:
    n_B = of_type_BC.sum(dim=1).clamp(min=1)[:, None, None]
    own_BCN = x_BCN.masked_fill(~of_type_BC[..., None], 0.0)
    # In units of the floor: the squares of teslas leave too little room above the smallest float32.
    centred_BCN = (own_BCN - own_BCN.sum(dim=1, keepdim=True) / n_B) / floor
    centred_BCN = centred_BCN.masked_fill(~of_type_BC[..., None], 0.0)
    n_samples = x_BCN.shape[-1]
    mean_B = centred_BCN.sum(dim=(1, 2), keepdim=True) / (n_B * n_samples)
    squares_BCN = (centred_BCN - mean_B).masked_fill(~of_type_BC[..., None], 0.0).square()
    std_B = (squares_BCN.sum(dim=(1, 2), keepdim=True) / (n_B * n_samples)).sqrt()
    return centred_BCN / (std_B + 1.0)
