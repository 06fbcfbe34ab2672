"""A store: folders of finished products below one root, each published whole or not at all."""

import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from emeg.errors import EmegError, UserError
from emeg.store import staging
from emeg.store.faults import line_to
from emeg.uri import Location, locate

SCHEMA = 3
"""Version of the store's arrangement; a store with a larger one is refused. What changed: `emeg.store.migrations`."""

OLDEST_READABLE = 1
"""A store from this version on is read as it is; who writes to it brings it up to `SCHEMA` first."""

MARKERS = {
    "recordings": "zarr.json",
    "corpora": "manifest.json",
    "tokens": "manifest.json",
    "models": "config.json",
    "evaluations": "figures.json",
    "reports": "index.html",
}
"""For each room the file that a complete product has; in a bucket it is uploaded last."""

PARALLEL_REQUESTS = 16
"""Requests in flight when many small objects are asked for: latency, not bandwidth, is the cost."""


class Store:
    """Products below one root; use `Store.open`."""

    def __init__(self, root: Location) -> None:
        self.root = root
        self._downloads: Path | None = None

    @classmethod
    def open(cls, uri: str | Path, *, create: bool = False) -> Self:
        """Open the store at an fsspec URI.

        Parameters
        ----------
        uri : str or Path
            Folder, ``s3://bucket/prefix``, ``memory://…`` or any other fsspec URI.
        create : bool
            Make a store where there is nothing yet.

        Raises
        ------
        UserError
            There is no store and `create` is false, none can be made, the folder holds something else, or a newer emeg
            wrote it.
        """
        store = cls(locate(uri))
        marker = store.root / "store.json"
        with line_to(marker):
            if _there(marker):
                schema = _schema(marker)
                if schema < (SCHEMA if create else OLDEST_READABLE):
                    from emeg.store.migrations import migrate

                    migrate(store, schema)
                return store
            others = [child.name for child in store.root.children() if not child.name.startswith(staging.PARTIAL)]
        if others:
            raise UserError(
                f"{store.root}: is no emeg store (no store.json) and is not empty ({_preview(others)});"
                " name another root, so that nothing of yours is mixed with products"
            )
        if not create:
            raise UserError(f"{store.root}: there is no emeg store; `emeg ingest` makes one, or check the root")
        try:
            store.write_json({"schema": SCHEMA}, "store.json")
        except OSError as error:
            raise UserError(f"{store.root}: a store cannot be made there: {error.strerror or error}") from error
        return store

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def location(self, *parts: str) -> Location:
        """Place below the root."""
        place = self.root
        for part in parts:
            place = place / part
        return place

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder below the root, asked anew every time."""
        return _there(self.location(*parts))

    def has(self, room: str, name: str) -> bool:
        """Whether the complete product is there."""
        return _there(self._product(room, name) / _marker(room))

    def names(self, room: str) -> list[str]:
        """Names of the complete products of a room, sorted."""
        marker = _marker(room)
        with line_to(self.root):
            folders = [child for child in self.location(room).children() if not child.name.startswith(".")]
        if self.root.is_local:
            return [folder.name for folder in folders if (folder / marker).exists()]
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            complete = list(pool.map(lambda folder: _there(folder / marker), folders))
        return [folder.name for folder, there in zip(folders, complete, strict=True) if there]

    def only(self, room: str, name: str | None) -> str:
        """Resolve a product: `name` when it is there, else the only product of the room.

        Raises
        ------
        UserError
            The named product is missing, or none was named and there is not exactly one; the message lists them.
        """
        if name is not None and self.has(room, name):
            return name
        names = self.names(room)
        listed = f"there are {_preview(names)}" if names else "there is none yet"
        if name is not None:
            raise UserError(f"{self.root}: no {name!r} in {room}/; {listed}")
        if len(names) != 1:
            raise UserError(f"{self.root}: {room}/ must hold one product or one must be named; {listed}")
        return names[0]

    @contextmanager
    def publishing(self, room: str, name: str) -> Iterator[Path]:
        """Give a local folder to write a product into; it becomes visible when the block ends without an error.

        Local root: the folder lies under ``.partial/``, is flushed to the disk and moved into place. Bucket: it is a
        temporary folder and is uploaded with the marker file last. On an error nothing becomes visible. Two writers
        of one product write the same bytes, so whoever comes second discards its own.

        Raises
        ------
        UserError
            The room is unknown or the name is not a plain one.
        EmegError
            The block left no marker file.
        """
        target, marker = self._product(room, name), _marker(room)
        with staging.staged(self.root, f"{room}-{name}") as folder:
            yield folder
            if not (folder / marker).is_file():
                raise EmegError(f"{room}/{name}: published without {marker}; a product is complete only with it")
            if not self.has(room, name):
                staging.publish(folder, target, marker)

    def read_bytes(self, *parts: str) -> bytes:
        """Read one file below the root; like all that asks a store, `TransientError` where a bucket does not answer."""
        place = self.location(*parts)
        with line_to(place):
            return place.read_bytes()

    def read_json(self, *parts: str) -> Any:  # noqa: ANN401 - JSON
        """Read one JSON file below the root."""
        place = self.location(*parts)
        with line_to(place):
            return place.read_json()

    def children(self, *parts: str) -> list[Location]:
        """Entries of a folder below the root, sorted by name; empty where there is no folder."""
        place = self.location(*parts)
        with line_to(place):
            return place.children()

    def remove(self, *parts: str) -> bool:
        """Remove a file or folder below the root; returns whether it was there."""
        if not self.exists(*parts):
            return False
        place = self.location(*parts)
        with line_to(place):
            place.fs.rm(place.path, recursive=True)
        return True

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write one file below the root, whole or not at all, replacing an older one."""
        staging.write_file(self.root, self.location(*parts), data)

    def write_json(self, value: object, *parts: str) -> None:
        """Write one JSON file, as `write_bytes` does; equal values are equal bytes."""
        self.write_bytes(staging.json_bytes(value), *parts)

    def local_copy(self, room: str, name: str) -> Path:
        """Product as a local folder; downloaded once for this `Store` where the root is remote.

        The download is removed when the `Store` is let go. Treat the folder as read-only.

        Raises
        ------
        UserError
            The product is not there.
        """
        product = self._product(room, name)
        if not self.has(room, name):
            raise UserError(f"{product}: no such product, or not complete")
        if self.root.is_local:
            return product.local_path()
        if self._downloads is None or not self._downloads.is_dir():
            self._downloads = Path(tempfile.mkdtemp(prefix="emeg-"))
            weakref.finalize(self, staging.remove_own, self._downloads, staging.process_id())
        copy = self._downloads / room / name
        if not copy.is_dir():
            staging.download(product, copy)
        return copy

    def sweep(self) -> int:
        """Remove what interrupted writers left under ``.partial``; returns how many pieces. Live ones are kept."""
        return staging.sweep(self.root)

    def _product(self, room: str, name: str) -> Location:
        _marker(room)
        if not name or "/" in name or name.startswith("."):
            raise UserError(f"{name!r}: not a product name; names have no slash and no leading dot")
        return self.location(room, name)


def _marker(room: str) -> str:
    try:
        return MARKERS[room]
    except KeyError:
        raise UserError(f"{room!r}: not a room of the store; there are {', '.join(MARKERS)}") from None


def _there(place: Location) -> bool:
    # Object stores' listings are cached by fsspec; another process may have published since.
    if not place.is_local:
        place.fs.invalidate_cache(place.path.rsplit("/", 1)[0])
    with line_to(place):
        return place.exists()


def _schema(marker: Location) -> int:
    try:
        schema = marker.read_json()["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{marker}: not a store's description ({error}); restore it or rebuild") from error
    if not isinstance(schema, int):
        raise UserError(f"{marker}: schema {schema!r} is no number; restore it or rebuild")
    if schema > SCHEMA:
        raise UserError(f"{marker}: schema {schema} is newer than this emeg, which knows {SCHEMA}; update emeg")
    return schema


def _preview(names: list[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
