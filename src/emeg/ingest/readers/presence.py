"""Check that a recording's files exist and are recordings, not what a broken transfer leaves."""

import gzip
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from emeg.errors import RecordingError
from emeg.ingest.refusals import FETCH_AGAIN, file_named
from emeg.ingest.source import Source

_LOOK_AT_BYTES = 512
_STANDS_IN = {
    b"/annex/objects/": "a pointer of git-annex",
    b"../.git/annex/": "a pointer of git-annex",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b'<?xml version="1.0" encoding="utf-8"?>\n<error>': "an error message of a bucket",
    b"pk\x03\x04": "a zip archive",
    b"\x1f\x8b": "compressed by gzip",
}
"""First bytes, in small letters and without leading blanks, of files that are found instead of recordings."""


def check_files(source: Source, folder: Path) -> None:
    """Refuse a recording one of whose files is absent, unreadable, or something else under its name.

    Raises
    ------
    RecordingError
        With the file and what it is.
    """
    for file in source.all_files:
        path = folder / file.path
        if not path.exists() or path.is_dir():
            raise _absent(path, file.path)
    for file in source.files:
        head = _first_bytes(folder / file.path, file.path)
        if file.path.lower().endswith(".gz"):
            _check_gzip(folder / file.path, file.path)
            continue
        what = next((what for start, what in _STANDS_IN.items() if head.lstrip().lower().startswith(start)), "")
        if what:
            raise RecordingError(f"{file.path}: the file is {what}, not the recording", next_action=FETCH_AGAIN)


def check_opened(source: Source, opened: Iterable[Path | None]) -> None:
    """Refuse a recording whose reader opened other data files than the listing counts as the recording's.

    Parameters
    ----------
    source : Source
    opened : iterable of Path
        Files that the reader opened, as ``raw.filenames`` has them.

    Raises
    ------
    RecordingError
        A part was not opened, and its signal would be lost; or a file was opened that belongs to no listed file.
    """
    names = {Path(path).name for path in opened if path is not None and Path(path).is_file()}
    listed = {PurePosixPath(file.path).name for file in source.files}
    foreign = sorted(names - listed)
    if foreign:
        raise RecordingError(
            f"{source.path}: it refers to {file_named(foreign[0])}, which is not among its files",
            next_action="give the parts and data files the names that the recording states",
        )
    lost = sorted(listed - names) if source.format == "fif" else []
    if lost:
        raise RecordingError(
            f"{source.path}: {file_named(lost[0])} is named as a later part of it, and the recording does not refer to"
            " it",
            next_action="if the files are recordings of their own, give each a name of its own, such as run-01 and"
            " run-02",
        )


def _absent(path: Path, name: str) -> RecordingError:
    if path.is_symlink():
        return RecordingError(
            f"{name}: the file is a link to nothing, as git-annex leaves where content was not fetched",
            next_action="fetch the content (datalad get, git annex get)",
        )
    return RecordingError(f"{name}: there is no such file", next_action=FETCH_AGAIN)


def _first_bytes(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_LOOK_AT_BYTES)
    except OSError as error:
        raise RecordingError(
            f"{name}: the file cannot be read ({error.strerror})", next_action="let this user read the file"
        ) from error


def _check_gzip(path: Path, name: str) -> None:
    """Read to the end: a cut file shows only there."""
    try:
        with gzip.open(path) as stream:
            while stream.read(2**20):
                pass
    except (OSError, EOFError) as error:
        raise RecordingError(f"{name}: the gzip file is damaged ({error})", next_action=FETCH_AGAIN) from error
