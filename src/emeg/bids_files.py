"""Files of a BIDS dataset, written without clock, host or user: JSON, tables, FIFF without the machine's name."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FIFF_ID_STRUCT = 31  # type of a tag that holds file format version, machine and time
_FIFF_MACHINE = slice(4, 12)  # its bytes that hold the machine's address


def write_json(path: Path, value: object) -> None:
    """Write JSON; equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a BIDS table: tabs, a header, ``n/a`` for None."""
    lines = ["\t".join(rows[0]), *("\t".join("n/a" if v is None else str(v) for v in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def blank_fiff_machine(path: Path) -> None:
    """Replace the address of the machine that wrote a FIFF file by zeros in all tags.

    Without a measurement date MNE writes no time, but it still writes the machine's network address.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        position = 0
        while position < size:
            file.seek(position)
            _, kind, length, following = struct.unpack(">iiii", file.read(16))
            if kind == _FIFF_ID_STRUCT:
                file.seek(position + 16 + _FIFF_MACHINE.start)
                file.write(bytes(_FIFF_MACHINE.stop - _FIFF_MACHINE.start))
            if following < 0:
                break
            position = following or position + 16 + length
