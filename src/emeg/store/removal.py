"""Taking a recording out of the store, in the opposite order of its publishing: what exists is never incomplete."""

from emeg.store.catalog.tables import has_row
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
        found |= store.remove(*parts)
    return found
