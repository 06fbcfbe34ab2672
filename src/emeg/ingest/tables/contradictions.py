"""Compare a sidecar with its file: note a contradiction, or refuse the recording if the right value is unknown."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from emeg.errors import RecordingError
from emeg.ingest.refusals import quoted
from emeg.ingest.tables.sidecars import Sidecars
from emeg.ingest.tables.type_setting import channel_types
from emeg.ingest.text_files import ABSENT, number
from emeg.ingest.units import hertz, seconds

if TYPE_CHECKING:
    import mne

_TOLERANCE = 0.01
_SHORTEST_S = 1.0
_MAINS_HZ = (40.0, 70.0)
"""Frequencies of power grids, Hz; no other frequency is removed with its harmonics."""

_READ: dict[str, Callable[[object], float | None]] = {"SamplingFrequency": hertz, "RecordingDuration": seconds}
_COUNTS = {"EEGChannelCount": "eeg", "EOGChannelCount": "eog", "ECGChannelCount": "ecg", "EMGChannelCount": "emg"}
_COUNTS |= {"SEEGChannelCount": "seeg", "ECOGChannelCount": "ecog"}


def compare(raw: "mne.io.BaseRaw", sidecars: Sidecars, *, sfreq: float, n_times: int) -> tuple[str, ...]:
    """Compare rate, length and numbers of channels, and note differences.

    The file's rate is used, because a sidecar is often copied from before resampling. But if a sidecar's rate and
    length agree with each other and with the number of samples, the file's rate is wrong.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The open file with all its channels.
    sidecars : Sidecars
    sfreq : float
        Rate of the chosen channels, Hz.
    n_times : int
        Samples of the chosen channels.

    Raises
    ------
    RecordingError
        Such a sidecar: every frequency and every latency would be wrong by the same factor.
    """
    notes: list[str] = []
    rate, length = (_stated(sidecars, key, read, notes) for key, read in _READ.items())
    if rate > 0.0 and not _close(rate, sfreq):
        if length > _SHORTEST_S and _close(n_times / rate, length) and not _close(n_times / sfreq, length):
            raise RecordingError(
                f"the sidecar's SamplingFrequency of {rate:g} Hz and RecordingDuration of {length:g} s fit the"
                f" {n_times} samples, the file's rate of {sfreq:g} Hz does not: one of them is wrong",
                next_action="correct the rate in the file or in the sidecar",
            )
        notes.append(f"sidecar: SamplingFrequency is {rate:g} Hz, the file has {sfreq:g} Hz; the file's was used")
    held = n_times / sfreq
    if length > 0.0 and abs(length - held) > max(_SHORTEST_S, _TOLERANCE * length):
        notes.append(f"sidecar says {length:g} s, the file holds {held:.3f} s")
    types = channel_types(raw)
    for key, kind in _COUNTS.items():
        stated = _stated(sidecars, key, number, notes)
        if stated > 0.0 and stated != types.count(kind):
            notes.append(f"sidecar: {key} is {stated:g}, the file and its channels table have {types.count(kind)}")
    return tuple(notes)


def _stated(sidecars: Sidecars, key: str, read: Callable[[object], float | None], notes: list[str]) -> float:
    """Return a number of the sidecar, 0 where it is not stated or cannot be read; the latter is noted."""
    entry = sidecars.json.get(key)
    found = read(entry)
    if found is None and entry is not None and str(entry).strip() not in ABSENT:
        notes.append(f"sidecar: {key} {quoted(str(entry))} is no number; not compared with the file")
    return found or 0.0


def believable_mains(stated: float, notes: list[str]) -> float:
    """Return a stated mains frequency if a grid can have it, else 0 and a note."""
    if stated == 0.0 or _MAINS_HZ[0] <= stated <= _MAINS_HZ[1]:
        return stated
    notes.append(f"a mains frequency of {stated:g} Hz is stated, which no grid has; not believed")
    return 0.0


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= _TOLERANCE * max(abs(one), abs(other))
