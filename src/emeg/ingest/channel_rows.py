"""A table of a recording's channels, in memory or, if it is large, in a temporary file.

A reader returns blocks of all channels, and a filter takes whole channels; this table connects them. If it does not fit
in memory, it is kept in a temporary file without a name, which the system removes when the process ends.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray


class ChannelRows:
    """A table float32 (channel, sample), written in any order and read by channels or by stretches.

    Parameters
    ----------
    n_channels, n_samples : int
    in_memory_bytes : int
        Largest table that is kept in memory.
    folder : Path, optional
        Where the file goes; the system's folder for temporary files by default.
    """

    def __init__(self, n_channels: int, n_samples: int, *, in_memory_bytes: int, folder: Path | None = None) -> None:
        self.shape = (n_channels, n_samples)
        self._array: NDArray[np.float32] | None = None
        self._file: IO[bytes] | None = None
        if 4 * n_channels * n_samples <= in_memory_bytes:
            self._array = np.zeros(self.shape, np.float32)
        else:
            # closed, and with it removed, by __exit__ or at the latest by the end of the process
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            self._file.truncate(4 * n_channels * n_samples)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        self._array = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, channel: int) -> NDArray[np.float32]:
        """Return one channel, shape (samples,)."""
        row: NDArray[np.float32] = self.rows(channel, channel + 1)[0]
        return row

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[channel] for channel in range(len(self)))

    def rows(self, first: int, stop: int) -> NDArray[np.float32]:
        """Read neighbouring channels, (channels, samples)."""
        if self._array is not None:
            return self._array[first:stop]
        return self._read(first, 0, (min(stop, len(self)) - first) * self.shape[1]).reshape(-1, self.shape[1])

    def columns(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read a stretch of all channels, (channels, samples)."""
        if self._array is not None:
            return self._array[:, start:stop]
        stop = min(stop, self.shape[1])
        return np.stack([self._read(channel, start, stop - start) for channel in range(len(self))])

    def put(self, first: int, start: int, block: NDArray[np.float32]) -> None:
        """Write a block of neighbouring channels.

        Parameters
        ----------
        first, start : int
            Channel and sample of the block's first value.
        block : float32, shape (channels, samples)
            V, T or T/m.
        """
        if self._array is not None:
            self._array[first : first + len(block), start : start + block.shape[1]] = block
            return
        assert self._file is not None
        for channel, row in enumerate(np.ascontiguousarray(block, np.float32), first):
            self._file.seek(4 * (channel * self.shape[1] + start))
            self._file.write(row.data)

    def _read(self, channel: int, start: int, n: int) -> NDArray[np.float32]:
        assert self._file is not None
        values = np.empty(n, np.float32)
        self._file.seek(4 * (channel * self.shape[1] + start))
        taken = self._file.readinto(values.view(np.uint8).data)  # type: ignore[attr-defined]
        if taken != values.nbytes:
            raise OSError(f"scratch file: {values.nbytes} bytes needed, {taken} read")
        return values
