"""Write tar shards that the webdataset package reads, with the byte offset of every array known beforehand.

Members are uncompressed and every header field is fixed, so that all offsets follow from the shapes alone. Segments can
be written in any order, as their recordings are read, and byte ranges of the file can be used as arrays.

Shape letters: C channels, N samples, K chunks of a stored segment.
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


class ArrayOffsets(NamedTuple):
    """Byte offsets of a segment's arrays in its shard, after the npy headers."""

    offset: int
    bytes: int
    step_offset: int
    step_bytes: int


class SegmentOffsets(NamedTuple):
    """First and last byte of a segment's members in its shard, and the offsets of its arrays."""

    start: int
    stop: int
    arrays: ArrayOffsets


def segment_offsets(start: int, channels: int, n_samples: int, attributes: Mapping[str, Any]) -> SegmentOffsets:
    """Compute the offsets of a segment whose members begin at byte `start`."""
    scale_shape = (channels, len(attributes["chunk_edges"]) - 1)
    signal_header = len(_npy_header("<i2", (channels, n_samples)))
    scale_header = len(_npy_header("<f4", scale_shape))
    n_signal, n_scale = channels * n_samples * 2, scale_shape[0] * scale_shape[1] * 4
    offset = start + tarfile.BLOCKSIZE + signal_header
    second = start + _member_size(signal_header + n_signal)
    third = second + _member_size(scale_header + n_scale)
    stop = third + _member_size(len(canonical_json(dict(attributes)).encode()))
    return SegmentOffsets(
        start, stop, ArrayOffsets(offset, n_signal, second + tarfile.BLOCKSIZE + scale_header, n_scale)
    )


def encode_segment(
    key: str, signal_CN: NDArray[np.int16], scale_CK: NDArray[np.float32], attributes: Mapping[str, Any]
) -> bytes:
    """Encode a segment as the bytes of its three tar members.

    Parameters
    ----------
    key : str
        Name of the segment, without a dot: webdataset takes what follows the first dot for the member's name.
    signal_CN : int16, shape (channels, samples)
        Stored samples, dimensionless.
    scale_CK : float32, shape (channels, chunks)
        Scale of each channel and chunk, V, T or T/m.
    attributes : mapping
        Content of the JSON member; ``chunk_edges`` has one more entry than there are chunks.
    """
    signal = np.ascontiguousarray(signal_CN, "<i2")
    scale = np.ascontiguousarray(scale_CK, "<f4")
    return b"".join(
        [
            *_member(f"{key}.signal.npy", _npy_header("<i2", signal.shape), signal.tobytes()),
            *_member(f"{key}.step.npy", _npy_header("<f4", scale.shape), scale.tobytes()),
            *_member(f"{key}.json", b"", canonical_json(dict(attributes)).encode()),
        ]
    )


def write_at(path: Path, start: int, data: bytes) -> None:
    """Write bytes into a shard created by `allocate`."""
    handle = os.open(path, os.O_WRONLY)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(handle, data[written:] if written else data, start + written)
    finally:
        os.close(handle)


def allocate(path: Path, stop: int) -> None:
    """Create a shard of zeros whose last segment ends at byte `stop`, with end blocks and padding as tar has them."""
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
    """Return the borders of the recording's chunks inside a segment, counted from its start, both ends included."""
    first = chunk - start % chunk
    return [0, *range(first, n_samples, chunk), n_samples]


def shard_name(channels: int, number: int) -> str:
    """Return the file name of a shard."""
    return f"{channels}-{number:05d}.tar"


def pack(sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Split segments into shards of at most `limit` bytes: (first, last) of each, at least one segment in each."""
    borders = [0]
    filled = 0
    for i, size in enumerate(sizes):
        if i > borders[-1] and filled + size > limit:
            borders.append(i)
            filled = 0
        filled += size
    borders.append(len(sizes))
    return [(a, b) for a, b in pairwise(borders) if b > a]
