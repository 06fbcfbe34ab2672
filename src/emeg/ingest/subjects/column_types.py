"""Types of the columns of subject tables: whole numbers, numbers, or text."""

import math
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from emeg.ingest.text_files import number

OLDEST = 89
"""Ages above this are stored as this, since so few people reach them that an age may identify; years."""

_AGE = re.compile(r"(?i)^age(_?(years?|yrs?|at_?\w+))?$")
_WHOLE = re.compile(r"[+-]?\d+")


def typed(name: str, values: Sequence[str | None], *, levels: frozenset[str], has_unit: bool) -> pa.Array:
    """Return a column as an Arrow array: int64, float64 or string.

    A column with declared levels is text, whatever its values look like. A number that cannot be read is null.

    Parameters
    ----------
    name : str
        Name of the column; ages above `OLDEST` are stored as `OLDEST`.
    values : sequence of str or None
        Cells; None where absent or hidden.
    levels : frozenset of str
        Values that the table's JSON file declares.
    has_unit : bool
        Whether the JSON file states a unit: the column is numeric then.
    """
    there = [value for value in values if value is not None]
    numbers = [None if value is None else number(value.removesuffix("+")) for value in values]
    readable = sum(found is not None for found in numbers)
    if levels or not there or readable < (1 if has_unit else len(there)):
        return pa.array(list(values), pa.string())
    if _AGE.match(name):
        numbers = [None if found is None else min(found, float(OLDEST)) for found in numbers]
    if all(_WHOLE.fullmatch(value.removesuffix("+")) for value in there) and all(map(_fits, numbers)):
        return pa.array([None if found is None else round(found) for found in numbers], pa.int64())
    return pa.array(numbers, pa.float64())


def levels_of(about: dict[str, Any]) -> frozenset[str]:
    """Return the values that a column's JSON entry declares in ``Levels``, a mapping or a list."""
    levels = about.get("Levels")
    return frozenset(map(str, levels)) if isinstance(levels, dict | list) else frozenset()


def _fits(value: float | None) -> bool:
    return value is None or (math.isfinite(value) and abs(value) < 2**53)
