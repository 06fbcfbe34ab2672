"""Check EDF and BDF headers field by field (Kemp et al. 1992; EDF+ 2003).

MNE-Python infers, replaces or ignores several wrong fields; their meaning is then a guess.
"""

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from emeg.errors import RecordingError
from emeg.ingest.refusals import REPAIR_HEADER, contradiction, malformed, short
from emeg.ingest.text_files import decode_text

T = TypeVar("T", int, float)

_HEAD_BYTES = 256
_SIGNAL_BYTES = 256
_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Label, transducer, unit, physical and digital minimum and maximum, filters, samples a record, reserved."""
_LABEL, _UNIT, _PHYSICAL, _DIGITAL, _SAMPLES = 0, 2, 3, 5, 8
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
_GAP_SHARE = 0.5
"""Part of a sample by which start times of records may differ from an unbroken recording's; more is a gap."""


class _Header(NamedTuple):
    sample_bytes: int
    header_bytes: int
    discontinuous: bool
    n_records: int
    record_s: float
    labels: list[str]
    samples: list[int]

    @property
    def signals(self) -> list[int]:
        """Indices of the signals that are no annotations."""
        return [i for i, label in enumerate(self.labels) if label not in _ANNOTATIONS]

    @property
    def record_bytes(self) -> int:
        return sum(self.samples) * self.sample_bytes


def check_edf(path: Path, name: str) -> None:
    """Refuse a header that contradicts itself or the file's size, and records whose times run backwards.

    A record count of -1 marks a recording in progress and counts as unknown.

    Raises
    ------
    RecordingError
        With the field that is wrong.
    """
    header = _read_header(path, name)
    size = path.stat().st_size
    if not header.signals:
        raise RecordingError(
            f"{name}: the file holds annotations and no signals",
            next_action="ingest the recording that they belong to",
        )
    if not (math.isfinite(header.record_s) and header.record_s > 0.0):
        raise RecordingError(
            f"{name}: the header gives a record the length of {header.record_s:g} s, so the sampling rate is unknown",
            next_action=REPAIR_HEADER,
        )
    if not any(header.samples[i] for i in header.signals):
        raise contradiction(name, "no signal has a sample in a record")
    held = max(0, size - header.header_bytes) // header.record_bytes  # bytes behind the last whole record are padding
    if header.n_records < 0 or held == header.n_records:
        if held < 1:
            raise contradiction(name, "there are no records")
    elif held < header.n_records:
        raise short(
            name,
            size=size,
            promised=header.header_bytes + header.n_records * header.record_bytes,
            what=f"the header's {header.n_records} records of {header.record_s:g} s, of which {held} are whole,",
        )
    else:
        raise contradiction(
            name, f"{header.n_records} records are counted, {held} are there: what follows is of unknown origin"
        )
    record_pauses(path, name)


def stated_units(path: Path, name: str) -> list[str]:
    """Read the units of the signals that are no annotations, as they are spelt in the file."""
    header = _read_header(path, name)
    with path.open("rb") as file:
        fields = file.read(header.header_bytes)[_HEAD_BYTES:]
    n_signals = len(header.labels)
    return [decode_text(_column(fields, n_signals, _UNIT, i)).text.strip() for i in header.signals]


def _read_header(path: Path, name: str) -> _Header:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            raise malformed(name, f"it has {len(head)} of {_HEAD_BYTES} bytes")
        header_bytes, n_records = (_number(head, at, 8, int, name) for at in (184, 236))
        record_s, n_signals = _number(head, 244, 8, float, name), _number(head, 252, 4, int, name)
        if n_signals < 1 or header_bytes != _HEAD_BYTES + _SIGNAL_BYTES * n_signals:
            raise malformed(name, f"{n_signals} signals and a header of {header_bytes} bytes do not fit each other")
        fields = file.read(_SIGNAL_BYTES * n_signals)
    if len(fields) < _SIGNAL_BYTES * n_signals:
        raise malformed(name, f"it ends in the middle, after {_HEAD_BYTES + len(fields)} of {header_bytes} bytes")
    labels = [decode_text(_column(fields, n_signals, _LABEL, i)).text.strip() for i in range(n_signals)]
    samples = [_number(_column(fields, n_signals, _SAMPLES, i), 0, 8, int, name) for i in range(n_signals)]
    if min(samples) < 0:
        raise malformed(name, f"{labels[samples.index(min(samples))]!r} has {min(samples)} samples in a record")
    for i, label in enumerate(labels):
        if label not in _ANNOTATIONS:
            _check_range(fields, n_signals, i, label, name)
    sample_bytes = 3 if head[:1] == b"\xff" else 2
    return _Header(sample_bytes, header_bytes, head[195:197] == b"+D", n_records, record_s, labels, samples)


def _check_range(fields: bytes, n_signals: int, signal: int, label: str, name: str) -> None:
    """Refuse an empty or infinite range: a channel's scale is its physical range over its digital one."""
    for what, first, convert in (("physical", _PHYSICAL, float), ("digital", _DIGITAL, int)):
        low, high = (_number(_column(fields, n_signals, first + k, signal), 0, 8, convert, name) for k in (0, 1))
        if not (math.isfinite(low) and math.isfinite(high) and low != high) or (what == "digital" and low > high):
            raise RecordingError(
                f"{name}: the {what} range of {label!r} is {low:g} to {high:g}: its numbers have no unit",
                next_action=REPAIR_HEADER,
            )


def _column(fields: bytes, n_signals: int, which: int, signal: int) -> bytes:
    start = n_signals * sum(_WIDTHS[:which]) + signal * _WIDTHS[which]
    return fields[start : start + _WIDTHS[which]]


def _number(data: bytes, start: int, width: int, convert: Callable[[str], T], name: str) -> T:
    text = data[start : start + width].decode("latin-1").partition("\0")[0].strip().replace(",", ".")
    try:
        # Some writers give digital limits with a fraction.
        return convert(text) if convert is not int or "." not in text else convert(text.partition(".")[0])
    except ValueError as error:
        raise malformed(name, error) from error


def record_pauses(path: Path, name: str) -> list[tuple[float, float]]:
    """Return the gaps between the records of a discontinuous file (EDF+D, BDF+D).

    Returns
    -------
    list of (float, float)
        Time at which a gap lies, s of signal before it, and its length, s. Empty for a continuous file.

    Raises
    ------
    RecordingError
        A record has no start time, or begins before the one before it ends.
    """
    header = _read_header(path, name)
    if not header.discontinuous:
        return []
    n_records = max(0, path.stat().st_size - header.header_bytes) // header.record_bytes
    starts = _record_starts(path, name, header, n_records)
    tolerance = _GAP_SHARE * header.record_s / max(header.samples[i] for i in header.signals)
    found = []
    for record, (before, start) in enumerate(itertools.pairwise(starts), start=1):
        gap = start - before - header.record_s
        if gap < -tolerance:
            raise RecordingError(
                f"{name}: time stamps go back, so there is an overlap: record {record} begins at {start:g} s, the one"
                f" before at {before:g} s and lasts {header.record_s:g} s",
                next_action="cut the file there into two recordings",
            )
        if gap > tolerance:
            found.append((record * header.record_s, gap))
    return found


def _record_starts(path: Path, name: str, header: _Header, n_records: int) -> list[float]:
    """Return start times of records, s; each begins with its own, in the first annotation signal."""
    first = next((i for i, label in enumerate(header.labels) if label in _ANNOTATIONS), None)
    if first is None:
        raise contradiction(name, "it is declared discontinuous (EDF+D) and has no annotations with start times")
    offset = header.sample_bytes * sum(header.samples[:first])
    width = header.sample_bytes * header.samples[first]
    starts = []
    with path.open("rb") as file:
        for record in range(n_records):
            file.seek(header.header_bytes + record * header.record_bytes + offset)
            starts.append(_record_start(file.read(width), record, name))
    return starts


_TAL = re.compile(rb"([+-]\d+\.?\d*)(?:\x15(\d+\.?\d*))?\x14([^\x00]*)\x14\x00")
"""Onset, duration and texts of a list of annotations."""


def annotations_by_clock(path: Path) -> list[tuple[float, float, str]]:
    """Return every annotation of a file: onset on the clock, s after the first sample, duration, s, and text.

    MNE-Python leaves out what lies behind the file's last sample by count, as annotations behind a pause may.
    """
    header = _read_header(path, path.name)
    n_records = max(0, path.stat().st_size - header.header_bytes) // header.record_bytes
    signals = [i for i, label in enumerate(header.labels) if label in _ANNOTATIONS]
    begins = [header.sample_bytes * sum(header.samples[:i]) for i in signals]
    lengths = [header.sample_bytes * header.samples[i] for i in signals]
    first, found = None, []
    with path.open("rb") as file:
        for record in range(n_records):
            for begin, length in zip(begins, lengths, strict=True):
                file.seek(header.header_bytes + record * header.record_bytes + begin)
                for onset, duration, texts in _TAL.findall(file.read(length)):
                    first = float(onset) if first is None else first
                    times = float(onset) - first, float(duration or 0.0)
                    found += [(*times, _text(text)) for text in texts.split(b"\x14") if text]
    return found


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


_STATUS, _NEW_EPOCH = "status", 1
"""BioSemi's channel of triggers and states; its bit 16 is set where a new epoch begins, in the third of three bytes."""


def epoch_starts(path: Path) -> list[int]:
    """Return the samples at which BioSemi's ``Status`` says that the acquisition began anew, without the first.

    Returns
    -------
    list of int
        Samples of ``Status``.
    """
    header = _read_header(path, path.name)
    status = next((i for i, label in enumerate(header.labels) if label.lower() == _STATUS), None)
    if status is None or header.sample_bytes != 3:
        return []
    n_records = max(0, path.stat().st_size - header.header_bytes) // header.record_bytes
    first = 3 * sum(header.samples[:status]) + 2
    data = np.memmap(path, np.uint8, "r", header.header_bytes, (n_records, header.record_bytes))
    high = (data[:, first : first - 2 + 3 * header.samples[status] : 3] & _NEW_EPOCH).ravel()
    return (np.flatnonzero((high[1:] == 1) & (high[:-1] == 0)) + 1).tolist()


def status_rate(path: Path) -> float:
    """Return the rate of the channel ``Status``, Hz; 0 where there is none."""
    header = _read_header(path, path.name)
    status = next((i for i, label in enumerate(header.labels) if label.lower() == _STATUS), None)
    return header.samples[status] / header.record_s if status is not None else 0.0


def _record_start(data: bytes, record: int, name: str) -> float:
    try:
        return float(data.partition(b"\x14")[0].strip(b"\0").partition(b"\x15")[0])
    except ValueError as error:
        raise malformed(name, f"record {record} has no start time") from error
