"""Byte ranges of shards: neighbours in one read, many ranges of a bucket in one call."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from emeg.errors import UserError
from emeg.uri import Location

MAX_GAP = 65_536
"""Bytes read in vain are cheaper than another request up to here (a tar header, padding and the JSON lie between)."""

MAX_READ = 64 * 2**20
"""No single read is longer than this unless one range is."""


class ByteRange(NamedTuple):
    """Bytes `start` to `stop` of a shard."""

    shard: str
    start: int
    stop: int


def coalesce(ranges: Sequence[ByteRange], *, max_gap: int = MAX_GAP) -> list[ByteRange]:
    """Merge ranges of one shard that touch or nearly touch; sorted, every range lies inside one of the result."""
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

    It keeps no file open, so threads and processes may share or copy it; opening costs some 15 µs a shard and call.

    Parameters
    ----------
    folder : Location
        Holds the shards.
    sizes : mapping
        Bytes of every shard as the manifest has them; a file of another size is refused before it is read.
    """

    def __init__(self, folder: Location, sizes: Mapping[str, int]) -> None:
        self._folder = folder
        self._sizes = sizes

    def read(self, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Give the bytes of every range, in the order asked for.

        Raises
        ------
        UserError
            A shard is missing or has another size than its manifest says.
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
            if len(content) != piece.stop - piece.start:
                raise UserError(
                    f"{self._folder / piece.shard}: {len(content)} bytes from {piece.start} on instead of"
                    f" {piece.stop - piece.start}: the object is cut short; copy the corpus again"
                )
        return data


def _read_fully(handle: int, path: Path, piece: ByteRange) -> bytes:
    """Read a range; a call may give less than asked for (2 GiB at most on Linux)."""
    parts = []
    position = piece.start
    while position < piece.stop:
        part = os.pread(handle, piece.stop - position, position)
        if not part:
            raise UserError(f"{path}: ends at byte {position}, {piece.stop} were expected; copy the corpus again")
        parts.append(part)
        position += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
