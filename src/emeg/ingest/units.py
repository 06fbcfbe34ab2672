"""Units of voltage as files and tables spell them."""

_VOLTS = {
    **dict.fromkeys(("v", "volt", "volts"), 1.0),
    **dict.fromkeys(("mv", "milliv", "millivolt", "millivolts"), 1e-3),
    **dict.fromkeys(("uv", "\u00b5v", "\u03bcv", "microv", "microvolt", "microvolts", "uvolt", "uvolts"), 1e-6),
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-9),
}


def volts(unit: str) -> float | None:
    """Return how many volts a unit is, or None for what is no voltage; case and blanks do not matter."""
    return _VOLTS.get("".join(unit.split()).lower())
