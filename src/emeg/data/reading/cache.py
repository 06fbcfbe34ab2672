"""The verb ``cache``: what the local copies of a bucket's shards take, whether they are whole, and their end."""

from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from emeg.config import Config
from emeg.data.reading.shard_cache import ShardCache
from emeg.errors import UserError
from emeg.progress import Progress, silent


class CacheConfig(Config):
    """Look after a cache of shards; safe while trainings use it."""

    folder: str
    """Folder of the cache: `cache` of a recipe's sampling."""
    action: Literal["show", "verify", "clear"] = "show"
    """show: count; verify: hash every file and remove those that are wrong; clear: remove all."""
    limit_gib: PositiveFloat | None = None
    """Remove the longest unused until the rest is within this size, GiB."""


class CacheResult(Config):
    """What the cache holds afterwards."""

    n_shards: int
    """Whole shards."""
    gib: float
    """Their size, GiB."""
    n_removed: int
    """Shards removed to keep to the limit, or by clear."""
    n_wrong: int
    """Shards removed since their bytes are not those they were named after; verify finds them."""
    n_unfinished: int
    """Copies removed that a crash had cut short."""
    path: str
    """The folder."""


def cache(config: CacheConfig, *, progress: Progress = silent) -> CacheResult:
    """Show, verify or clear a cache; with `limit_gib`, make it smaller.

    Raises
    ------
    UserError
        There is no such folder.
    """
    folder = Path(config.folder).absolute()
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; a training with sampling.cache makes it")
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
