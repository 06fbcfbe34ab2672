"""Check a MATLAB 5 file before native code relies on the lengths that it states.

scipy's reader uses types and lengths without checking them, so that a few damaged bytes can end the process. This
check reads every tag of the file, at most a megabyte at a time.

References
----------
MATLAB, MAT-File Format (The MathWorks, R2024a), chapter 1.
"""

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

_HEADER_BYTES = 128
_PIECE_BYTES = 2**20
_DEEPEST = 32
_LONGEST_TEXT = 2**20

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXT_WIDTHS = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_NUMERIC = range(6, 16)


class DamagedError(ValueError):
    """The file contradicts itself; the text says where."""


class _Tag(NamedTuple):
    type: int
    size: int
    inside: bytes | None
    """Content of a small element, which is in the tag itself."""


class _Reader:
    """A part of a file that is read in order, up to a limit."""

    def __init__(self, read: Callable[[int], bytes], left: float, order: str) -> None:
        self._read, self.left, self.order = read, left, order

    def take(self, n: int) -> bytes:
        if n > self.left:
            raise DamagedError(f"{n} bytes are announced where {self.left:.0f} are left")
        data = self._read(n)
        if len(data) < n:
            raise DamagedError("it ends within an element")
        self.left -= n
        return data

    def skip(self, n: int) -> None:
        while n > 0:
            n -= len(self.take(min(n, _PIECE_BYTES)))

    def part(self, n: int) -> Self:
        """Return the next `n` bytes as a reader of their own; `self` counts them as read."""
        if n > self.left:
            raise DamagedError(f"{n} bytes are announced where {self.left:.0f} are left")
        self.left -= n
        return type(self)(self._read, n, self.order)

    def tag(self) -> _Tag:
        data = self.take(8)
        first, second = struct.unpack(f"{self.order}II", data)
        if first >> 16:
            if first >> 16 > 4:
                raise DamagedError(f"a small element announces {first >> 16} bytes, it has room for 4")
            return _Tag(first & 0xFFFF, first >> 16, data[4 : 4 + (first >> 16)])
        return _Tag(first, second, None)

    def content(self, type_: int, what: str) -> bytes:
        """Read a short element of one type."""
        tag = self.tag()
        if tag.type != type_ or tag.size > _LONGEST_TEXT:
            raise DamagedError(f"{what} is of type {tag.type} with {tag.size} bytes")
        return tag.inside if tag.inside is not None else self.take(_padded(tag.size))[: tag.size]


def check_matlab(path: Path) -> None:
    """Walk through a MATLAB 5 file.

    Raises
    ------
    DamagedError
        A type is unknown, or a length does not fit its surroundings or its array.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
        if order is None or struct.unpack(f"{order}H", head[124:126])[0] != 0x0100 or 0 in head[:4]:
            raise DamagedError("its first 128 bytes are not those of a MATLAB 5 file")
        reader = _Reader(file.read, size - _HEADER_BYTES, order)
        while reader.left >= 8:
            tag = reader.tag()
            if tag.inside is not None or tag.type not in {_MATRIX, _COMPRESSED}:
                raise DamagedError(f"a variable is of type {tag.type}")
            part = reader.part(tag.size)
            if tag.type == _COMPRESSED:
                _check_compressed(part)
            else:
                _check_matrix(part, 0)


def _check_compressed(part: _Reader) -> None:
    inflate, kept = zlib.decompressobj(), bytearray()

    def read(n: int) -> bytes:
        while len(kept) < n and not inflate.eof:
            fresh = inflate.unconsumed_tail or part.take(min(int(part.left), 65536))
            if not fresh:
                break
            kept.extend(inflate.decompress(fresh, max(n, 65536)))
        data = bytes(kept[:n])
        del kept[:n]
        return data

    try:
        inner = _Reader(read, math.inf, part.order)
        tag = inner.tag()
        if tag.inside is not None or tag.type != _MATRIX:
            raise DamagedError(f"a compressed variable is of type {tag.type}")
        _check_matrix(inner.part(tag.size), 0)
    except zlib.error as error:
        raise DamagedError(f"a compressed variable cannot be inflated ({error})") from error
    part.skip(int(part.left))


def _check_matrix(reader: _Reader, depth: int) -> None:
    if depth > _DEEPEST:
        raise DamagedError(f"structures are nested more than {_DEEPEST} deep")
    if reader.left == 0:
        return  # an empty cell
    kind, is_complex = _kind(reader)
    if kind == _OPAQUE:
        for what in ("an object's name", "its type", "its class"):
            reader.content(_INT8, what)
        _check_child(reader, depth)
        return
    n = _count(reader)
    reader.content(_INT8, "an array's name")
    if kind in _NUMERIC:
        for _ in range(1 + is_complex):
            _check_data(reader, n, _WIDTHS, exact=True)
    elif kind == _CHAR:
        _check_data(reader, n, _TEXT_WIDTHS, exact=False)
    elif kind in {_CELL, _STRUCT, _OBJECT, _FUNCTION}:
        _check_children(reader, kind, n, depth)
    elif kind != _SPARSE:
        raise DamagedError(f"an array is of class {kind}")
    reader.skip(int(reader.left))


def _kind(reader: _Reader) -> tuple[int, bool]:
    """Read the class of an array, and whether its numbers are complex."""
    flags = reader.content(_UINT32, "an array's flags")
    if len(flags) != 8:
        raise DamagedError(f"an array's flags have {len(flags)} bytes")
    (word,) = struct.unpack(f"{reader.order}I", flags[:4])
    return word & 0xFF, bool(word & 0x0800)


def _count(reader: _Reader) -> int:
    data = reader.content(_INT32, "an array's dimensions")
    if len(data) % 4 or len(data) < 8:
        raise DamagedError(f"an array's dimensions have {len(data)} bytes")
    shape = struct.unpack(f"{reader.order}{len(data) // 4}i", data)
    if min(shape) < 0:
        raise DamagedError(f"an array has the shape {shape[:6]}")
    return math.prod(shape)


def _check_data(reader: _Reader, n: int, widths: dict[int, int], *, exact: bool) -> None:
    tag = reader.tag()
    promised = n * widths.get(tag.type, 0)
    if tag.type not in widths or (tag.size != promised if exact else tag.size < promised):
        raise DamagedError(f"an array of {n} values has {tag.size} bytes of type {tag.type}")
    if tag.inside is None:
        # The last element of an array may lack its padding.
        reader.skip(min(_padded(tag.size), int(max(reader.left, tag.size))))


def _check_children(reader: _Reader, kind: int, n: int, depth: int) -> None:
    if kind == _FUNCTION:
        n = 1
    elif kind != _CELL:
        if kind == _OBJECT:
            reader.content(_INT8, "an object's class")
        width = reader.content(_INT32, "the length of field names")
        length = struct.unpack(f"{reader.order}i", width)[0] if len(width) == 4 else 0
        names = reader.content(_INT8, "field names")
        if not 1 <= length <= 1024 or len(names) % length:
            raise DamagedError(f"field names of {len(names)} bytes are {length} bytes long each")
        n *= len(names) // length
    if 8 * n > reader.left:
        raise DamagedError(f"{n} fields or cells are announced where {reader.left:.0f} bytes are left")
    for _ in range(n):
        _check_child(reader, depth)


def _check_child(reader: _Reader, depth: int) -> None:
    tag = reader.tag()
    if tag.type != _MATRIX or (tag.inside is not None and tag.size):
        raise DamagedError(f"a field or cell is of type {tag.type}")
    if tag.inside is None:
        child = reader.part(tag.size)
        _check_matrix(child, depth + 1)


def _padded(size: int) -> int:
    return -(-size // 8) * 8
