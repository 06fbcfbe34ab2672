"""A store: folders of finished products below one root, each published complete or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from emeg.errors import EmegError, MissingStoreError, UserError
from emeg.store import staging
from emeg.store.connection_errors import connection_to
from emeg.store.files import SCHEMA, StoreFiles, is_there, marker_of, preview_names
from emeg.store.migrations import migrate
from emeg.store.node_copies import NodeCopies
from emeg.uri import Location, locate

_OPTIONS = {
    "corpora": ("`emeg shard`", "--corpus"),
    "tokens": ("`emeg tokenize`", "--tokens"),
    "models": ("`emeg train-tokenizer` or `emeg pretrain`", "--model or --tokenizer"),
    "evaluations": ("`emeg evaluate`", "--evaluation"),
}
"""Verbs that make products, and the option that names one, by kind."""

OLDEST_READABLE = 1
"""Oldest version that can be read as it is; a writer migrates the store to `SCHEMA` first."""


class Store(StoreFiles):
    """Products below one root; use `Store.open`."""

    def __init__(self, root: Location) -> None:
        super().__init__(root)
        self._copies: NodeCopies | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copies of this process out."""
        return {**self.__dict__, "_copies": None}

    @classmethod
    def open(cls, uri: str | Path, *, create: bool = False) -> Self:
        """Open the store at an fsspec URI.

        Parameters
        ----------
        uri : str or Path
            Folder, ``s3://bucket/prefix``, ``memory://…`` or any other fsspec URI.
        create : bool
            Create a store if there is none.

        Raises
        ------
        MissingStoreError
            There is no store and `create` is false.
        UserError
            No store can be created, the folder holds something else, or a newer version of emeg wrote it.
        """
        store = cls(locate(uri))
        marker = store.root / "store.json"
        with connection_to(marker):
            if is_there(marker):
                schema = _schema(marker)
                if schema < (SCHEMA if create else OLDEST_READABLE):
                    migrate(store, schema)
                return store
            others = [child.name for child in store.root.children() if not child.name.startswith(staging.PARTIAL)]
        if others:
            raise UserError(
                f"{store.root}: is no emeg store (no store.json) and is not empty ({preview_names(others)});"
                " name another root, so that your files are not mixed with products"
            )
        if not create:
            raise MissingStoreError(
                f"{store.root}: there is no emeg store; create one with `emeg ingest`, or check the root"
            )
        try:
            store.write_json({"schema": SCHEMA}, "store.json")
        except OSError as error:
            raise UserError(
                f"{store.root}: a store cannot be made there ({error.strerror or error}); name another root"
            ) from error
        return store

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def _repr_html_(self) -> str:
        """Return a table of the datasets and products for a notebook."""
        from emeg.store.catalog.summary import store_html

        return store_html(self)

    def only(self, kind: str, name: str | None) -> str:
        """Resolve a product: `name` when it is there, else the only product of its kind.

        Raises
        ------
        UserError
            The named product is missing, or none was named and there is not exactly one; the message lists them.
        """
        if name is not None and self.has(kind, name):
            return name
        names = self.names(kind)
        maker, option = _OPTIONS.get(kind, ("its verb", "its option"))
        listed = f"name one of {preview_names(names)} with {option}" if names else f"make one first with {maker}"
        if name is not None:
            raise UserError(f"{self.root}: no {name!r} in {kind}/; {listed}")
        if len(names) != 1:
            raise UserError(f"{self.root}: {kind}/ holds {len(names)} products; {listed}")
        return names[0]

    @contextmanager
    def publishing(self, kind: str, name: str) -> Iterator[Path]:
        """Yield a local folder to write a product into; it becomes visible when the block ends without an error.

        Local root: the folder lies under ``.partial/``, is flushed to the disk and moved into place. Bucket: it is a
        temporary folder and is uploaded with the marker file last. On an error nothing becomes visible. Two writers
        of one product write the same bytes, so the second discards its own.

        Raises
        ------
        UserError
            The kind is unknown or the name is not a plain one.
        EmegError
            The block left no marker file.
        """
        target, marker = self.product_location(kind, name), marker_of(kind)
        with staging.staged(self.root, f"{kind}-{name}") as folder:
            yield folder
            if not (folder / marker).is_file():
                raise EmegError(f"{kind}/{name}: published without {marker}; write it before the block ends")
            if not self.has(kind, name):
                staging.publish(folder, target, marker)

    def local_copy(self, kind: str, name: str) -> Path:
        """Return a product as a local folder; a remote one is copied once for all processes of this machine.

        The copy is removed with the last `Store` that uses it. Treat the folder as read-only.

        Raises
        ------
        UserError
            The product is not there.
        """
        product = self.product_location(kind, name)
        if not self.has(kind, name):
            raise UserError(f"{product}: no such product, or not complete; name another, or make it again")
        if self.root.is_local:
            return product.local_path()
        if self._copies is None:
            self._copies = NodeCopies(self)
        return self._copies.get(product, product / marker_of(kind))

    def sweep(self) -> int:
        """Remove what interrupted writers left under ``.partial``, but not the work of live ones; return the number."""
        return staging.sweep(self.root)


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
