"""File mappings, which declare what the files of an archive without BIDS names are: subject, session, task, run."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from emeg.config import Config
from emeg.errors import UserError
from emeg.ingest.text_files import decode_text
from emeg.registry import Treatment

FIELDS = ("subject", "session", "task", "run", "acquisition")
"""Fields that a pattern can name."""

SidecarKind = Literal["json", "channels", "events", "electrodes", "coordsystem"]

_PART = re.compile(r"\{(\w+)\}|\*\*/|\*\*|\*|\?")
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(path: str, globs: Iterable[str]) -> bool:
    """Return whether a path matches a glob: ``*`` and ``?`` stay within a folder, ``**/`` is any number of folders."""
    return any(_expression(glob).fullmatch(path) is not None for glob in globs)


@cache
def _expression(pattern: str) -> "re.Pattern[str]":
    text, last, seen = "", 0, set[str]()
    for part in _PART.finditer(pattern):
        text += re.escape(pattern[last : part.start()])
        last = part.end()
        name = part[1]
        if name:
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            text += _WILD[part[0]]
    return re.compile(text + re.escape(pattern[last:]))


class FilePattern(Config):
    """One kind of recording."""

    path: str
    """Path in the archive, such as ``{subject}/S{run}.edf``; ``*`` and ``?`` stand for characters, ``**/`` for any
    folders, ``{subject}``, ``{session}``, ``{task}``, ``{run}`` and ``{acquisition}`` for these fields."""
    subject: str = ""
    """Subject where the path does not name it."""
    session: str = ""
    """Session where the path does not name it."""
    task: str = ""
    """Task where the path does not name it."""
    run: str = ""
    """Run where the path does not name it."""
    acquisition: str = ""
    """Acquisition where the path does not name it."""
    sidecars: dict[SidecarKind, str] = Field(default_factory=dict)
    """Kind (json, channels, events, electrodes, coordsystem) -> path of a sidecar in BIDS format, with ``{…}``."""

    @model_validator(mode="after")
    def _names_are_known(self) -> "FilePattern":
        for text in (self.path, *self.sidecars.values()):
            unknown = [name for name in re.findall(r"\{(\w*)\}", text) if name not in FIELDS]
            if unknown:
                raise ValueError(f"{text!r}: {{{unknown[0]}}} is none of {', '.join(FIELDS)}")
        return self

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields that a path names; `None` where it is no such recording."""
        found = _expression(self.path).fullmatch(path)
        if found is None:
            return None
        return {name: found.groupdict().get(name) or getattr(self, name) for name in FIELDS}

    def sidecar(self, kind: SidecarKind, names: dict[str, str]) -> str:
        """Return a sidecar's path for a recording for which `match` returned `names`; empty where none is declared."""
        return re.sub(r"\{(\w+)\}", lambda part: names[part[1]], self.sidecars.get(kind, ""))


class FileMapping(Config):
    """Rules for an archive without BIDS names. A file that matches no pattern is left aside and counted."""

    dataset: str | None = None
    """Short name of the dataset."""
    licence: str = ""
    """Licence of the data."""
    files: tuple[FilePattern, ...] = Field(min_length=1)
    """Kinds of recordings; the first pattern that matches is used."""
    treatment: Treatment = Treatment()
    """Montage, mains, units, renames, exclusions, types."""

    @classmethod
    def read(cls, path: str) -> "FileMapping":
        """Read a file mapping from a YAML file.

        Raises
        ------
        UserError
            The file does not exist, or is no file mapping.
        """
        file = Path(path)
        if not file.is_file():
            raise UserError(f"--mapping {path}: the file does not exist; give the path of a YAML file")
        return cls.from_yaml(decode_text(file.read_bytes()).text, source=path)
