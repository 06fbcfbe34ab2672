"""Batches of labelled windows as tensors, ready to be copied to a device.

Shape letters: B batch, C channels, N samples.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emeg.data.sampling.order import permutation
from emeg.tokenizers.braintokenizer.checks import check_input
from emeg.training.finetune.labelled_windows import Windows
from emeg.training.loop.batches import SignalBatch, SpreadChannels, signal_batch
from emeg.training.loop.device_queue import move, pin


class WindowBatch(NamedTuple):
    """Windows of one step."""

    indices: NDArray[np.int64]
    """Indices of the windows."""
    signal: Tensor
    """float32 (B, C, N), V, T or T/m."""
    pos: Tensor
    """float32 (B, C, 6)."""
    sensor_type: Tensor
    """int64 (B, C)."""
    channel_mask: Tensor | None
    """bool (B, C); None where all channels are real."""
    kept: Tensor | None
    """int64 (B, channels to use); None for all."""
    labels: Tensor
    """int64 (B,): class of each window."""

    @property
    def signals(self) -> SignalBatch:
        """The windows without their labels."""
        return SignalBatch(0, 0, self.signal, self.pos, self.sensor_type, self.channel_mask, ())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "WindowBatch":
        """Move all tensors to a device."""
        return move(self, device, non_blocking=non_blocking)


class WindowReader:
    """Reads labelled windows as tensors.

    Parameters
    ----------
    windows : Windows
    channels : SpreadChannels, optional
        Choice of channels; all if not given.
    pinned : bool
        Check the values, and put the tensors into page-locked memory, for a GPU, where a check would wait.
    """

    def __init__(self, windows: Windows, channels: SpreadChannels | None, *, pinned: bool) -> None:
        self._windows = windows
        self._channels = channels
        self._pinned = pinned

    def read(self, indices: NDArray[np.int64]) -> WindowBatch:
        """Read some windows.

        Parameters
        ----------
        indices : int64, shape (batch,)
            Indices of windows.
        """
        read = signal_batch(self._windows.read(indices.tolist()))
        kept = None if self._channels is None else self._channels.choose(read.pos, read.channel_mask)
        labels = torch.from_numpy(np.asarray(self._windows.labels)[indices])
        batch = WindowBatch(indices, read.signal, read.pos, read.sensor_type, read.channel_mask, kept, labels)
        if not self._pinned:
            return batch
        check_input(read.signal, read.pos, read.sensor_type, read.channel_mask)
        return pin(batch)


class WindowLoader:
    """Batches of windows, shuffled in each pass by (seed, number of the pass) if a seed is given.

    Parameters
    ----------
    indices : int64, shape (windows,)
        Indices of windows.
    reader : WindowReader
    batch_size : int
    shuffle_seed : int, optional
    """

    def __init__(
        self, indices: NDArray[np.int64], reader: WindowReader, *, batch_size: int, shuffle_seed: int | None = None
    ) -> None:
        self._indices = indices
        self._reader = reader
        self._batch_size = batch_size
        self._seed = shuffle_seed
        self._passes = 0

    def __len__(self) -> int:
        """Return the number of batches of one pass."""
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[WindowBatch]:
        order = self._indices
        if self._seed is not None:
            order = order[permutation(len(order), "fold", self._seed, self._passes)]
            self._passes += 1
        for start in range(0, len(order), self._batch_size):
            yield self._reader.read(order[start : start + self._batch_size])
