"""Read and write files and folders below the root of a store."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from emeg.errors import UserError
from emeg.files import json_bytes
from emeg.store import staging
from emeg.store.connection_errors import connection_to
from emeg.uri import Location

SCHEMA = 3
"""Version of the store's format; a store with a larger one is refused. Changes: `emeg.store.migrations`."""

MARKERS = {
    "recordings": "zarr.json",
    "corpora": "manifest.json",
    "tokens": "manifest.json",
    "models": "config.json",
    "embeddings": "config.json",
    "evaluations": "figures.json",
    "reports": "index.html",
}
"""File that a complete product of each kind has; in a bucket it is uploaded last."""

PARALLEL_REQUESTS = 16
"""Concurrent requests for many small objects, whose cost is latency and not bandwidth."""


class StoreFiles:
    """Files, folders and complete products below one root; `Store` adds opening and publishing."""

    def __init__(self, root: Location) -> None:
        self.root = root

    def location(self, *parts: str) -> Location:
        """Return the location below the root."""
        location = self.root
        for part in parts:
            location = location / part
        return location

    def exists(self, *parts: str) -> bool:
        """Return whether there is a file or folder below the root; asks the file system every time."""
        return is_there(self.location(*parts))

    def has(self, kind: str, name: str) -> bool:
        """Return whether the complete product is there."""
        return is_there(self.product_location(kind, name) / marker_of(kind))

    def names(self, kind: str) -> list[str]:
        """Return the names of the complete products of a kind, sorted."""
        marker = marker_of(kind)
        with connection_to(self.root):
            folders = [child for child in self.location(kind).children() if not child.name.startswith(".")]
        if self.root.is_local:
            return [folder.name for folder in folders if (folder / marker).exists()]
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            complete = list(pool.map(lambda folder: is_there(folder / marker), folders))
        return [folder.name for folder, there in zip(folders, complete, strict=True) if there]

    def read_bytes(self, *parts: str) -> bytes:
        """Read one file below the root; raise `TransientError` where a bucket does not answer."""
        location = self.location(*parts)
        with connection_to(location):
            return location.read_bytes()

    def read_json(self, *parts: str) -> Any:  # noqa: ANN401 - JSON
        """Read one JSON file below the root."""
        location = self.location(*parts)
        with connection_to(location):
            return location.read_json()

    def children(self, *parts: str) -> list[Location]:
        """Return the entries of a folder below the root, sorted by name; empty where there is no folder."""
        location = self.location(*parts)
        with connection_to(location):
            return location.children()

    def remove(self, *parts: str) -> bool:
        """Remove a file or folder below the root; return whether it was there."""
        if not self.exists(*parts):
            return False
        location = self.location(*parts)
        with connection_to(location):
            location.fs.rm(location.path, recursive=True)
        return True

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write one file below the root, whole or not at all, replacing an older one."""
        staging.write_file(self.root, self.location(*parts), data)

    def write_json(self, value: object, *parts: str) -> None:
        """Write one JSON file, as `write_bytes` does; equal values are equal bytes."""
        self.write_bytes(json_bytes(value), *parts)

    def product_location(self, kind: str, name: str) -> Location:
        """Return the location of a product, complete or not.

        Raises
        ------
        UserError
            The kind is unknown or the name is not a plain one.
        """
        marker_of(kind)
        if not name or "/" in name or name.startswith("."):
            raise UserError(f"{name!r}: not a product name; use one without a slash and a leading dot")
        return self.location(kind, name)


def marker_of(kind: str) -> str:
    """Return the file that a complete product of this kind has.

    Raises
    ------
    UserError
        The kind is unknown.
    """
    try:
        return MARKERS[kind]
    except KeyError:
        raise UserError(f"{kind!r}: not a kind of product; choose from {', '.join(MARKERS)}") from None


def is_there(location: Location) -> bool:
    """Return whether a file or folder exists, without using a cached listing."""
    # Object stores' listings are cached by fsspec; another process may have published since.
    if not location.is_local:
        location.fs.invalidate_cache(location.path.rsplit("/", 1)[0])
    with connection_to(location):
        return location.exists()


def preview_names(names: list[str], most: int = 8) -> str:
    """Return the first `most` names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
