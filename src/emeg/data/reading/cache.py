"""The verb ``cache``: show, verify or clear the local copies of a bucket's shards."""

from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from emeg.config import Config
from emeg.data.reading.shard_cache import ShardCache
from emeg.errors import UserError
from emeg.progress import Progress, silent


class CacheConfig(Config):
    """Show, verify or clear a cache of shards; safe while trainings use it."""

    folder: str
    """Folder of the cache (`sampling.cache` of the training)."""
    action: Literal["show", "verify", "clear"] = "show"
    """show: count files; verify: check every SHA-256 and remove damaged files; clear: remove all."""
    limit_gib: PositiveFloat | None = None
    """Remove the least recently used files until the cache is within this size, GiB."""


class CacheResult(Config):
    """Content of the cache after the call."""

    n_shards: int
    """Complete shards."""
    gib: float
    """Their size, GiB."""
    n_removed: int
    """Shards removed by the limit or by clear."""
    n_wrong: int
    """Damaged shards found and removed by verify."""
    n_unfinished: int
    """Incomplete copies of a crash that were removed."""
    path: str
    """Folder of the cache."""


def cache(config: CacheConfig, *, progress: Progress = silent) -> CacheResult:
    """Show, verify, clear or shrink a cache of shards.

    Raises
    ------
    UserError
        There is no such folder.
    """
    folder = Path(config.folder).absolute()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder; give the folder that a training created with --sampling.cache"
        )
    kept = ShardCache(folder, 0 if config.limit_gib is None else round(config.limit_gib * 2**30))
    n_unfinished = kept.sweep()
    wrong = kept.verify(progress) if config.action == "verify" else []
    n_removed = 0
    if config.action == "clear" or config.limit_gib is not None:
        n_removed = kept.trim(0 if config.action == "clear" else None)
    entries = kept.entries()
    return CacheResult(
        n_shards=len(entries),
        gib=sum(entry.n_bytes for entry in entries) / 2**30,
        n_removed=n_removed,
        n_wrong=len(wrong),
        n_unfinished=n_unfinished,
        path=str(folder),
    )
