"""Which recordings hold the same data: found by ``emeg copies``, read by whoever splits people."""

from collections.abc import Collection

from emeg.config import Config
from emeg.store.products import Store

_PLACE = ("catalog", "copies.json")


class CopiedRecording(Config):
    """Two recordings of the store that share data."""

    first: str
    """Recording id, the smaller of the two."""
    second: str
    """Recording id."""
    correlation: float
    """Of their fingerprints, the best stretch."""
    offset_s: float
    """Time t of the second is time t + offset of the first."""


def read_copies(store: Store) -> list[CopiedRecording]:
    """Read which copies were found; none where nobody looked."""
    if not store.exists(*_PLACE):
        return []
    found = store.read_json(*_PLACE)
    return [CopiedRecording.checked(fields, source="/".join(_PLACE)) for fields in found]


def write_copies(store: Store, copies: Collection[CopiedRecording]) -> None:
    """Replace what is known of copies."""
    ordered = sorted(copies, key=lambda copy: (copy.first, copy.second))
    store.write_json([copy.model_dump(mode="json") for copy in ordered], *_PLACE)
