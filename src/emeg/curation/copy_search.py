"""The verb ``copies``: find the same data under two names, in one dataset or in two.

Shape letters: C channels, T values of a fingerprint.
"""

import io
import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from emeg.config import Config, runtime_field
from emeg.curation.fingerprints import SHORTEST_S, find_copies, fingerprint, live_blocks
from emeg.progress import Progress, silent
from emeg.store import BadReason, CatalogRow, Store, open_recording, read_catalog
from emeg.store.copies import CopiedRecording, write_copies
from emeg.store.digests import read_digest

logger = logging.getLogger(__name__)

STRETCH_S = 60


class CopiesConfig(Config):
    """Find recordings that hold the same data, in whatever format, scale, rate, order of channels or part."""

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""


class CopiesResult(Config):
    """Result of the search; it is also in catalog/copies.json, where `emeg shard` reads it."""

    n_recordings: int
    """Recordings compared."""
    too_short: tuple[str, ...]
    """Recordings shorter than the 18 s that a comparison needs; of these only identical ones are found."""
    copies: tuple[str, ...]
    """Pairs of sources that share data."""
    n_across_people: int
    """Pairs of two people's names: they are kept in one split."""


def copies(config: CopiesConfig, *, progress: Progress = silent) -> CopiesResult:
    """Find the pairs of recordings that share data, and record them in the store.

    Fingerprints are kept in ``catalog/fingerprints/`` and computed once for each recording.

    Raises
    ------
    UserError
        There is no such store.
    """
    store = Store.open(config.root)
    rows = {row.recording: row for row in read_catalog(store)}
    tracks = {}
    for i, name in enumerate(rows):
        tracks[name] = recording_fingerprint(store, rows[name])
        progress(i + 1, len(rows), f"{rows[name].source}: fingerprint")
    too_short = [name for name, track in tracks.items() if not len(track)]
    found = [CopiedRecording(**match._asdict()) for match in find_copies(tracks)] + _identical(store, too_short)
    write_copies(store, found)
    pairs = [(rows[match.first], rows[match.second]) for match in found]
    for first, second in pairs:
        logger.warning("the same data twice: %s and %s", _named(first), _named(second))
    return CopiesResult(
        n_recordings=len(rows),
        too_short=tuple(sorted(_named(rows[name]) for name in too_short)),
        copies=tuple(f"{_named(first)} = {_named(second)}" for first, second in pairs),
        n_across_people=sum((a.dataset, a.subject) != (b.dataset, b.subject) for a, b in pairs),
    )


def _named(row: CatalogRow) -> str:
    return str(PurePosixPath(row.dataset) / row.source)


def _identical(store: Store, names: Iterable[str]) -> list[CopiedRecording]:
    """Find recordings with the same stored signal, byte for byte."""
    alike: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for name in sorted(names):
        digest = read_digest(store, name) or {}
        signal = tuple(sorted(item for item in digest.items() if item[0].startswith(("signal/c/", "step/c/"))))
        if signal:
            alike[signal].append(name)
    return [
        CopiedRecording(first=group[0], second=other, correlation=1.0, offset_s=0.0)
        for group in alike.values()
        for other in group[1:]
    ]


def recording_fingerprint(store: Store, row: CatalogRow) -> NDArray[np.float32]:
    """Return the fingerprint of a recording, float32 of shape (values,), computed once and kept in the catalogue."""
    name = row.recording
    parts = ("catalog", "fingerprints", f"{name}.npy")
    if store.exists(*parts):
        found = np.load(io.BytesIO(store.read_bytes(*parts)), allow_pickle=False)
        if len(found) or row.duration_s < SHORTEST_S:  # earlier versions made no fingerprints of recordings up to 28 s
            return np.asarray(found, np.float32)
    recording = open_recording(store, name)
    live_C = np.asarray(((recording.bad & int(BadReason.FLAT)) == 0).any(axis=1), np.bool_)
    length = round(STRETCH_S * recording.sfreq)
    stretches = (
        recording.read(start, min(start + length, recording.n_samples))
        for start in range(0, recording.n_samples, length)
    )
    track_T = fingerprint(live_blocks(stretches, live_C), sfreq=recording.sfreq)
    sink = io.BytesIO()
    np.save(sink, track_T, allow_pickle=False)
    store.write_bytes(sink.getvalue(), *parts)
    return track_T
