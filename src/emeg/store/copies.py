"""Pairs of recordings that hold the same data: written by ``emeg copies``, read when subjects are split."""

from collections.abc import Collection

from emeg.config import Config
from emeg.store.products import Store

_FILE = ("catalog", "copies.json")


class CopiedRecording(Config):
    """Two recordings of the store that share data."""

    first: str
    """Recording id, the smaller of the two."""
    second: str
    """Recording id."""
    correlation: float
    """Correlation of their fingerprints in the best stretch."""
    offset_s: float
    """Time t of the second is time t + offset of the first."""


def read_copies(store: Store) -> list[CopiedRecording]:
    """Read the copies that were found; none before ``emeg copies`` has run."""
    if not store.exists(*_FILE):
        return []
    found = store.read_json(*_FILE)
    return [CopiedRecording.checked(fields, source="/".join(_FILE)) for fields in found]


def write_copies(store: Store, copies: Collection[CopiedRecording]) -> None:
    """Replace the list of copies."""
    ordered = sorted(copies, key=lambda copy: (copy.first, copy.second))
    store.write_json([copy.model_dump(mode="json") for copy in ordered], *_FILE)
