"""Choose which stretches of which recordings become segments, and read their stored samples.

Shape letters: C channels, N samples, S seconds, K chunks of a stored segment.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.store import BadReason, CatalogRow, Recording, Store, open_recording, read_catalog

UNUSABLE = BadReason.FLAT | BadReason.NAN
"""Reasons for which a second of a channel carries no signal."""


class Stretch(NamedTuple):
    """Position of a segment: the index of its recording and its first sample there."""

    recording: int
    start: int


class Cut(NamedTuple):
    """Segments of one recording."""

    starts: tuple[int, ...]
    n_left_out: int
    n_samples: int
    sfreq: float
    chunk: int


def choose_recordings(
    store: Store, datasets: Sequence[str], exclude_devices: Sequence[str], config_hashes: Sequence[str]
) -> list[CatalogRow]:
    """Return the catalogue rows of a corpus, sorted by recording; empty rooms and phantoms are excluded.

    Raises
    ------
    UserError
        No recording is left, a dataset or device is unknown, or a dataset was ingested with more than one
        configuration (its subjects would be in the corpus twice, filtered differently).
    """
    rows = read_catalog(store)
    _known("datasets", datasets, {row.dataset for row in rows})
    _known("exclude_devices", exclude_devices, {row.device for row in rows})
    _known("config_hashes", config_hashes, {row.config_hash for row in rows})
    rows = [
        row
        for row in rows
        if (not datasets or row.dataset in datasets)
        and row.device not in exclude_devices
        and (not config_hashes or row.config_hash in config_hashes)
        and row.contents == "brain"
    ]
    if not rows:
        raise UserError(f"{store.root}: no recording is left for a corpus; run `emeg ingest` first, or exclude less")
    for dataset in sorted({row.dataset for row in rows}):
        found = sorted({row.config_hash for row in rows if row.dataset == dataset})
        if len(found) > 1:
            raise UserError(
                f"dataset {dataset} was ingested with {len(found)} configurations ({', '.join(found)}); its recordings"
                " would be in the corpus more than once: choose one with config_hashes"
            )
    return rows


def _known(field: str, asked: Sequence[str], there: set[str]) -> None:
    if unknown := sorted(set(asked) - there):
        raise UserError(
            f"{field}: the catalogue has no {', '.join(unknown)}; choose from {', '.join(sorted(there)) or 'nothing'}"
        )


def cut(recording: Recording, n_segment: int, max_bad_channels: float) -> Cut:
    """Cut each stretch of a recording into adjacent segments; the remainder at a stretch's end is dropped.

    A recording without a pause is one stretch. A segment is left out where, in any second, more than
    `max_bad_channels` of the channels are flat or not a number.
    """
    starts = [s for one in recording.stretches for s in range(one.start, one.stop - n_segment + 1, n_segment)]
    good = [s for s in starts if is_usable(recording.bad, s, s + n_segment, recording.sfreq, max_bad_channels)]
    return Cut(tuple(good), len(starts) - len(good), recording.n_samples, recording.sfreq, recording.chunk)


def is_usable(bad: NDArray[np.uint8], start: int, stop: int, sfreq: float, max_bad_channels: float) -> bool:
    """Return whether enough channels carry a signal in every second that samples `start` to `stop` touch.

    Parameters
    ----------
    bad : uint8, shape (channels, seconds)
        Bits of `BadReason`, dimensionless.
    start, stop : int
        Samples of the recording.
    sfreq : float
        Sampling rate, Hz.
    max_bad_channels : float
        Largest share of channels without a signal.
    """
    seconds = bad[:, int(start / sfreq) : -int(-stop // sfreq)]
    if not seconds.size:
        return True
    share = ((seconds & np.uint8(UNUSABLE)) != 0).mean(axis=0)
    return bool(share.max() <= max_bad_channels)


def read_stretch(recording: Recording, start: int, n_segment: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the stored samples (C, N) and the scales (C, K) of the chunks they touch, without requantising."""
    chunk = recording.chunk
    first = start // chunk * chunk
    last = min(-(-(start + n_segment) // chunk) * chunk, recording.n_samples)
    signal, scale = recording.read_stored(first, last)
    return signal[:, start - first : start - first + n_segment], scale


def open_all(store: Store, rows: Sequence[CatalogRow], n_recent: int = 64) -> "RecordingCache":
    """Return the recordings of `rows`, opened when they are read."""
    return RecordingCache(store, [row.recording for row in rows], n_recent)


class RecordingCache:
    """Recordings by index, opened on demand. The latest stay open, since opening costs several reads."""

    def __init__(self, store: Store, recordings: Sequence[str], n_recent: int) -> None:
        self._store = store
        self._recordings = recordings
        self._n_recent = n_recent
        self._open: dict[int, Recording] = {}

    def __getitem__(self, number: int) -> Recording:
        recording = self._open.pop(number, None)
        if recording is None:
            recording = open_recording(self._store, self._recordings[number])
        self._open[number] = recording
        while len(self._open) > self._n_recent:
            self._open.pop(next(iter(self._open)))
        return recording
