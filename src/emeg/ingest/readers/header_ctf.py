"""Check a CTF data set: its marker file, before MNE-Python reads it, and its trials.

MNE-Python does not return from reading a marker file that is cut.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emeg.errors import RecordingError
from emeg.ingest.refusals import malformed
from emeg.ingest.text_files import decode_text

if TYPE_CHECKING:
    import mne

MARKERS = "MarkerFile.mrk"
_CLOCK = re.compile(r"^SCLK01")
"""The acquisition's clock, a channel."""
_AVERAGES_AT, _BEFORE_TRIGGER_AT = 776, 1316
"""Where the res4 header counts averaged trials (int16) and samples before a trial's trigger (int32), bytes."""


def check_averages(folder: Path) -> None:
    """Refuse a ``.ds`` folder that holds an average.

    Raises
    ------
    RecordingError
        With the number of trials.
    """
    n = _res4_number(folder, _AVERAGES_AT, ">h")
    if n > 1:
        raise RecordingError(
            f"{folder.name}: the data set is an average of {n} trials, not a continuous recording",
            next_action="ingest the recording that was averaged",
        )


def _res4_number(folder: Path, at: int, kind: str) -> int:
    """Read a number of the res4 header; 0 where there is no such file."""
    path = next((p for p in sorted(folder.iterdir()) if p.suffix.lower() == ".res4"), None)
    data = path.read_bytes()[at : at + struct.calcsize(kind)] if path is not None else b""
    return int(struct.unpack(kind, data)[0]) if len(data) == struct.calcsize(kind) else 0


def trial_pauses(folder: Path, raw: "mne.io.BaseRaw") -> list[tuple[int, float | None]]:
    """Return where a trial begins that does not follow the one before: its first sample and the pause before it, s.

    Continuous acquisitions are stored as trials, too. Trials follow each other where the acquisition's clock says so;
    without a clock they do unless they have samples before a trigger. None stands for a pause of unknown length.
    """
    extras = raw._raw_extras[0]
    length = int(extras["block_size"])
    borders = range(length, raw.n_times, length)
    if not borders:
        return []
    clock = next((i for i, name in enumerate(raw.ch_names) if _CLOCK.match(name)), None)
    if clock is None:
        return [(sample, None) for sample in borders] if _res4_number(folder, _BEFORE_TRIGGER_AT, ">i") > 0 else []
    found: list[tuple[int, float | None]] = []
    for sample in borders:
        first = float(raw.get_data([clock], sample - length, sample - length + 1)[0, 0])
        last, following = raw.get_data([clock], sample - 1, sample + 1)[0].tolist()
        step = (last - first) / max(length - 1, 1)
        if step <= 0.0:
            continue
        late = (following - last) / step - 1.0
        if abs(late) > 0.5:
            found.append((sample, late / float(raw.info["sfreq"]) if late > 0.0 else None))
    return found


def check_markers(folder: Path) -> None:
    """Check that the marker file of a ``.ds`` folder, if there is one, holds all that it promises.

    Raises
    ------
    RecordingError
        It ends before its last marker.
    """
    path = folder / MARKERS
    if not path.is_file():
        return
    lines = iter(decode_text(path.read_bytes()).text.splitlines())
    name = f"{folder.name}, marker file"
    for marker in range(_count(lines, "NUMBER OF MARKERS:", name)):
        _skip_to(lines, "NAME:", name)
        n_samples = _count(lines, "NUMBER OF SAMPLES:", name)
        _skip_to(lines, "LIST OF SAMPLES:", name)
        rows = sum(bool(re.match(r"\s*[+-]?\d", line)) for _, line in zip(range(n_samples + 1), lines, strict=False))
        if rows < n_samples:
            raise malformed(name, f"marker {marker + 1} has {rows} of {n_samples} samples")


def _skip_to(lines: Iterator[str], heading: str, name: str) -> None:
    if not any(line.startswith(heading) for line in lines):
        raise malformed(name, f"it ends before {heading}")


def _count(lines: Iterator[str], heading: str, name: str) -> int:
    _skip_to(lines, heading, name)
    stated = next(lines, "").strip()
    if not stated.isdecimal():
        raise malformed(name, f"no number follows {heading}")
    return int(stated)
