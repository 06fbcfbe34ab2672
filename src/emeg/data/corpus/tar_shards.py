"""Tar shards that the stock webdataset package reads, with the place of every array's bytes.

Members lie uncompressed and every header field is fixed, so the place of each follows from the shapes alone: segments
are written where they belong in any order, as their recordings are read, and ranges of the file serve as arrays.
"""

import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.hashing import canonical_json


class ArrayPlaces(NamedTuple):
    """Where a segment's array bytes lie in its shard, behind the npy headers."""

    offset: int
    bytes: int
    step_offset: int
    step_bytes: int


class SegmentPlace(NamedTuple):
    """Where a segment's members lie in its shard, and its arrays within."""

    start: int
    stop: int
    arrays: ArrayPlaces


def place_segment(start: int, channels: int, n_samples: int, attributes: Mapping[str, Any]) -> SegmentPlace:
    """Find the places of a segment whose members begin at byte `start`; ``attributes["chunk_edges"]`` counts chunks."""
    step_shape = (channels, len(attributes["chunk_edges"]) - 1)
    signal_header = len(_npy_header("<i2", (channels, n_samples)))
    step_header = len(_npy_header("<f4", step_shape))
    n_signal, n_step = channels * n_samples * 2, step_shape[0] * step_shape[1] * 4
    offset = start + tarfile.BLOCKSIZE + signal_header
    second = start + _member_size(signal_header + n_signal)
    third = second + _member_size(step_header + n_step)
    stop = third + _member_size(len(canonical_json(dict(attributes)).encode()))
    return SegmentPlace(start, stop, ArrayPlaces(offset, n_signal, second + tarfile.BLOCKSIZE + step_header, n_step))


def encode_segment(
    key: str, signal_CN: NDArray[np.int16], step_CK: NDArray[np.float32], attributes: Mapping[str, Any]
) -> bytes:
    """Give a segment's three members as bytes of a tar.

    `key` has no dot, since webdataset takes all after the first for the member's name.
    """
    signal = np.ascontiguousarray(signal_CN, "<i2")
    step = np.ascontiguousarray(step_CK, "<f4")
    return b"".join(
        [
            *_member(f"{key}.signal.npy", _npy_header("<i2", signal.shape), signal.tobytes()),
            *_member(f"{key}.step.npy", _npy_header("<f4", step.shape), step.tobytes()),
            *_member(f"{key}.json", b"", canonical_json(dict(attributes)).encode()),
        ]
    )


def write_at(path: Path, start: int, data: bytes) -> None:
    """Write bytes into a shard that `allocate` made."""
    handle = os.open(path, os.O_WRONLY)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(handle, data[written:] if written else data, start + written)
    finally:
        os.close(handle)


def allocate(path: Path, stop: int) -> None:
    """Make a shard whose last segment ends at byte `stop`: zeros, two end blocks, padded as tar pads."""
    size = -(-(stop + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    with path.open("xb") as file:
        file.truncate(size)


def _member_size(n_bytes: int) -> int:
    return tarfile.BLOCKSIZE + -(-n_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _member(name: str, header: bytes, content: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    info = tarfile.TarInfo(name)  # mtime 0, user and group 0 without names
    info.size = len(header) + len(content)
    info.mode = 0o444
    padding = bytes(-info.size % tarfile.BLOCKSIZE)
    return info.tobuf(tarfile.USTAR_FORMAT), header, content, padding


@lru_cache(maxsize=256)
def _npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def chunk_edges(start: int, n_samples: int, chunk: int) -> list[int]:
    """Borders of the recording's chunks inside a segment, counted from its start, both ends included."""
    first = chunk - start % chunk
    return [0, *range(first, n_samples, chunk), n_samples]


def shard_name(channels: int, number: int) -> str:
    """File name of a shard."""
    return f"{channels}-{number:05d}.tar"


def pack(sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Fill shards one after the other up to `limit` bytes: (first, last) of each, at least one segment in each."""
    borders = [0]
    filled = 0
    for i, size in enumerate(sizes):
        if i > borders[-1] and filled + size > limit:
            borders.append(i)
            filled = 0
        filled += size
    borders.append(len(sizes))
    return [(a, b) for a, b in pairwise(borders) if b > a]
