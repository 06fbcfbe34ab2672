"""Read byte ranges of shards: neighbours in one read, many ranges of a bucket in one call.

Shape letters: B batch, C channels, N samples.
"""

import mmap
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import TransientError, UserError
from emeg.uri import Location

MAX_GAP = 65_536
"""Largest gap, bytes, that is read through instead of sending another request: tar header, padding and JSON."""

MAX_READ = 64 * 2**20
"""Longest merged read, bytes."""


MAX_MAPS = 256
"""Shards mapped at a time. Each holds a file descriptor, of which a process has 1,024 by default."""


class ByteRange(NamedTuple):
    """Bytes `start` to `stop` of a shard."""

    shard: str
    start: int
    stop: int


def coalesce(ranges: Sequence[ByteRange], *, max_gap: int = MAX_GAP) -> list[ByteRange]:
    """Merge ranges of one shard that touch or nearly touch. The result is sorted and covers every range."""
    merged: list[ByteRange] = []
    for wanted in sorted(set(ranges)):
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.shard == wanted.shard
            and wanted.start - last.stop <= max_gap
            and max(wanted.stop, last.stop) - last.start <= MAX_READ
        ):
            merged[-1] = ByteRange(last.shard, last.start, max(last.stop, wanted.stop))
        else:
            merged.append(wanted)
    return merged


class RangeReader:
    """Reads ranges of the shards in one folder.

    Threads and processes may share or copy it: `read` opens files anew, some 15 µs a shard and call, and mapped files
    are not copied.

    Parameters
    ----------
    folder : Location
        Holds the shards.
    sizes : mapping
        Bytes of every shard according to the manifest; a file of another size is refused before it is read.
    """

    def __init__(self, folder: Location, sizes: Mapping[str, int]) -> None:
        self._folder = folder
        self._sizes = sizes
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self._folder, "sizes": self._sizes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def is_local(self) -> bool:
        """Whether the shards can be mapped."""
        return self._folder.is_local

    def map(self, shard: str, open_copy: Callable[[], BinaryIO] | None = None) -> mmap.mmap:
        """Map a local shard, or the copy of a remote one, into memory; the last `MAX_MAPS` are kept.

        Raises
        ------
        UserError
            The shard is missing or its size differs from the manifest.
        """
        with self._lock:
            mapped = self._maps.pop(shard, None)
            if mapped is not None:
                self._maps[shard] = mapped
                return mapped
        with open_copy() if open_copy is not None else self._open(shard) as file:
            self._check_size(self._folder / shard, shard, os.fstat(file.fileno()).st_size)
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        with self._lock:
            self._maps[shard] = mapped
            while len(self._maps) > MAX_MAPS:
                self._maps.popitem(last=False)  # closed with the last array on it
            return mapped

    def _open(self, shard: str) -> BinaryIO:
        path = self._folder.local_path() / shard
        try:
            return path.open("rb")
        except FileNotFoundError as error:
            raise UserError(f"{path}: the shard is missing; remove its corpus and run shard again") from error

    def fetch(self, wanted: ByteRange) -> bytes:
        """Read one range of a bucket in one request.

        Raises
        ------
        UserError
            The shard is missing, access is denied, or it is shorter than the manifest says.
        TransientError
            The bucket did not answer.
        """
        place = self._folder / wanted.shard
        try:
            content: bytes = self._folder.fs.cat_file(place.path, start=wanted.start, end=wanted.stop)
        except (FileNotFoundError, PermissionError) as error:
            raise UserError(f"{place}: cannot be read ({error}); copy the corpus again, or check the rights") from error
        except OSError as error:
            raise TransientError(
                f"{place}: bytes {wanted.start} to {wanted.stop} did not come: {error}; try again"
            ) from error
        self._check_length(wanted, len(content))
        return content

    def read(self, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Return the bytes of every range, in the order given.

        Raises
        ------
        UserError
            A shard is missing or its size differs from the manifest.
        """
        merged = coalesce(ranges)
        data = self._read_local(merged) if self._folder.is_local else self._read_remote(merged)
        by_shard: dict[str, list[tuple[ByteRange, bytes]]] = defaultdict(list)
        for piece, content in zip(merged, data, strict=True):
            by_shard[piece.shard].append((piece, content))
        views = []
        for wanted in ranges:
            piece, content = next(
                p for p in by_shard[wanted.shard] if p[0].start <= wanted.start and wanted.stop <= p[0].stop
            )
            views.append(memoryview(content)[wanted.start - piece.start : wanted.stop - piece.start])
        return views

    def _read_local(self, merged: Sequence[ByteRange]) -> list[bytes]:
        data: dict[ByteRange, bytes] = {}
        for shard in dict.fromkeys(piece.shard for piece in merged):
            path = self._folder.local_path() / shard
            try:
                handle = os.open(path, os.O_RDONLY)
            except FileNotFoundError as error:
                raise UserError(f"{path}: the shard is missing; remove its corpus and run shard again") from error
            try:
                self._check_size(path, shard, os.fstat(handle).st_size)
                data |= {piece: _read_fully(handle, path, piece) for piece in merged if piece.shard == shard}
            finally:
                os.close(handle)
        return [data[piece] for piece in merged]

    def _check_size(self, path: Path | Location, shard: str, found: int) -> None:
        if found != self._sizes[shard]:
            raise UserError(
                f"{path}: {found} bytes, the manifest says {self._sizes[shard]}: the copy is cut short or was changed;"
                " copy the corpus again, or remove it and run shard again"
            )

    def _read_remote(self, merged: Sequence[ByteRange]) -> list[bytes]:
        paths = [(self._folder / piece.shard).path for piece in merged]
        data: list[bytes] = self._folder.fs.cat_ranges(
            paths, [piece.start for piece in merged], [piece.stop for piece in merged], on_error="raise"
        )
        for piece, content in zip(merged, data, strict=True):
            self._check_length(piece, len(content))
        return data

    def _check_length(self, wanted: ByteRange, found: int) -> None:
        if found != wanted.stop - wanted.start:
            raise UserError(
                f"{self._folder / wanted.shard}: {found} bytes from {wanted.start} on instead of"
                f" {wanted.stop - wanted.start}: the object is cut short; copy the corpus again"
            )


def _read_fully(handle: int, path: Path, piece: ByteRange) -> bytes:
    """Read a range; one system call may return less than requested (2 GiB at most on Linux)."""
    parts = []
    position = piece.start
    while position < piece.stop:
        part = os.pread(handle, piece.stop - position, position)
        if not part:
            raise UserError(f"{path}: ends at byte {position}, {piece.stop} were expected; copy the corpus again")
        parts.append(part)
        position += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Pieces(NamedTuple):
    """Buffers that hold the bytes of a batch: in memory, or mapped files."""

    buffers: Sequence[bytes | mmap.mmap]
    which: NDArray[np.int64]
    """(B,): index of each sample's buffer."""
    base: NDArray[np.int64]
    """(B,): byte of the shard at which the buffer begins."""

    def gather(self, offsets: NDArray[np.int64], n_bytes: int) -> NDArray[np.void]:
        """Copy items of `n_bytes` at given bytes of a shard into one new array, with one numpy call a buffer.

        Parameters
        ----------
        offsets : int64, shape (B, ...)
            Byte indices in the shard.
        n_bytes : int
            Size of an item.

        Returns
        -------
        void, shape (B, ...)
        """
        inside = offsets - self.base.reshape(-1, *[1] * (offsets.ndim - 1))
        if len(self.buffers) == 1:
            return np.asarray(_items(self.buffers[0], n_bytes)[inside])
        out = np.empty(offsets.shape, f"V{n_bytes}")
        for number, buffer in enumerate(self.buffers):
            mine = np.flatnonzero(self.which == number)
            out[mine] = _items(buffer, n_bytes)[inside[mine]]
        return out

    def gather_rows(self, starts: NDArray[np.int64], shape: tuple[int, int], stride: int) -> NDArray[np.int16]:
        """Copy stored matrices into one int16 array (B, C, N).

        From one buffer this is a single gather. From several buffers each sample is copied by itself, which takes
        1.5 µs longer, because a gather per buffer would copy twice: 23 µs instead of 40 µs for a sample of 64 channels
        and 10 s. Other threads run while numpy copies.

        Parameters
        ----------
        starts : int64, shape (B,)
            Byte index of the first value of each sample in its shard.
        shape : tuple of int
            Channels and samples.
        stride : int
            Bytes from one channel to the next.
        """
        rows, n = shape
        if len(self.buffers) == 1:
            places = starts[:, None] + stride * np.arange(rows)
            return self.gather(places, 2 * n).view("<i2").reshape(len(starts), rows, n)
        out = np.empty((len(starts), rows, n), np.int16)
        inside = (starts - self.base).tolist()
        for b, (number, start) in enumerate(zip(self.which.tolist(), inside, strict=True)):
            out[b] = np.ndarray(shape, "<i2", self.buffers[number], start, (stride, 2))
        return out


def _items(buffer: bytes | mmap.mmap, n_bytes: int) -> NDArray[np.void]:
    """View a buffer as overlapping items of `n_bytes`, one from every byte."""
    return np.ndarray((len(buffer) - n_bytes + 1,), f"V{n_bytes}", buffer, strides=(1,))
