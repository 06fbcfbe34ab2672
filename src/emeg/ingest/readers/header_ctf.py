"""The marker file of a CTF data set, walked through before MNE-Python reads it, which at its end waits for ever."""

import re
from collections.abc import Iterator
from pathlib import Path

from emeg.ingest.refusals import malformed
from emeg.ingest.text_files import decode_text

MARKERS = "MarkerFile.mrk"


def check_markers(folder: Path) -> None:
    """Find in the marker file of a ``.ds`` folder, if it has one, all that it promises.

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
