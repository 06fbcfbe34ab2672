"""Migrations of a store from one schema version to the next.

Each migration is one registered function. It may be stopped at any point and repeated, and two processes may run it at
once: what it writes depends on the store alone, and ``store.json`` is written after it.
"""

import logging
from collections.abc import Callable

from emeg.errors import UserError
from emeg.store.digests import compute_digest, read_digest
from emeg.store.files import SCHEMA, StoreFiles

logger = logging.getLogger(__name__)

MIGRATIONS: dict[int, Callable[[StoreFiles], None]] = {}
"""Migration from version n to n + 1, by n."""


def migration(version: int) -> Callable[[Callable[[StoreFiles], None]], Callable[[StoreFiles], None]]:
    """Register the migration from `version` to the next."""

    def register(function: Callable[[StoreFiles], None]) -> Callable[[StoreFiles], None]:
        MIGRATIONS[version] = function
        return function

    return register


def migrate(store: StoreFiles, version: int) -> None:
    """Migrate a store of an older version to `SCHEMA`, version by version.

    Raises
    ------
    UserError
        There is no migration from that version.
    """
    for step in range(version, SCHEMA):
        if step not in MIGRATIONS:
            raise UserError(f"{store.root}: schema {step} cannot be brought up to {SCHEMA}; ingest into a new store")
        logger.info("%s: from schema %d to %d", store.root, step, step + 1)
        MIGRATIONS[step](store)
        store.write_json({"schema": step + 1}, "store.json")


@migration(1)
def _note_digests(store: StoreFiles) -> None:
    """Record SHA-256 digests of every recording's files in ``catalog/digests/``, new in version 2."""
    for name in store.names("recordings"):
        recording = name.removesuffix(".zarr")
        if read_digest(store, recording) is None:
            store.write_json(compute_digest(store, recording), "catalog", "digests", f"{recording}.json")


@migration(2)
def _leave_unmeasured(_: StoreFiles) -> None:
    """Migrate to version 3, which keeps quality measures in recordings and their aggregates in rows.

    Nothing is rewritten, because the measures need the source. Older recordings count as not measured
    (`Recording.measures` is `None`, the columns are null) until they are ingested into another store.
    """
