"""Check what a BrainVision header states: data and marker file, whole frames, sampling interval, format."""

import math
import re
import unicodedata
from datetime import datetime
from pathlib import Path

from emeg.errors import RecordingError
from emeg.ingest.refusals import REPAIR_HEADER, file_named, malformed, quoted, short
from emeg.ingest.text_files import decode_text

_WIDTHS = {"int_16": 2, "uint_16": 2, "int_32": 4, "ieee_float_32": 4}
_DATA_EXTENSIONS = (".eeg", ".dat", ".avg")
_LONGEST_NAME = 255
_MARKER = re.compile(r"^Mk\d+\s*=", re.IGNORECASE)
_CHANNEL = re.compile(r"^Ch\d+\s*=", re.IGNORECASE)


def check_brainvision(path: Path, name: str, *, events_elsewhere: bool = False) -> None:
    """Compare a header with its data and marker file.

    Parameters
    ----------
    path : Path
        The header, ``.vhdr`` or ``.ahdr``.
    name : str
        Name of the file in errors.
    events_elsewhere : bool
        An events table stands beside the recording: the marker file may be absent.

    Raises
    ------
    RecordingError
        A file that the header names is absent, elsewhere or damaged, or the header lacks what reading needs.
    """
    lines = decode_text(path.read_bytes()).text.splitlines()
    fields = _fields(lines)
    if not fields.get("datafile"):
        raise RecordingError(f"{name}: the header names no data file", next_action="repair the header")
    _refuse_pieces(name, fields)
    data = _named(path, name, fields, "DataFile", "data file")
    _check_owner(path, name, data)
    if fields.get("markerfile"):
        try:
            markers = _named(path, name, fields, "MarkerFile", "marker file")
        except FileNotFoundError as error:
            if not events_elsewhere:
                raise _absent(path, name, "MarkerFile", "marker file", str(error)) from error
        else:
            _check_markers(markers, f"{name} ({markers.name})")
    _check_interval(name, fields)
    if fields.get("dataformat", "binary").lower() == "binary":
        _check_size(name, data, fields, sum(bool(_CHANNEL.match(line)) for line in _section(lines, "channel infos")))


def new_segments(path: Path) -> list[tuple[int, datetime | None]]:
    """Return the markers ``New Segment`` of a recording, where the amplifier was started: samples from 0, and dates.

    Parameters
    ----------
    path : Path
        The header.
    """
    fields = _fields(path.read_bytes().decode("latin-1").splitlines())
    if not fields.get("markerfile"):
        return []
    try:
        markers = _named(path, path.name, fields, "MarkerFile", "marker file")
    except FileNotFoundError:  # an events table stands in for it, as `check_brainvision` has made sure
        return []
    found: dict[int, datetime | None] = {}
    for line in _section(markers.read_bytes().decode("latin-1").splitlines(), "marker infos"):
        parts = line.partition("=")[2].split(",")
        if _MARKER.match(line) and parts[0].strip().lower() == "new segment" and len(parts) >= 3:
            found[max(0, int(parts[2]) - 1)] = _date(parts[5] if len(parts) > 5 else "")
    return sorted(found.items())


def _date(text: str) -> datetime | None:
    try:
        return datetime.strptime(text.strip(), "%Y%m%d%H%M%S%f")
    except ValueError:
        return None


_NOT_CONTINUOUS = (
    (
        "datatype",
        lambda value: value not in {"", "timedomain"},
        "holds spectra ({key}={value}), not a signal over time",
    ),
    ("averaged", lambda value: value == "yes", "is an average of segments ({key}={value}), not a recording"),
    (
        "segmentationtype",
        lambda value: value not in {"", "notsegmented"},
        "holds segments that were cut out ({key}={value}), not a continuous recording",
    ),
)
"""Keys of the header, values that are refused, and their meaning; as BrainVision Analyzer writes them."""


def _refuse_pieces(name: str, fields: dict[str, str]) -> None:
    """Refuse a header which states that the file is no continuous recording."""
    for key, is_wrong, meaning in _NOT_CONTINUOUS:
        value = fields.get(key, "")
        if is_wrong(value.lower()):
            told = meaning.format(key=key, value=quoted(value).strip("'"))
            raise RecordingError(
                f"{name}: the file {told}", next_action="ingest the continuous recording that it was made from"
            )


def _fields(lines: list[str]) -> dict[str, str]:
    """Return the header's keys in lower case with their values; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not line.startswith(";"):
            fields.setdefault(key.strip().lower(), value.strip())
    return fields


def _section(lines: list[str], title: str) -> list[str]:
    inside, found = False, []
    for line in lines:
        if line.startswith("["):
            inside = line.strip().lower() == f"[{title}]"
        elif inside:
            found.append(line)
    return found


def _named(path: Path, name: str, fields: dict[str, str], key: str, what: str) -> Path:
    """Find a file that the header names, beside the header only."""
    stated = fields[key.lower()].replace("$b", path.stem)
    plain = stated.removeprefix("./")
    if "/" in plain or "\\" in plain or plain in {"", ".", ".."}:
        raise RecordingError(
            f"{name}: {key} is a path that leads outside the header's folder ({_last(plain)}), so it is not opened",
            next_action=f"put the {what} beside the header and its plain name into {key}",
        )
    found = next((p for p in path.parent.iterdir() if p.name == plain and p.is_file()), None)
    if found is not None:
        return found
    plain = plain[:_LONGEST_NAME]
    if key == "MarkerFile":
        raise FileNotFoundError(plain)
    raise _absent(path, name, key, what, plain)


def _last(stated: str) -> str:
    """Return a path's last part: the others may name a person's folders."""
    return "…/" + re.split(r"[/\\]", stated)[-1]


def _absent(path: Path, name: str, key: str, what: str, stated: str) -> RecordingError:
    wanted = _folded(stated)
    alike = next((p.name for p in sorted(path.parent.iterdir()) if _folded(p.name) == wanted), "")
    own = next((p.name for e in _DATA_EXTENSIONS if (p := path.with_suffix(e)).is_file()), "")
    hint = f"; {alike} is beside it, with another spelling" if alike else ""
    if key == "DataFile" and not alike and own:
        hint = f"; {own} is beside it, so the header may be that of a renamed recording"
    stated = file_named(stated)
    return RecordingError(
        f"{name}: the header names the {what} {stated}, which is absent{hint}",
        next_action=f"put {stated} beside the header, or correct {key} in it",
    )


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _check_owner(path: Path, name: str, data: Path) -> None:
    own = next((p for e in _DATA_EXTENSIONS if (p := path.with_suffix(e)).is_file()), None)
    if own is not None and data.stem != path.stem and not own.samefile(data):
        raise RecordingError(
            f"{name}: the header names the data file {file_named(data.name)}, another recording's,"
            f" and {own.name} is beside it",
            next_action="correct DataFile in the header",
        )


def _check_markers(path: Path, name: str) -> None:
    lines = decode_text(path.read_bytes()).text.splitlines()
    if not any(line.strip().lower() == "[marker infos]" for line in lines):
        raise malformed(name, "there is no section [Marker Infos]")
    for line in _section(lines, "marker infos"):
        if _MARKER.match(line):
            parts = line.partition("=")[2].split(",")
            if len(parts) < 3 or not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", parts[2]):
                raise malformed(name, f"marker {line[:60]!r} has no position")


def _check_interval(name: str, fields: dict[str, str]) -> None:
    stated = fields.get("samplinginterval", "")
    try:
        interval = float(stated)
    except ValueError:
        interval = math.nan
    if not (math.isfinite(interval) and interval > 0.0):
        raise RecordingError(
            f"{name}: SamplingInterval is {quoted(stated)}, a number of microseconds is needed: the rate is unknown",
            next_action=REPAIR_HEADER,
        )


def _check_size(name: str, data: Path, fields: dict[str, str], n_listed: int) -> None:
    """Check that binary data are whole sample frames, as many as ``DataPoints`` where that is stated."""
    width = _WIDTHS.get(fields.get("binaryformat", "").lower())
    if width is None:
        raise RecordingError(
            f"{name}: BinaryFormat is {quoted(fields.get('binaryformat', ''))}, known are {', '.join(_WIDTHS).upper()}",
            next_action=REPAIR_HEADER,
        )
    stated = fields.get("numberofchannels", "")
    if not stated.isdecimal() or int(stated) != n_listed or n_listed == 0:
        raise RecordingError(
            f"{name}: NumberOfChannels is {quoted(stated)}, the header lists {n_listed} channels",
            next_action=REPAIR_HEADER,
        )
    frame, size = width * n_listed, data.stat().st_size
    if size == 0:
        raise RecordingError(f"{name}: the data file {data.name} is empty (0 bytes)", next_action="fetch it again")
    points = fields.get("datapoints", "")
    promised = frame * (int(points) if points.isdecimal() else -(-size // frame))
    if size < promised:
        raise short(f"{name} ({data.name})", size=size, promised=promised, what=f"{promised // frame} frames")
