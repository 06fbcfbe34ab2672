"""Agreement of the tokens of two devices that recorded the same source activity at the same time.

Shape letters: B batch, C channels, N samples, S latent sources, T latent steps, Q quantizer levels.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.metrics import chance_agreement, code_agreement
from emeg.sensors import Sensors, positions_with_regions

if TYPE_CHECKING:
    from emeg.models import EncoderModule


class TokenAgreement(NamedTuple):
    """Share of equal codes of two devices, for each quantizer level."""

    devices: tuple[str, str]
    agreement: tuple[float, ...]
    """Share of equal codes."""
    shifted: tuple[float, ...]
    """The same with the windows of the second device in another order: what equal sources do not explain."""
    chance: tuple[float, ...]
    """Share of equal codes if both devices drew theirs independently."""
    latent_cosine: float
    """Mean cosine of the latents of both devices, before quantisation."""
    n_windows: int


class DeviceWindows(NamedTuple):
    """Windows of one device."""

    device: str
    signal_BCN: NDArray[np.float32]  # noqa: N815
    """V, T or T/m."""
    sensors: Sensors
    """Sensors of the channels."""


def token_agreement(network: "EncoderModule", first: DeviceWindows, second: DeviceWindows) -> TokenAgreement:
    """Tokenize the same stretches of time from two devices, and compare codes and latents.

    Parameters
    ----------
    network : EncoderModule
        Its tokenizer is used.
    first, second : DeviceWindows
        Row i of both holds the same stretch of time of the same subject.

    Raises
    ------
    UserError
        The numbers of windows or samples differ, or there are fewer than two windows.
    """
    shapes = [one.signal_BCN.shape[::2] for one in (first, second)]
    if shapes[0] != shapes[1] or shapes[0][0] < 2:
        raise UserError(
            f"devices {first.device} and {second.device}: {shapes[0]} and {shapes[1]} (windows, samples); pass"
            " windows of the same stretches of time, at least two"
        )
    codes, latents = zip(*(_tokens(network, one) for one in (first, second)), strict=True)
    n_codes = int(network.tokenizer.sizes.n_codes)
    cosine = np.sum(_unit(latents[0]) * _unit(latents[1]), axis=-1)
    return TokenAgreement(
        devices=(first.device, second.device),
        agreement=_values(code_agreement(codes[0], codes[1])),
        shifted=_values(code_agreement(codes[0], np.roll(codes[1], 1, axis=0))),
        chance=_values(chance_agreement(codes[0], codes[1], n_codes)),
        latent_cosine=float(cosine.mean()),
        n_windows=len(first.signal_BCN),
    )


def _tokens(network: "EncoderModule", windows: DeviceWindows) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return codes (windows, sources, steps, levels) and latents (windows, sources, steps, features)."""
    import torch

    from emeg.tokenizers.braintokenizer import normalise_signal

    n_windows = len(windows.signal_BCN)
    types = torch.from_numpy(windows.sensors.types.astype(np.int64)).expand(n_windows, -1)
    positions = torch.from_numpy(positions_with_regions(windows.sensors)).expand(n_windows, -1, -1)
    overlap = network.config.overlap_ratio
    with torch.inference_mode():
        x_BCN = normalise_signal(torch.from_numpy(np.ascontiguousarray(windows.signal_BCN)), types)
        tokens = network.tokenizer.tokenize(x_BCN, positions, types, overlap=overlap)
        latents = network.tokenizer.encode_latents(x_BCN, positions, types, overlap=overlap)
    return tokens.codes.cpu().numpy(), latents.cpu().double().numpy()


def _unit(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = latents - latents.mean(axis=(0, 2), keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-30))


def _values(array: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in array)
