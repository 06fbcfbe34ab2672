"""Parse names in BIDS, and find which sidecar belongs to which recording."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

_ENTITY = re.compile(r"^([a-zA-Z]+)-([^_\s]+)$")

DATA_SUFFIXES = frozenset({"eeg", "meg", "ieeg", "nirs"})
"""Suffixes of recordings."""

SIDECAR_EXTENSIONS = (".json", ".tsv")
"""Extensions of sidecars."""

_FREE_ENTITIES = frozenset({"space", "desc"})
"""Entities that a sidecar may have beyond those of its recording."""


class BidsName(NamedTuple):
    """Parts of a file name: ``sub-01_task-rest_eeg.edf`` → entities, ``eeg``, ``.edf``."""

    entities: dict[str, str]
    suffix: str
    extension: str


def parse_name(path: str) -> BidsName:
    """Split a file name into its parts; for a name that is not BIDS, the suffix is the whole stem."""
    name = PurePosixPath(path).name
    stem, dot, extension = name.partition(".")
    if dot and not stem:  # hidden files
        stem, extension = name, ""
    entities: dict[str, str] = {}
    suffix = ""
    for part in stem.split("_"):
        if match := _ENTITY.match(part):
            entities[match[1].lower()] = match[2]
        else:
            suffix = part
    if not entities:
        suffix = stem
    return BidsName(entities, suffix, f".{extension.lower()}" if extension else "")


def path_entities(path: str) -> dict[str, str]:
    """Return the entities of a file and of the folders above it; those of the file's own name take precedence."""
    entities: dict[str, str] = {}
    for part in PurePosixPath(path).parts:
        entities.update(parse_name(part).entities)
    return entities


class SidecarIndex:
    """Index of a dataset's sidecars by folder, suffix and extension.

    Parameters
    ----------
    paths : iterable of str
        Files of the dataset, relative to it; only tables and JSON files are indexed.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_folder: dict[tuple[str, str, str], list[tuple[str, BidsName]]] = defaultdict(list)
        self._by_name: dict[str, str] = {}
        for path in paths:
            if path.endswith(SIDECAR_EXTENSIONS):
                name = parse_name(path)
                self._by_folder[str(PurePosixPath(path).parent), name.suffix, name.extension].append((path, name))
                self._by_name[path.lower()] = path

    def find(self, path: str, *, suffix: str, extension: str) -> tuple[str, ...]:
        """Return a recording's sidecars by the BIDS inheritance rule, the most general first.

        Parameters
        ----------
        path : str
            The recording, relative to the dataset.
        suffix, extension : str
            Such as ``channels`` and ``.tsv``; for the ``.json`` of the recording itself its own suffix.

        Returns
        -------
        tuple of str
            Files in the recording's folder or above it whose entities all agree with the recording's; upper folders
            first, then fewer entities first. Outside BIDS: the file ``<recording's stem>_<suffix><extension>``.
        """
        folder = PurePosixPath(path).parent
        recording = parse_name(path)
        found: set[tuple[int, int, str]] = set()
        for above in (folder, *folder.parents) if recording.entities else ():
            for candidate, name in self._by_folder.get((str(above), suffix, extension), ()):
                entities = {k: v for k, v in name.entities.items() if k not in _FREE_ENTITIES}
                if all(recording.entities.get(k) == v for k, v in entities.items()):
                    found.add((len(PurePosixPath(candidate).parts), len(name.entities), candidate))
        own = self._by_name.get(str(folder / f"{_stem(path)}_{suffix}{extension}").lower())
        if own is not None:
            found.add((len(PurePosixPath(own).parts), len(parse_name(own).entities), own))
        return tuple(candidate for _, _, candidate in sorted(found))


def _stem(path: str) -> str:
    name = PurePosixPath(path).name
    return name[: -len(".fif.gz")] if name.lower().endswith(".fif.gz") else PurePosixPath(path).stem
