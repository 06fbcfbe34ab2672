"""Cut a signal into windows.

Shape letters: B batch, C channels, N samples, W windows, L samples in a window.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from emeg.errors import UserError


def stride_of(window_length: int, overlap: float) -> int:
    """Return the number of samples from the start of one window to the start of the next.

    Raises
    ------
    UserError
        Overlap outside [0, 1).
    """
    stride = int(window_length * (1 - overlap))
    if not 0 <= overlap < 1 or stride < 1:
        raise UserError(
            f"overlap: {overlap} is not in [0, 1): successive windows of {window_length}"
            " samples would start at the same sample. Choose an overlap from 0 to below 1."
        )
    return stride


def count_windows(n_samples: int, window_length: int, overlap: float) -> int:
    """Count the windows that `cut_windows` makes of a signal."""
    stride = stride_of(window_length, overlap)
    if n_samples <= window_length:
        return 1
    if overlap == 0:
        return n_samples // window_length
    return -(-(n_samples - window_length) // stride) + 1


def join_windows(x_BCWL: Tensor, shared: int) -> Tensor:
    """Join windows that share samples, fading linearly from each window to the next.

    Parameters
    ----------
    x_BCWL : float, shape (batch, channels, windows, samples in a window)
        Normalised signal, dimensionless.
    shared : int
        Samples that successive windows share, at most half a window.

    Returns
    -------
    float, shape (batch, channels, samples)
    """
    if shared == 0:
        return x_BCWL.flatten(2)
    rise = (torch.arange(shared, device=x_BCWL.device, dtype=x_BCWL.dtype) + 0.5) / shared
    head, tail = x_BCWL[..., :shared], x_BCWL[..., -shared:]
    faded = tail[:, :, :-1] * (1 - rise) + head[:, :, 1:] * rise
    starts = torch.cat([head[:, :, :1], faded], dim=2)
    body = torch.cat([starts, x_BCWL[..., shared:-shared]], dim=-1).flatten(2)
    return torch.cat([body, tail[:, :, -1]], dim=-1)


def cut_windows(x_BCN: Tensor, window_length: int, overlap: float) -> Tensor:
    """Cut a signal into windows.

    A signal shorter than a window is padded with zeros to one window. With overlap the tail is padded with zeros to a
    full stride; without overlap the tail is dropped.

    Parameters
    ----------
    x_BCN : float, shape (batch, channels, samples)
        Any unit, or dimensionless.
    window_length : int
        Samples in a window.
    overlap : float
        Share of a window that the next window repeats, from 0 to below 1.

    Returns
    -------
    float, shape (batch, channels, windows, samples in a window)
        A view of `x_BCN` where nothing was padded.
    """
    stride = stride_of(window_length, overlap)
    n_windows = count_windows(x_BCN.shape[-1], window_length, overlap)
    missing = (n_windows - 1) * stride + window_length - x_BCN.shape[-1]
    if missing > 0:
        x_BCN = F.pad(x_BCN, (0, missing))
    return x_BCN.unfold(-1, window_length, stride)[:, :, :n_windows]


def to_whole_windows(x: Tensor, length: int, channel_mask: Tensor | None = None) -> Tensor:
    """Cut a signal to whole windows, pad a shorter one to a window, and set absent channels to 0: float32.

    Parameters
    ----------
    x : float, shape (batch, channels, samples)
        Normalised signal, dimensionless.
    length : int
        Samples in a window.
    channel_mask : bool, shape (batch, channels), optional
        True for real channels.
    """
    n_samples = count_windows(x.shape[-1], length, 0.0) * length
    whole = F.pad(x.float(), (0, max(0, n_samples - x.shape[-1])))[..., :n_samples]
    return whole if channel_mask is None else whole.masked_fill(~channel_mask[..., None], 0.0)
