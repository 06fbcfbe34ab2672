"""Files that are complete or absent, and JSON whose bytes depend on its values alone."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def json_bytes(value: object) -> bytes:
    """Return JSON with sorted keys, one space of indentation and a final newline; equal values are equal bytes."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


@contextmanager
def replacing(target: Path, *, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Yield an empty file that becomes `target` when the block ends without an error.

    A crash leaves the former file, or none. The content is flushed to the disk before the file is renamed.

    Parameters
    ----------
    target : Path
        Its folder is created if it is missing.
    temporary : Path, optional
        Name of the file until it is complete, on the same file system; by default a hidden name beside `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary or target.with_name(f".partial-{secrets.token_hex(8)}")
    try:
        with unfinished.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def fsync_path(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
