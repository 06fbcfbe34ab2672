"""Order the packets of a stream: wait for late ones, drop repeated ones, bridge lost ones.

Shape letters: C channels, N samples.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError


@dataclass
class PacketCounts:
    """Counts of packets and samples so far."""

    taken: int = 0
    repeated: int = 0
    """Packets whose samples had all arrived before, or had been bridged because they arrived too late."""
    late: int = 0
    """Packets that arrived after a later one but in time."""
    bridged_samples: int = 0
    """Samples that did not arrive, or arrived too late."""
    gaps: int = 0


@dataclass
class Stretch:
    """Samples in order, and which of them are bridged."""

    signal: NDArray[np.float64]
    """(channel, sample)."""
    bridged: NDArray[np.bool_]
    """(sample,)."""


@dataclass
class PacketOrder:
    """Put packets in order.

    Missing samples are awaited until `patience` later samples have arrived. They are then replaced by a straight line
    from the last sample before to the first one after them, so that the filter input has no jump.

    Parameters
    ----------
    n_channels : int
    patience : int
        Samples.
    """

    n_channels: int
    patience: int
    counts: PacketCounts = field(default_factory=PacketCounts)
    _next: int | None = None
    _last: NDArray[np.float64] | None = None
    _waiting: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def push(self, packet_CN: NDArray[np.float64], first_sample: int | None = None) -> Stretch:
        """Add a packet and return the samples that are in order, possibly none.

        Parameters
        ----------
        packet_CN : float64, shape (channels, samples)
            V, T or T/m.
        first_sample : int, optional
            Number of its first sample in the stream. If omitted, it follows the packet before.

        Raises
        ------
        UserError
            The packet has another number of channels.
        """
        packet_CN = np.asarray(packet_CN, np.float64)
        if packet_CN.ndim != 2 or len(packet_CN) != self.n_channels:
            raise UserError(f"packet: shape {packet_CN.shape}; pass ({self.n_channels}, samples)")
        self.counts.taken += 1
        if first_sample is None:
            first_sample = self._end() if self._next is not None else 0
        if self._next is None:
            self._next = first_sample
        self._sort_in(packet_CN, first_sample)
        parts = self._in_order()
        while self._waiting and self._end() - self._next > self.patience:
            parts += [self._bridge(), *self._in_order()]
        if not parts:
            return Stretch(np.empty((self.n_channels, 0)), np.empty(0, bool))
        return Stretch(
            np.concatenate([part.signal for part in parts], axis=1), np.concatenate([part.bridged for part in parts])
        )

    def _end(self) -> int:
        """Return the index after the last sample that has arrived."""
        assert self._next is not None
        return max([self._next, *(first + int(part.shape[1]) for first, part in self._waiting.items())])

    def _sort_in(self, packet_CN: NDArray[np.float64], first: int) -> None:
        assert self._next is not None
        if first < self._end():
            known = first + packet_CN.shape[1] <= self._next or first in self._waiting
            self.counts.repeated += known
            self.counts.late += not known
        if first < self._next:
            packet_CN = packet_CN[:, self._next - first :]
            first = self._next
        if packet_CN.shape[1] > self._waiting.get(first, packet_CN[:, :0]).shape[1]:
            self._waiting[first] = packet_CN

    def _in_order(self) -> list[Stretch]:
        parts = []
        while self._waiting:
            assert self._next is not None
            first = min(self._waiting)
            if first > self._next:
                break
            part = self._waiting.pop(first)[:, self._next - first :]
            if part.shape[1]:
                parts.append(Stretch(part, np.zeros(part.shape[1], bool)))
                self._next += part.shape[1]
                self._last = part[:, -1]
        return parts

    def _bridge(self) -> Stretch:
        assert self._next is not None
        first = min(self._waiting)
        n, after = first - self._next, self._waiting[first][:, 0]
        before = after if self._last is None else self._last
        line = before[:, None] + (after - before)[:, None] * (np.arange(1, n + 1) / (n + 1))
        self._next = first
        self.counts.gaps += 1
        self.counts.bridged_samples += n
        return Stretch(line, np.ones(n, bool))
