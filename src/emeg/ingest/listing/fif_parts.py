"""Find the later parts of a FIF recording that its writer split into several files.

Names alone do not show that ``rest-1.fif`` is a part of ``rest.fif``: three recordings may be numbered so. The files
do: each part but the last holds a reference to the next file, each part but the first a reference to the previous file
(FIFF tag 115, ``FIFF_REF_ROLE``, with the value 2 or 1). In BIDS the entity ``split`` is enough.
"""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

_PREVIOUS = re.compile(rb"\x00\x00\x00\x73\x00\x00\x00\x03\x00\x00\x00\x04.{4}\x00\x00\x00\x01", re.DOTALL)
_NEXT = re.compile(rb"\x00\x00\x00\x73\x00\x00\x00\x03\x00\x00\x00\x04.{4}\x00\x00\x00\x02", re.DOTALL)
_SPLIT = re.compile(r"(?<=_split-)(\d+)")
_NUMBERED = re.compile(r"^(?P<base>.+)-(?P<number>[1-9]\d*)$")

Ends = Callable[[str], tuple[bytes, bytes]]
"""Function that returns the beginning and the end of a file."""


class Parts(NamedTuple):
    """Later parts of one recording in order, and their fault; an empty text if there is none."""

    paths: tuple[str, ...] = ()
    problem: str = ""


def find_parts(paths: list[str], ends: Ends) -> dict[str, Parts]:
    """Return the first part of every FIF recording in a folder, with its later parts.

    Parameters
    ----------
    paths : list of str
        FIF files of one folder.
    ends : callable
        Returns the beginning and the end of a file; called only for files with numbered names.
    """
    by_name = {PurePosixPath(path).name.lower(): path for path in paths}
    found: dict[str, Parts] = {}
    taken: set[str] = set()
    for path in sorted(paths, key=lambda path: (_number(path), path)):
        if path in taken:
            continue
        split = _SPLIT.search(PurePosixPath(path).name)
        parts = _split_parts(path, split, paths) if split is not None else _numbered_parts(path, by_name, ends)
        found[path] = parts
        taken.update(parts.paths)
    return found


def _number(path: str) -> int:
    """Return a file's number among the parts of its name; 0 for a name without a number."""
    stem, _ = _stem(path)
    split, numbered = _SPLIT.search(stem), _NUMBERED.match(stem)
    return int(split[0]) if split else int(numbered["number"]) if numbered else 0


def _split_parts(path: str, split: "re.Match[str]", paths: list[str]) -> Parts:
    if int(split[0]) > 1:
        return Parts(problem=f"this is part {int(split[0])} of a split recording and the first part is absent")
    name = split.string
    pattern = re.compile(re.escape(name[: split.start()]) + r"(\d+)" + re.escape(name[split.end() :]), re.IGNORECASE)
    parts = [(int(match[1]), p) for p in paths if p != path and (match := pattern.fullmatch(PurePosixPath(p).name))]
    return Parts(tuple(p for _, p in sorted(parts)))


def _numbered_parts(path: str, by_name: dict[str, str], ends: Ends) -> Parts:
    """Return the files ``<stem>-1``, ``<stem>-2``, … that refer to the file before, or to which that one refers."""
    stem, extension = _stem(path)
    pattern = re.compile(re.escape(f"{stem}-") + r"([1-9]\d*)" + re.escape(extension), re.IGNORECASE)
    numbered = sorted((int(match[1]), p) for name, p in by_name.items() if (match := pattern.fullmatch(name)))
    parts: list[str] = []
    last, before = 0, path
    for number, part in numbered:
        if _refers(_PREVIOUS, ends(part)) or (number == last + 1 and _refers(_NEXT, ends(before))):
            parts.append(part)
            last, before = number, part
    problem = ""
    if _NUMBERED.match(stem) and _refers(_PREVIOUS, ends(path)):
        problem = "this is a later part of a split recording and the part before it is absent"
    return Parts(tuple(parts), problem)


def _refers(role: "re.Pattern[bytes]", both: tuple[bytes, bytes]) -> bool:
    return any(role.search(end) is not None for end in both)


def _stem(path: str) -> tuple[str, str]:
    name = PurePosixPath(path).name
    extension = ".fif.gz" if name.lower().endswith(".fif.gz") else PurePosixPath(path).suffix
    return name[: -len(extension)], name[-len(extension) :]
