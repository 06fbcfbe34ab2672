"""Decode text and read numbers as archives have them: several encodings, decimal commas, units behind the number."""

import math
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from typing import NamedTuple

ABSENT = frozenset({"", "n/a", "N/A", "NA", "na", "nan", "NaN"})
"""Entries of tables and JSON files that stand for a value that is not known."""

_NUL_SHARE = 0.3
"""Share of zero bytes at even or odd offsets from which text is UTF-16: Latin letters have one in every second byte."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_POINT_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+")
_COMMA_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+\.\d+")
_WITH_UNIT = re.compile(
    r"(?P<number>[^A-Za-z\u00b5\u03bc]*\d(?:[eE][+-]?\d+)?[.,]?)\s*(?P<unit>[A-Za-z\u00b5\u03bc].*)"
)


class Decoded(NamedTuple):
    """The text of a file, and the name of its encoding: ``UTF-8``, ``UTF-16``, ``Windows-1252`` or ``Latin-1``."""

    text: str
    encoding: str


def decode_text(data: bytes) -> Decoded:
    """Decode a text file by its byte order mark, else as UTF-16, UTF-8, Windows-1252 or Latin-1, the first that fits.

    Every sequence of bytes can be decoded: Latin-1 gives each byte a character. Line ends are left as they are.
    """
    if data.startswith(BOM_UTF8):
        return Decoded(data.removeprefix(BOM_UTF8).decode("utf-8", errors="replace"), "UTF-8")
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return Decoded(data.decode("utf-16", errors="replace"), "UTF-16")
    for codec, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        if len(data) % 2 == 0 and zeros and zeros.count(0) > _NUL_SHARE * len(zeros) and not _has_nul_pairs(data):
            return Decoded(data.decode(codec, errors="replace"), "UTF-16")
    latin = data.decode("latin-1")
    for codec, name in (("utf-8", "UTF-8"), ("cp1252", "Windows-1252")):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        return Decoded(text, name if name == "UTF-8" or text != latin else "Latin-1")
    return Decoded(latin, "Latin-1")


def _has_nul_pairs(data: bytes) -> bool:
    """Check for a UTF-16 code unit of zero, which text never has and padded binary data have."""
    return any(not (data[i] or data[i + 1]) for i in range(0, len(data) - 1, 2))


def number(value: object) -> float | None:
    """Read a finite number; return None for anything else, never zero.

    A comma without a point beside it is a decimal comma. With both, the last one is the decimal mark if the others
    stand before groups of three digits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        value = value.strip().replace("\u2212", "-")
        if _DECIMAL_COMMA.fullmatch(value):
            value = value.replace(",", ".")
        elif _POINT_THOUSANDS.fullmatch(value):
            value = value.replace(".", "").replace(",", ".")
        elif _COMMA_THOUSANDS.fullmatch(value):
            value = value.replace(",", "")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def has_decimal_comma(text: str) -> bool:
    """Check whether a number is written with a comma for its decimal mark."""
    return _DECIMAL_COMMA.fullmatch(text.strip()) is not None


def quantity(value: object, units: Mapping[str, float]) -> float | None:
    """Read a number that may have its unit behind it, such as ``"50 Hz"``.

    Parameters
    ----------
    value : object
        Entry of a JSON file or cell of a table.
    units : mapping of str to float
        Factor of every unit that is accepted, spelt in small letters without blanks. A number without a unit has
        factor 1.

    Returns
    -------
    float or None
        The number times the factor; None for what is no number or has another unit.
    """
    plain = number(value)
    if plain is not None or not isinstance(value, str):
        return plain
    parts = _WITH_UNIT.fullmatch(value.strip())
    if parts is None:
        return None
    found, factor = number(parts["number"]), units.get("".join(parts["unit"].split()).rstrip(".").lower())
    return None if found is None or factor is None else found * factor
