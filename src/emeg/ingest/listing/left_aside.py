"""Decide which files of an archive are not ingested, by rule, and count them by reason."""

from collections import defaultdict
from pathlib import PurePosixPath

import pathspec

from emeg.ingest.listing.bids import DATA_SUFFIXES, parse_name, path_entities
from emeg.ingest.listing.file_mapping import matches
from emeg.ingest.listing.formats import UNREADABLE, split_name
from emeg.registry import Entry

EXAMPLES = 3
"""Files that are named for each reason."""

NOT_A_RECORDING = "not a recording"

_LEFT_FOLDERS = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
_EMPTY_ROOM_SUBJECTS = frozenset({"emptyroom"})
_EMPTY_ROOM_TASKS = frozenset({"noise", "emptyroom"})
_CALIBRATIONS = frozenset({"calibration", "crosstalk"})


class LeftAside:
    """Files that are left aside: how many for each reason, and the first of them."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, path: str) -> None:
        """Record one file, or one recording by its leading file."""
        self._paths[reason].append(path)

    @property
    def counts(self) -> dict[str, int]:
        """Number of files for each reason, sorted by reason."""
        return {reason: len(self._paths[reason]) for reason in sorted(self._paths)}

    @property
    def examples(self) -> dict[str, list[str]]:
        """The first files for each reason, by path."""
        return {reason: sorted(self._paths[reason])[:EXAMPLES] for reason in sorted(self._paths)}


class Rules:
    """Rules for one archive.

    Parameters
    ----------
    is_bids : bool
        Whether the archive has BIDS names.
    paths : iterable of str
        All its files.
    ignored : str
        Text of its ``.bidsignore``.
    entry : Entry, optional
        What the registry knows of the dataset; files that it includes are never left aside.
    """

    def __init__(self, *, is_bids: bool, paths: list[str], ignored: str, entry: Entry | None) -> None:
        self._is_bids, self._entry = is_bids, entry
        self._ignored = pathspec.GitIgnoreSpec.from_lines(ignored.splitlines())
        # A registered archive may be a subset with other paths: the entry's globs decide only where they know a file.
        self._included = entry is not None and any(matches(path, entry.include) for path in paths)

    def ignores(self, path: str) -> bool:
        """Return whether ``.bidsignore`` names a file that the registry does not include."""
        known = self._entry is not None and matches(path, self._entry.include)
        return not known and self._ignored.match_file(path)

    def reason(self, path: str) -> str:
        """Return why a recording is left aside; empty for one that is ingested."""
        entry = self._entry
        if entry is not None:
            known = matches(path, entry.include)
            if matches(path, entry.exclude_paths) and not known:
                return "excluded by the registry"
            if known:
                return ""
            if self._included:
                return "not among the registry's recordings"
        if self.ignores(path):
            return "listed in .bidsignore"
        return _by_name(path, is_bids=self._is_bids)


def unread_reason(path: str) -> str:
    """Return why a file that belongs to no recording is left aside: its format has no reader, or it is none."""
    extension = split_name(path)[1]
    if extension in UNREADABLE:
        return f"no reader for {extension} ({UNREADABLE[extension]})"
    return NOT_A_RECORDING


def _by_name(path: str, *, is_bids: bool) -> str:
    parts = PurePosixPath(path).parts
    name, entities = parse_name(path), path_entities(path)
    left = next((part for part in parts[:-1] if part in _LEFT_FOLDERS), "")
    if left:
        return left
    if is_bids and not parts[0].startswith("sub-"):
        return "outside the subjects' folders"
    if entities.get("sub") in _EMPTY_ROOM_SUBJECTS or entities.get("task") in _EMPTY_ROOM_TASKS:
        return "empty room"
    if entities.get("acq") in _CALIBRATIONS:
        return "calibration"
    if is_bids and "sub" in name.entities and name.suffix not in DATA_SUFFIXES:
        return NOT_A_RECORDING
    if is_bids and "desc" in name.entities:  # raw data have none: this file was processed
        return "derivatives"
    return ""
