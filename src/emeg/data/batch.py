"""Samples and batches: the arrays that a training or evaluation step reads.

Shape letters: B batch, C channels, N samples, K chunks of a stored segment.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Sample(NamedTuple):
    """One stretch of one recording."""

    signal: NDArray[np.float32]
    """(C, N), V, T or T/m."""
    pos: NDArray[np.float32]
    """(C, 6): normalised position and orientation, or (C, 7), as `positions_with_regions` returns them."""
    sensor_type: NDArray[np.int8]
    """(C,): codes of `SensorType`."""
    segment: int
    """Row of the corpus, or of the task windows."""


class Batch(NamedTuple):
    """Samples of one length. Channels that a sample lacks are zeros, and False in the mask."""

    signal: NDArray[np.float32]
    """(B, C, N), V, T or T/m; not yet normalised."""
    pos: NDArray[np.float32]
    """(B, C, 6): normalised position and orientation; or (B, C, 7), as `positions_with_regions` returns them."""
    sensor_type: NDArray[np.int8]
    """(B, C): codes of `SensorType`."""
    channel_mask: NDArray[np.bool_]
    """(B, C): True for real channels."""
    segments: NDArray[np.int64]
    """(B,): rows of the corpus, or of the task windows."""


class StoredBatch(NamedTuple):
    """Samples of one length as stored: half the bytes of the `Batch` that `values` computes from them."""

    signal: NDArray[np.int16]
    """(B, C, N)."""
    scale: NDArray[np.float32]
    """(B, C, K): scale of each chunk; signal · scale is the value in V, T or T/m."""
    edges: NDArray[np.int64]
    """(B, K): first sample after each chunk; the last is N or more."""
    pos: NDArray[np.float32]
    sensor_type: NDArray[np.int8]
    channel_mask: NDArray[np.bool_]
    segments: NDArray[np.int64]

    def values(self) -> Batch:
        """Return the batch in physical units, equal to `Recording.read` bit for bit."""
        rest = (self.pos, self.sensor_type, self.channel_mask, self.segments)
        if self.scale.shape[2] == 1:
            return Batch(np.multiply(self.signal, self.scale), *rest)
        chunk_BN = (np.arange(self.signal.shape[2])[:, None] >= self.edges[:, None, :-1]).sum(axis=2)
        signal = np.empty(self.signal.shape, np.float32)
        for b, chunk_N in enumerate(chunk_BN):
            np.multiply(self.signal[b], self.scale[b][:, chunk_N], out=signal[b])
        return Batch(signal, *rest)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one length into a batch, padding channels with zeros."""
    n_channels = max(len(s.sensor_type) for s in samples)
    shape = (len(samples), n_channels)
    batch = Batch(
        signal=np.zeros((*shape, samples[0].signal.shape[1]), np.float32),
        pos=np.zeros((*shape, samples[0].pos.shape[1]), np.float32),
        sensor_type=np.zeros(shape, np.int8),
        channel_mask=np.zeros(shape, np.bool_),
        segments=np.array([s.segment for s in samples], np.int64),
    )
    for b, sample in enumerate(samples):
        c = len(sample.sensor_type)
        batch.signal[b, :c] = sample.signal
        batch.pos[b, :c] = sample.pos
        batch.sensor_type[b, :c] = sample.sensor_type
        batch.channel_mask[b, :c] = True
    return batch
