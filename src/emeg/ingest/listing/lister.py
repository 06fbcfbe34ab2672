"""Turn the files of one archive into sources: recordings with their names, files and sidecars."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from emeg.ingest.listing.bids import DATA_SUFFIXES, SIDECAR_EXTENSIONS, SidecarIndex, parse_name, path_entities
from emeg.ingest.listing.contents import Contents
from emeg.ingest.listing.file_mapping import FileMapping, SidecarKind
from emeg.ingest.listing.formats import FOLDER_FORMATS, Group, group_folder
from emeg.ingest.listing.left_aside import LeftAside, Rules, unread_reason
from emeg.ingest.source import ListedFile, Source
from emeg.ingest.text_files import decode_text
from emeg.registry import Entry

_TABLES: tuple[SidecarKind, ...] = ("channels", "events", "electrodes")

BIDSIGNORE = ".bidsignore"
"""File in a dataset's root that lists files not to be used, with the patterns of ``.gitignore``."""


class Dataset(NamedTuple):
    """What all recordings of an archive have in common."""

    archive: str
    name: str
    licence: str
    mapping: FileMapping | None
    entry: Entry | None


class Lister:
    """Decide what each file of an archive is.

    Parameters
    ----------
    dataset : Dataset
    files : dict
        Files of the archive by path.
    contents : Contents
        Their content, read if names are not sufficient.
    """

    def __init__(self, dataset: Dataset, files: Mapping[str, ListedFile], contents: Contents) -> None:
        self._dataset, self._contents = dataset, contents
        ignored = decode_text(contents.read(BIDSIGNORE)).text if BIDSIGNORE in files else ""
        self._files = {path: file for path, file in files.items() if path != BIDSIGNORE}
        is_bids = dataset.mapping is None and (
            "dataset_description.json" in files or any(path.startswith("sub-") for path in files)
        )
        self._rules = Rules(is_bids=is_bids, paths=list(self._files), ignored=ignored, entry=dataset.entry)
        obeyed = dataset.mapping is None
        self._index = SidecarIndex(path for path in self._files if not (obeyed and self._rules.ignores(path)))
        self.left_aside = LeftAside()

    def sources(self) -> list[Source]:
        """Return every recording that is not left aside."""
        sources = []
        for group in self._groups():
            mapping = self._dataset.mapping
            reason = "" if mapping is not None else self._rules.reason(group.lead)
            source = None if reason else self._declared(group, mapping) if mapping is not None else self._found(group)
            if source is None:
                self.left_aside.add(reason or "matches no pattern of the file mapping", group.lead)
            else:
                sources.append(source)
        return sources

    def _groups(self) -> list[Group]:
        folders: dict[str, list[str]] = defaultdict(list)
        whole: dict[str, list[str]] = defaultdict(list)
        for path in self._files:
            lead = _folder_recording(path)
            if lead:
                whole[lead].append(path)
            else:
                folders[str(PurePosixPath(path).parent)].append(path)
        groups = [
            Group(lead, FOLDER_FORMATS[PurePosixPath(lead).suffix.lower()], tuple(p)) for lead, p in whole.items()
        ]
        for paths in folders.values():
            found = group_folder(paths, self._contents)
            groups += found
            used = {path for group in found for path in group.files}
            for path in paths:
                if path not in used and not path.endswith(SIDECAR_EXTENSIONS):
                    self.left_aside.add(unread_reason(path), path)
        return groups

    def _found(self, group: Group) -> Source:
        path, entry = group.lead, self._dataset.entry
        entities = path_entities(path)
        key = entry.subject_key if entry is not None else None
        keyed = key.subject(path) if key is not None else ""
        return Source(
            archive=self._dataset.archive,
            dataset=self._dataset.name,
            path=path,
            format=group.format,
            subject=keyed or (f"sub-{entities['sub']}" if "sub" in entities else subject_of_folder(path)),
            session=entities.get("ses", ""),
            task=entities.get("task", ""),
            run=entities.get("run", ""),
            acquisition=entities.get("acq", ""),
            licence=self._dataset.licence,
            files=tuple(self._files[p] for p in group.files),
            sidecars=self._sidecars(group),
            problem=group.problem,
            treatment=entry.treatment if entry is not None else None,
            declared=bool(keyed),
        )

    def _sidecars(self, group: Group) -> tuple[tuple[str, ListedFile], ...]:
        path = group.lead
        kind = parse_name(path).suffix
        found: list[tuple[str, str]] = []
        for modality in (kind,) if kind in DATA_SUFFIXES else ("eeg", "meg"):
            found += [("json", s) for s in self._index.find(path, suffix=modality, extension=".json")]
        for name in _TABLES:
            found += [(name, s) for s in self._index.find(path, suffix=name, extension=".tsv")]
        found += [("coordsystem", s) for s in self._index.find(path, suffix="coordsystem", extension=".json")]
        return tuple((name, self._files[s]) for name, s in found if s not in group.files)

    def _declared(self, group: Group, mapping: FileMapping) -> Source | None:
        """Return the source that the first matching pattern of a file mapping makes; `None` where none matches."""
        for pattern in mapping.files:
            names = pattern.match(group.lead)
            if names is None:
                continue
            declared = {kind: pattern.sidecar(kind, names) for kind in pattern.sidecars}
            absent = [path for path in declared.values() if path not in self._files]
            problem = f"the file mapping names {absent[0]}, which is not in the archive" if absent else group.problem
            sidecars: list[tuple[str, ListedFile]] = [
                (kind, self._files[path]) for kind, path in declared.items() if path in self._files
            ]
            sidecars += [(kind, file) for kind, file in self._sidecars(group) if kind not in declared]
            return Source(
                archive=self._dataset.archive,
                dataset=self._dataset.name,
                path=group.lead,
                format=group.format,
                licence=self._dataset.licence,
                files=tuple(self._files[p] for p in group.files),
                sidecars=tuple(sidecars),
                problem=problem,
                treatment=mapping.treatment,
                declared=True,
                subject=slug(names["subject"]) or subject_of_folder(group.lead),
                **{key: value for key, value in names.items() if key != "subject"},  # type: ignore[arg-type]
            )
        return None


def _folder_recording(path: str) -> str:
    """Return the outermost folder of a path that is a recording as a whole; empty where none is."""
    parts = PurePosixPath(path).parts
    for depth, part in enumerate(parts[:-1], start=1):
        if PurePosixPath(part).suffix.lower() in FOLDER_FORMATS:
            return "/".join(parts[:depth])
    return ""


def subject_of_folder(path: str) -> str:
    """Return the subject of a recording without BIDS names: its folder, or its own name at the top of the archive."""
    parent = PurePosixPath(path).parent
    name = "-".join(parent.parts) if parent.parts else PurePosixPath(path).name.partition(".")[0]
    return slug(name) or "unnamed"


def slug(text: str) -> str:
    """Return a text with letters, digits and dots only, all else replaced by dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
