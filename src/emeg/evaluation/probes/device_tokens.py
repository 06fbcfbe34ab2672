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


AT_ONCE = 16
"""Windows tokenized at once."""


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


class Tokens(NamedTuple):
    """Tokens of some windows of one device."""

    device: str
    codes: NDArray[np.int64]
    """Shape (windows, latent sources, latent steps, quantizer levels)."""
    latents: NDArray[np.float64]
    """Before quantisation, shape (windows, latent sources, latent steps, features)."""

    def take(self, rows: NDArray[np.intp]) -> "Tokens":
        """Return some of the windows.

        Parameters
        ----------
        rows : intp, shape (windows,)
            Indices of windows.
        """
        return Tokens(self.device, self.codes[rows], self.latents[rows])


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
    n_codes = int(network.tokenizer.sizes.n_codes)
    return compare_tokens(tokens_of(network, first), tokens_of(network, second), n_codes)


def compare_tokens(first: Tokens, second: Tokens, n_codes: int) -> TokenAgreement:
    """Compare the tokens of two devices; row i of both is the same stretch of time of the same subject.

    Parameters
    ----------
    first, second : Tokens
    n_codes : int
        Size of a codebook.
    """
    cosine = np.sum(_unit(first.latents) * _unit(second.latents), axis=-1)
    return TokenAgreement(
        devices=(first.device, second.device),
        agreement=_values(code_agreement(first.codes, second.codes)),
        shifted=_values(code_agreement(first.codes, np.roll(second.codes, 1, axis=0))),
        chance=_values(chance_agreement(first.codes, second.codes, n_codes)),
        latent_cosine=float(cosine.mean()),
        n_windows=len(first.codes),
    )


def tokens_of(network: "EncoderModule", windows: DeviceWindows) -> Tokens:
    """Tokenize windows of one device.

    Parameters
    ----------
    network : EncoderModule
        Its tokenizer is used.
    windows : DeviceWindows
    """
    import torch

    from emeg.tokenizers.braintokenizer import normalise_signal

    device = next(network.parameters()).device
    kinds = torch.from_numpy(windows.sensors.types.astype(np.int64)).to(device)
    where = torch.from_numpy(positions_with_regions(windows.sensors)).to(device)
    overlap = network.config.overlap_ratio
    codes, latents = [], []
    with torch.inference_mode():
        for start in range(0, len(windows.signal_BCN), AT_ONCE):
            part = np.ascontiguousarray(windows.signal_BCN[start : start + AT_ONCE])
            types, positions = kinds.expand(len(part), -1), where.expand(len(part), -1, -1)
            x_BCN = normalise_signal(torch.from_numpy(part).to(device), types)
            codes.append(network.tokenizer.tokenize(x_BCN, positions, types, overlap=overlap).codes.cpu().numpy())
            encoded = network.tokenizer.encode_latents(x_BCN, positions, types, overlap=overlap)
            latents.append(encoded.cpu().double().numpy())
    return Tokens(windows.device, np.concatenate(codes), np.concatenate(latents))


def _unit(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = latents - latents.mean(axis=(0, 2), keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-30))


def _values(array: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in array)
