"""Compare a file's header with the content of the file.

Readers return what is left of a cut file, with or without a warning. These checks refuse such a recording before it is
read.
"""

import struct
from pathlib import Path

from emeg.errors import RecordingError
from emeg.ingest.readers.header_brainvision import check_brainvision
from emeg.ingest.readers.header_cnt import check_cnt, is_neuroscan
from emeg.ingest.readers.header_edf import check_edf
from emeg.ingest.readers.header_eeglab import check_eeglab
from emeg.ingest.refusals import malformed, short

_LINE_FEEDS_NEEDED = 50
_LOOK_AT_BYTES = 2**20

GDF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 8, 8: 8, 16: 4, 17: 8, 279: 3, 511: 3, 255 + 12: 2}
"""Bytes a sample for GDF data types; 255 + n is an integer of n bits."""

_FIFF_NEXT_SEQUENTIAL = 0
_FIFF_NEXT_NONE = -1
_FIFF_REF_ROLE = 115
_FIFF_ROLE_PREVIOUS = b"\0\0\0\1"


def check_promises(path: Path, format_: str, name: str, *, events_elsewhere: bool = False) -> None:
    """Compare the size of a data file with its header.

    Parameters
    ----------
    path : Path
        The leading file.
    format_ : str
        As in `emeg.ingest.listing.formats`.
    name : str
        Name of the file in errors: its path in the archive.
    events_elsewhere : bool
        An events table stands beside the recording, so that a marker file may be absent.

    Raises
    ------
    RecordingError
        The file is empty, shorter than its header states, or was sent through a text conversion.
    """
    if path.is_dir():
        return
    if path.stat().st_size == 0:
        raise RecordingError(f"{name}: the file is empty (0 bytes)", next_action="fetch the file again")
    if format_ in {"edf", "bdf", "gdf"}:
        _refuse_text_conversion(path, name)
    if format_ == "brainvision":
        check_brainvision(path, name, events_elsewhere=events_elsewhere)
    check = _check_nihon if path.suffix.lower() == ".eeg" else _CHECKS.get(format_)
    if check is not None and not path.name.lower().endswith(".gz"):
        check(path, name)


def _refuse_text_conversion(path: Path, name: str) -> None:
    """Refuse a file that was sent as text: binary data have line feeds without a carriage return, by chance."""
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


def _check_gdf(path: Path, name: str) -> None:
    """Check a GDF 1 or 2 file: fixed header, 256 bytes a signal, then records (Schlögl 2006)."""
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
            raise malformed(name, error) from error
    if n_records <= 0 or any(kind not in GDF_TYPE_BYTES for kind in types):
        return
    record = sum(n * GDF_TYPE_BYTES[kind] for n, kind in zip(samples, types, strict=True))
    if size < header_bytes + n_records * record:
        raise short(
            name, size=size, promised=header_bytes + n_records * record, what=f"the header's {n_records} records"
        )


def _check_riff(path: Path, name: str) -> None:
    """Check that the chunks of ANT Neuro's .cnt, a RIFF container, lie inside the file; its C library does not."""
    if is_neuroscan(path):
        check_cnt(path, name)
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or len(head) < 12:
            return
        promised = 8 + struct.unpack("<I", head[4:8])[0]
        if size < promised:
            raise short(name, size=size, promised=promised, what="the container's header")
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


def _check_nihon(path: Path, name: str) -> None:
    """Check that an .eeg begins with a device's name, as Nihon Kohden's does; BrainVision data have no header."""
    with path.open("rb") as file:
        head = file.read(16)
    if not (head.isascii() and head[:3].isalnum()):
        raise RecordingError(
            f"{name}: it is no Nihon Kohden file; BrainVision data would have a header (.vhdr) beside them",
            next_action="put the header beside the data",
        )


def _int64(data: bytes) -> int:
    return int(struct.unpack("<q", data)[0])


def _check_fif(path: Path, name: str) -> None:
    """Check a FIF file: tags (kind, type, size, next) follow each other until one says that none follows."""
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
            if length < 0 or end > size:
                raise RecordingError(
                    f"{name}: the file is truncated: it ends at byte {size}, inside a tag (kind {kind}) that starts at"
                    f" byte {position} and needs {length} bytes",
                    next_action="fetch the file again",
                )
            if following not in {_FIFF_NEXT_NONE, _FIFF_NEXT_SEQUENTIAL} and following <= position:
                raise malformed(name, f"the tag at byte {position} (kind {kind}) points back, to byte {following}")
            if kind == _FIFF_REF_ROLE and file.read(4) == _FIFF_ROLE_PREVIOUS:
                raise RecordingError(
                    f"{name}: the file is a later part of a split recording, and the first part does not lead to it",
                    next_action="give the parts the names that they had when they were written",
                )
            if following == _FIFF_NEXT_NONE:
                return
            position = end if following == _FIFF_NEXT_SEQUENTIAL else following
    raise RecordingError(
        f"{name}: the file is truncated: it ends at byte {size} without the tag that closes it",
        next_action="fetch the file again",
    )


_CHECKS = {
    "edf": check_edf,
    "bdf": check_edf,
    "eeglab": check_eeglab,
    "gdf": _check_gdf,
    "fif": _check_fif,
    "cnt": _check_riff,
}
