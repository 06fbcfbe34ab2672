"""The verb ``copies``: the same data under two names, in one dataset or in two."""

import io
import logging
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from emeg.config import Config, runtime_field
from emeg.ingest.fingerprint import find_copies, fingerprint, live_blocks
from emeg.progress import Progress, silent
from emeg.store import BadReason, CatalogRow, Store, open_recording, read_catalog
from emeg.store.copies import CopiedRecording, write_copies

logger = logging.getLogger(__name__)

STRETCH_S = 60


class CopiesConfig(Config):
    """Find recordings that hold the same data, in whatever format, scale, rate, order of channels or part."""

    root: str = runtime_field(...)
    """Store: a folder or any fsspec URI."""


class CopiesResult(Config):
    """What was found; also in catalog/copies.json, where `emeg shard` reads it."""

    n_recordings: int
    """Recordings compared."""
    n_too_short: int
    """Recordings shorter than the 28 s that a comparison needs."""
    copies: tuple[str, ...]
    """Pairs of sources that share data."""
    n_across_people: int
    """Pairs of two people's names: they are kept in one split."""


def copies(config: CopiesConfig, *, progress: Progress = silent) -> CopiesResult:
    """Compare every recording with every other and note the pairs that share data.

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
        tracks[name] = _kept(store, name)
        progress(i + 1, len(rows), f"{rows[name].source}: fingerprint")
    found = find_copies(tracks)
    write_copies(store, [CopiedRecording(**match._asdict()) for match in found])
    pairs = [(rows[match.first], rows[match.second]) for match in found]
    for first, second in pairs:
        logger.warning("the same data twice: %s and %s", _named(first), _named(second))
    return CopiesResult(
        n_recordings=len(rows),
        n_too_short=sum(len(track) == 0 for track in tracks.values()),
        copies=tuple(f"{_named(first)} = {_named(second)}" for first, second in pairs),
        n_across_people=sum((a.dataset, a.subject) != (b.dataset, b.subject) for a, b in pairs),
    )


def _named(row: CatalogRow) -> str:
    return str(PurePosixPath(row.dataset) / row.source)


def _kept(store: Store, name: str) -> NDArray[np.float32]:
    parts = ("catalog", "fingerprints", f"{name}.npy")
    if store.exists(*parts):
        found = np.load(io.BytesIO(store.read_bytes(*parts)), allow_pickle=False)
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
