"""Remove a recording from the store in the reverse order of publishing, so that no incomplete recording exists."""

from emeg.store.catalog.tables import has_row
from emeg.store.products import Store


def remove_recording(store: Store, recording: str) -> bool:
    """Remove a recording's row, then its events and its signal; return whether there was anything.

    Without its row, the recording no longer exists. After a crash, the same call removes the rest.
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
