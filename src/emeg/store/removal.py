"""Taking a recording out of the store, in the opposite order of its publishing: what exists is never incomplete."""

from emeg.store.catalog import has_row
from emeg.store.faults import line_to
from emeg.store.products import Store


def remove_recording(store: Store, recording: str) -> bool:
    """Remove a recording's row, then its events and its signal; returns whether there was anything.

    With the row gone the recording does not exist any more; what a crash in between leaves is removed when the same
    call is made again.
    """
    found = has_row(store, recording)
    for parts in (
        ("catalog", "recordings", f"{recording}.parquet"),
        ("catalog", "events", f"{recording}.parquet"),
        ("catalog", "fingerprints", f"{recording}.npy"),
        ("recordings", f"{recording}.zarr"),
        ("catalog", "digests", f"{recording}.json"),
    ):
        found |= remove(store, *parts)
    return found


def remove(store: Store, *parts: str) -> bool:
    """Remove a file or folder below the root; returns whether it was there."""
    place = store.location(*parts)
    if not store.exists(*parts):
        return False
    with line_to(place):
        place.fs.rm(place.path, recursive=True)
    return True
