"""SHA-256 of the files of a recording: ``catalog/digests/<recording>.json`` maps path in its folder to digest.

The codecs' checksums find a flipped bit in a chunk; digests find every other change as well: metadata, attributes, a
shard of another recording, an additional file.
"""

from pathlib import Path

from emeg.hashing import sha256_bytes, sha256_file
from emeg.store.connection_errors import connection_to
from emeg.store.files import StoreFiles


def write_digest(store: StoreFiles, recording: str, folder: Path) -> None:
    """Record the digests of a recording that is about to be published from `folder`."""
    files = {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    store.write_json(files, "catalog", "digests", f"{recording}.json")


def read_digest(store: StoreFiles, recording: str) -> dict[str, str] | None:
    """Read the digests by path; `None` where none were recorded."""
    if not store.exists("catalog", "digests", f"{recording}.json"):
        return None
    digests: dict[str, str] = store.read_json("catalog", "digests", f"{recording}.json")
    return digests


def compute_digest(store: StoreFiles, recording: str) -> dict[str, str]:
    """Compute the digests of the files in the store."""
    folder = store.location("recordings", f"{recording}.zarr")
    prefix = folder.path.rstrip("/") + "/"
    with connection_to(folder):
        folder.fs.invalidate_cache()
        paths = sorted(folder.fs.find(folder.path))
        return {path[len(prefix) :]: sha256_bytes(folder.fs.cat_file(path)) for path in paths}
