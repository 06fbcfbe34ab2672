"""The one table of units as files and tables spell them: voltage, length, frequency, time."""

import re

from emeg.ingest.text_files import quantity

_PREFIXES = {
    "": ("", 1.0),
    "d": ("deci", 1e-1),
    "c": ("centi", 1e-2),
    "m": ("milli", 1e-3),
    "u": ("micro", 1e-6),
    "n": ("nano", 1e-9),
    "k": ("kilo", 1e3),
}
"""Symbol of a prefix, its word, and its factor."""


def _spellings(symbol: str, words: tuple[str, ...], prefixes: str) -> dict[str, float]:
    """Return the factors of a unit with each prefix, spelt by symbols, by words and mixed (``microV``, ``uvolt``)."""
    found = {}
    for prefix in ("", *prefixes):
        short, (long, factor) = prefix, _PREFIXES[prefix]
        for unit in (symbol, *words):
            found[f"{short}{unit}"] = found[f"{long}{unit}"] = factor
            if short == "u":
                found |= dict.fromkeys((f"\u00b5{unit}", f"\u03bc{unit}", f"mu{unit}"), factor)
    return found


_VOLTS = _spellings("v", ("volt", "volts"), "munk")
_METRES = _spellings("m", ("meter", "meters", "metre", "metres"), "dcmu")
HERTZ = _spellings("hz", ("hertz",), "mk")
"""Factors of units of frequency, for `quantity`."""
SECONDS = _spellings("s", ("sec", "secs", "second", "seconds"), "mu") | {"min": 60.0, "minutes": 60.0}
"""Factors of units of time, for `quantity`."""


def volts(unit: str) -> float | None:
    """Return how many volts a unit is, or None for what is no voltage; case and blanks do not matter."""
    return _VOLTS.get(_folded(unit))


def metres(unit: str) -> float | None:
    """Return how many metres a unit of length is, or None for what is no length; case and blanks do not matter."""
    return _METRES.get(_folded(unit))


def hertz(value: object) -> float | None:
    """Read a frequency such as ``50``, ``"50"`` or ``"50 Hz"``, in Hz; None for what is no frequency."""
    return quantity(value, HERTZ)


def seconds(value: object) -> float | None:
    """Read a time such as ``1.5``, ``"1,5"`` or ``"1500 ms"``, in seconds; None for what is no time."""
    return quantity(value, SECONDS)


def _folded(unit: str) -> str:
    """Return a unit in small letters without blanks, dots and brackets: ``[uV]`` is ``uv``."""
    # \u00c2 stands before \u00b5 where UTF-8 was read as Latin-1 and written again
    return re.sub(r"[\s.()\[\]\u00c2]+", "", unit).lower()
