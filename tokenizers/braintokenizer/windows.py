"""How a signal is cut into windows."""

from torch import Tensor
from torch.nn import functional as F

from emeg.errors import UserError


def stride_of(window_length: int, overlap: float) -> int:
    """Give the samples from one window to the next.

    Raises
    ------
    UserError
        Overlap outside [0, 1).
    """
    stride = int(window_length * (1 - overlap))
    if not 0 <= overlap < 1 or stride < 1:
        raise UserError(f"overlap: {overlap} is not in [0, 1): windows of {window_length} samples would not move on")
    return stride


def count_windows(n_samples: int, window_length: int, overlap: float) -> int:
    """Windows that `cut_windows` makes of a signal."""
    stride = stride_of(window_length, overlap)
    if n_samples <= window_length:
        return 1
    if overlap == 0:
        return n_samples // window_length
    return -(-(n_samples - window_length) // stride) + 1


def cut_windows(x_BCT: Tensor, window_length: int, overlap: float) -> Tensor:
    """Cut (B, C, T) into windows (B, C, N, L).

    A signal shorter than a window is padded with zeros to one. With overlap the tail is padded with zeros to a full
    stride, without overlap it is dropped.
    """
    stride = stride_of(window_length, overlap)
    n_windows = count_windows(x_BCT.shape[-1], window_length, overlap)
    missing = (n_windows - 1) * stride + window_length - x_BCT.shape[-1]
    if missing > 0:
        x_BCT = F.pad(x_BCT, (0, missing))
    return x_BCT.unfold(-1, window_length, stride)[:, :, :n_windows]
