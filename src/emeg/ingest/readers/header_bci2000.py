"""Names, gains and the length that a BCI2000 file states and MNE-Python ignores."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.ingest.refusals import malformed
from emeg.ingest.text_files import decode_text
from emeg.ingest.units import volts

if TYPE_CHECKING:
    import mne

_SAMPLE_BYTES = {"int16": 2, "int32": 4, "float32": 4}
_LIST = r"^\S+ \S*list {name}= (\d+) (.*?)(?: //.*)?$"
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*((?:mu|\u00b5|\u03bc|[umn])?v)?", re.IGNORECASE)


def apply_bci2000(raw: "mne.io.BaseRaw", path: Path) -> None:
    """Set the channel names of an open BCI2000 file and convert its values to volts, (x - offset) · gain.

    A gain without a unit is in microvolts per integer.

    Raises
    ------
    RecordingError
        The file ends within a sample, or its gains are no numbers.

    References
    ----------
    BCI2000 wiki, User Reference: BCI2000 File Format, and SourceChGain, SourceChOffset, ChannelNames.
    """
    with path.open("rb") as file:
        first = dict(re.findall(r"(\w+)\s*=\s*(\S+)", file.readline().decode("utf-8", "replace")))
        file.seek(0)
        text = decode_text(file.read(int(first["HeaderLen"]))).text.replace("\r", "")
    n = int(first["SourceCh"])
    frame = n * _SAMPLE_BYTES[first.get("DataFormat", "int16")] + int(first["StatevectorLen"])
    rest = (path.stat().st_size - int(first["HeaderLen"])) % frame
    if rest:
        raise RecordingError(
            f"{path.name}: the file is truncated: it ends {rest} bytes after a whole sample",
            next_action="fetch the file again",
        )
    gains = _numbers(text, "SourceChGain", n, plain=1e-6)
    if gains is None or not np.isfinite(gains).all() or not gains.all():
        raise malformed(path.name, f"SourceChGain does not give a gain for each of {n} channels")
    offsets = _numbers(text, "SourceChOffset", n, plain=1.0)
    raw._data[:n] -= (np.zeros(n) if offsets is None else offsets)[:, None]
    raw._data[:n] *= gains[:, None]
    names = _entries(text, "ChannelNames", n)
    if names is not None and len(set(names)) == n:
        raw.rename_channels(dict(zip(raw.ch_names[:n], names, strict=True)), verbose="ERROR")


def _entries(text: str, name: str, n: int) -> list[str] | None:
    match = re.search(_LIST.format(name=name), text, re.MULTILINE)
    if match is None or int(match[1]) != n or len(match[2].split()) < n:
        return None
    return match[2].split()[:n]


def _numbers(text: str, name: str, n: int, *, plain: float) -> NDArray[np.float64] | None:
    """Read one number a channel, in volts where it has a unit, times `plain` where it has none."""
    found = [_NUMBER.fullmatch(entry) for entry in _entries(text, name, n) or []]
    if not found or None in found:
        return None
    return np.array([float(m[1]) * (volts(m[2] or "") or plain) for m in found if m is not None])
