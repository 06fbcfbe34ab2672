"""Facts of a Neuroscan ``.cnt`` file that MNE-Python ignores: its data format, and where it was spliced.

References
----------
Paul Bourke, EEG data file formats, https://paulbourke.net/dataformats/eeg/ (SETUP, TEEG, EVENT1 to EVENT3).
EEGLAB, pop_loadcnt.m: events with 11 or 14 in the upper half of the code of acceptance are boundaries.
"""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from emeg.errors import RecordingError
from emeg.ingest.refusals import malformed, short

if TYPE_CHECKING:
    import mne

_SETUP_BYTES, _CHANNEL_BYTES = 900, 75
_CHANNELS_AT, _RATE_AT, _SAMPLES_AT, _EVENTS_AT = 370, 376, 864, 886
_TEEG_BYTES = 9
_EVENT_BYTES = {1: 8, 2: 19, 3: 19}
_SPLICES = frozenset({11, 14})
"""Upper halves of a code of acceptance: the amplifier was reset (11), or the recording was interrupted (14)."""
_BEGINNING = b"Version"

DataFormat = Literal["int16", "int32"]


class _Setup(NamedTuple):
    n_channels: int
    sfreq: int
    n_samples: int
    events_at: int
    size: int

    @property
    def data_at(self) -> int:
        return _SETUP_BYTES + _CHANNEL_BYTES * self.n_channels


def is_neuroscan(path: Path) -> bool:
    """Return whether a ``.cnt`` file is Neuroscan's; ANT Neuro's is a RIFF container."""
    with path.open("rb") as file:
        return file.read(4) not in {b"RIFF", b"RF64"}


def check_cnt(path: Path, name: str) -> None:
    """Refuse a Neuroscan file whose numbers of channels, samples and bytes do not fit each other.

    Raises
    ------
    RecordingError
        The file is short, or its header contradicts itself.
    """
    with path.open("rb") as file:
        if file.read(len(_BEGINNING)) != _BEGINNING:
            raise malformed(name, "it begins neither as a CNT file of ANT Neuro nor as one of Neuroscan")
    setup = _read_setup(path, name)
    if setup.n_channels < 1 or setup.sfreq < 1:
        raise malformed(name, f"{setup.n_channels} channels at {setup.sfreq} Hz")
    if setup.size <= setup.data_at:
        raise short(name, size=setup.size, promised=setup.data_at, what="the header")
    data_format(path, name)


def data_format(path: Path, name: str) -> DataFormat:
    """Return how the samples of a Neuroscan file are stored.

    The header does not say it. The bytes between header and event table are those of the header's samples in one of the
    two formats; where the table's position is not stated, or has run over in a file beyond two gigabytes, those up to
    the file's end are. A header without a number of samples leaves the 16-bit format, which all but SynAmps2 wrote.

    Raises
    ------
    RecordingError
        Neither format fits.
    """
    setup = _read_setup(path, name)
    frame = 2 * setup.n_channels
    stated = setup.events_at if setup.data_at < setup.events_at <= setup.size else setup.size
    held = stated - setup.data_at
    if setup.n_samples <= 0:
        return "int16"
    for found, width in (("int16", 1), ("int32", 2)):
        if held == width * frame * setup.n_samples:
            return "int16" if found == "int16" else "int32"
    # The number of samples in a header is often that of another state of the file; it still tells 2 bytes from 4.
    per_value = held / (setup.n_channels * setup.n_samples)
    if abs(per_value - 2.0) < 0.5:
        return "int16"
    if abs(per_value - 4.0) < 1.0:
        return "int32"
    if held < frame * setup.n_samples:
        raise short(
            name,
            size=setup.size,
            promised=setup.data_at + frame * setup.n_samples,
            what=f"{setup.n_samples} samples of {setup.n_channels} channels",
        )
    raise RecordingError(
        f"{name}: {setup.n_samples} samples of {setup.n_channels} channels in {held} bytes are neither 16-bit"
        " nor 32-bit numbers",
        next_action="repair the number of samples in the header",
    )


def _read_setup(path: Path, name: str) -> _Setup:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_SETUP_BYTES)
    if len(head) < _SETUP_BYTES:
        raise malformed(name, f"it has {len(head)} of {_SETUP_BYTES} bytes")
    n_channels, sfreq = (struct.unpack_from("<H", head, at)[0] for at in (_CHANNELS_AT, _RATE_AT))
    n_samples, events_at = (struct.unpack_from("<i", head, at)[0] for at in (_SAMPLES_AT, _EVENTS_AT))
    return _Setup(n_channels, sfreq, n_samples, events_at, size)


def splices(path: Path, raw: "mne.io.BaseRaw") -> list[int]:
    """Return the samples at which a Neuroscan recording was interrupted; none for ANT Neuro's format."""
    if not is_neuroscan(path):
        return []
    setup = _read_setup(path, path.name)
    if not setup.data_at < setup.events_at <= setup.size - _TEEG_BYTES:
        return []
    with path.open("rb") as file:
        file.seek(setup.events_at)
        kind, total, _ = struct.unpack("<Bii", file.read(_TEEG_BYTES))
        width = _EVENT_BYTES.get(kind)
        if width is None or total <= 0:
            return []
        table = file.read(total)
    frame = setup.n_channels * (2 if data_format(path, path.name) == "int16" else 4)
    found = []
    for at in range(0, len(table) - width + 1, width):
        accepted, offset = struct.unpack_from("<Bi", table, at + 3)
        if accepted >> 4 in _SPLICES:
            sample = offset if kind == 3 else (offset - setup.data_at) // frame
            found.append(int(sample))
    return [sample for sample in sorted(set(found)) if 0 < sample < raw.n_times]
