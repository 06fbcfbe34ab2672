"""What a file's header promises, against what the file holds.

Readers warn about a cut file, or say nothing, and give back what is left. A recording that lost its end is not the
recording that was made: these checks refuse it before it is read.
"""

import struct
from pathlib import Path

from emeg.errors import RecordingError

_LINE_FEEDS_NEEDED = 50
_LOOK_AT_BYTES = 2**20

GDF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 8, 8: 8, 16: 4, 17: 8, 279: 3, 511: 3, 255 + 12: 2}
"""Bytes a sample for GDF data types; 255 + n is an integer of n bits."""

_FIFF_NEXT_SEQUENTIAL = 0
_FIFF_NEXT_NONE = -1


def check_promises(path: Path, format_: str, name: str) -> None:
    """Compare the size of a data file with its header.

    Parameters
    ----------
    path : Path
        The leading file.
    format_ : str
        As in `emeg.ingest.formats`.
    name : str
        What to call the file in errors: its path in the archive.

    Raises
    ------
    RecordingError
        The file is empty, shorter than its header promises, or was sent through a text conversion.
    """
    if path.is_dir():
        return
    if path.stat().st_size == 0:
        raise RecordingError(f"{name}: the file is empty (0 bytes)", next_action="fetch the file again")
    if format_ in {"edf", "bdf", "gdf"}:
        _refuse_text_conversion(path, name)
    check = _CHECKS.get(format_)
    if check is not None and not path.name.lower().endswith(".gz"):
        check(path, name)


def _refuse_text_conversion(path: Path, name: str) -> None:
    """Binary data holds as many lone line feeds as chance gives; none among many means each was expanded."""
    with path.open("rb") as file:
        data = file.read(_LOOK_AT_BYTES)
    feeds = data.count(b"\n")
    if feeds >= _LINE_FEEDS_NEEDED and data.count(b"\r\n") == feeds:
        raise RecordingError(
            f"{name}: each of the {feeds} line feeds in the first {len(data)} bytes follows a carriage return, which"
            f" binary data never shows: the file was sent as text and its newlines were translated, so samples are"
            f" shifted",
            next_action="fetch the file again in binary mode",
        )


def _short(name: str, *, size: int, promised: int, what: str) -> RecordingError:
    return RecordingError(
        f"{name}: the file is truncated: {what} need {promised} bytes, the file has {size} ({size / promised:.0%})",
        next_action="fetch the file again, or repair its header if the recording really ended there",
    )


def _malformed(name: str, error: Exception) -> RecordingError:
    return RecordingError(
        f"{name}: the header cannot be read ({error})", next_action="check that the file is what its extension says"
    )


def _check_edf(path: Path, name: str) -> None:
    """EDF and BDF: header bytes + records · samples · 2 or 3 bytes (Kemp et al. 1992; EDF+ 2003)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        try:
            header_bytes, n_records, n_signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
            duration_s = float(head[244:252])
            file.seek(256 + n_signals * 216)
            samples = sum(int(file.read(8)) for _ in range(n_signals))
        except ValueError as error:
            raise _malformed(name, error) from error
    sample_bytes = 3 if head[:1] == b"\xff" else 2
    promised = header_bytes + n_records * samples * sample_bytes
    if n_records > 0 and size < promised:
        held = max(0, size - header_bytes) // max(1, samples * sample_bytes)
        raise _short(
            name,
            size=size,
            promised=promised,
            what=f"the header's {n_records} records of {duration_s:g} s, of which {held} are whole,",
        )


def _check_gdf(path: Path, name: str) -> None:
    """GDF 1 and 2: fixed header, 256 bytes a signal, then records (Schlögl 2006)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        try:
            version = float(head[3:8])
            header_bytes = 256 * struct.unpack("<H", head[184:186])[0] if version >= 1.9 else _int64(head[184:192])
            n_records = _int64(head[236:244])
            n_signals = struct.unpack("<H" if version >= 1.9 else "<I", head[252 : 254 if version >= 1.9 else 256])[0]
            file.seek(256 + n_signals * 216)
            samples = struct.unpack(f"<{n_signals}I", file.read(4 * n_signals))
            types = struct.unpack(f"<{n_signals}I", file.read(4 * n_signals))
        except (ValueError, struct.error) as error:
            raise _malformed(name, error) from error
    if n_records <= 0 or any(kind not in GDF_TYPE_BYTES for kind in types):
        return
    record = sum(n * GDF_TYPE_BYTES[kind] for n, kind in zip(samples, types, strict=True))
    if size < header_bytes + n_records * record:
        raise _short(
            name, size=size, promised=header_bytes + n_records * record, what=f"the header's {n_records} records"
        )


def _check_riff(path: Path, name: str) -> None:
    """ANT Neuro's .cnt is a RIFF container: its chunks must lie inside the file. The reader's C library trusts them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or len(head) < 12:
            return
        promised = 8 + struct.unpack("<I", head[4:8])[0]
        if size < promised:
            raise _short(name, size=size, promised=promised, what="the container's header")
        position = 12
        while position + 8 <= promised:
            file.seek(position)
            kind, length = struct.unpack("<4sI", file.read(8))
            if position + 8 + length > size:
                raise RecordingError(
                    f"{name}: chunk {kind!r} at byte {position} claims {length} bytes, the file ends at {size}",
                    next_action="fetch the file again",
                )
            position += 8 + length + length % 2


def _int64(data: bytes) -> int:
    return int(struct.unpack("<q", data)[0])


def _check_fif(path: Path, name: str) -> None:
    """FIF: tags follow each other (kind, type, size, next) until one says that none follows."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position != size:
            file.seek(position)
            head = file.read(16)
            if len(head) < 16:
                break
            kind, _, length, following = struct.unpack(">iIii", head)
            end = position + 16 + length
            if (
                length < 0
                or end > size
                or (following not in {_FIFF_NEXT_NONE, _FIFF_NEXT_SEQUENTIAL} and following < 0)
            ):
                raise RecordingError(
                    f"{name}: the file is truncated: it ends at byte {size}, inside a tag (kind {kind}) that starts at"
                    f" byte {position} and needs {length} bytes",
                    next_action="fetch the file again",
                )
            if following == _FIFF_NEXT_NONE:
                return
            position = end if following == _FIFF_NEXT_SEQUENTIAL else following
    raise RecordingError(
        f"{name}: the file is truncated: it ends at byte {size} without the tag that closes it",
        next_action="fetch the file again",
    )


def _check_vhdr(path: Path, name: str) -> None:
    """BrainVision: the data file must hold whole sample frames, and as many as ``DataPoints`` where that is given."""
    fields = _vhdr_fields(path)
    data = path.parent / fields.get("datafile", "").replace("$b", path.stem)
    if not fields.get("datafile"):
        raise RecordingError(f"{name}: the header names no data file", next_action="repair the header")
    if not data.is_file():
        raise RecordingError(
            f"{name}: the header names the data file {data.name}, which is absent",
            next_action=f"put {data.name} beside the header, or correct DataFile in it",
        )
    width = {"int_16": 2, "uint_16": 2, "int_32": 4, "ieee_float_32": 4}.get(fields.get("binaryformat", "").lower())
    channels = fields.get("numberofchannels", "")
    if width is None or not channels.isdigit() or int(channels) == 0:
        return
    frame = width * int(channels)
    size = data.stat().st_size
    points = fields.get("datapoints", "")
    promised = frame * (int(points) if points.isdigit() else -(-size // frame))
    if size < promised:
        raise _short(f"{name} ({data.name})", size=size, promised=promised, what=f"{promised // frame} frames")


def _vhdr_fields(path: Path) -> dict[str, str]:
    """Keys of the header in lower case, without the values' spaces; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in path.read_bytes().decode("latin-1").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(";"):
            fields.setdefault(key.strip().lower(), value.strip())
    return fields


_CHECKS = {
    "edf": _check_edf,
    "bdf": _check_edf,
    "gdf": _check_gdf,
    "fif": _check_fif,
    "brainvision": _check_vhdr,
    "cnt": _check_riff,
}
