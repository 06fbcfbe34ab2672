"""One listing of an archive, turned into sources: recordings with all their files and sidecars."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from emeg.errors import UserError
from emeg.ingest.bids import DATA_SUFFIXES, parse_name, path_entities, sidecars_of
from emeg.ingest.config import IngestConfig
from emeg.ingest.formats import FOLDER_FORMATS, Group, group_folder
from emeg.uri import Location, locate

_LEFT_FOLDERS = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
_EMPTY_ROOM_SUBJECTS = frozenset({"emptyroom"})
_EMPTY_ROOM_TASKS = frozenset({"noise", "emptyroom"})
_CALIBRATIONS = frozenset({"calibration", "crosstalk"})


@dataclass(frozen=True)
class ListedFile:
    """A file as the listing shows it: path in the archive, bytes, and in a bucket the ETag."""

    path: str
    size: int
    etag: str = ""


@dataclass(frozen=True)
class Source:
    """One recording in an archive: what it is called, its files, and its sidecars, general ones first."""

    archive: str
    dataset: str
    path: str
    format: str
    subject: str
    session: str = ""
    task: str = ""
    run: str = ""
    acquisition: str = ""
    licence: str = ""
    files: tuple[ListedFile, ...] = ()
    sidecars: tuple[tuple[str, ListedFile], ...] = ()
    problem: str = ""

    def sidecars_named(self, kind: str) -> tuple[str, ...]:
        """Paths of one kind: ``json``, ``channels``, ``events``, ``electrodes`` or ``coordsystem``."""
        return tuple(file.path for name, file in self.sidecars if name == kind)

    @property
    def all_files(self) -> tuple[ListedFile, ...]:
        """Data files, then sidecars."""
        return (*self.files, *(file for _, file in self.sidecars))


@dataclass(frozen=True)
class Listing:
    """Everything an archive holds, sorted by path: sources, and what was left aside, counted by reason."""

    dataset: str
    sources: tuple[Source, ...]
    skipped: dict[str, int] = field(default_factory=dict)


def list_sources(config: IngestConfig) -> list[Source]:
    """List the recordings of an archive, sorted by path.

    Raises
    ------
    UserError
        There is no such archive.
    """
    return list(list_archive(config).sources)


def list_archive(config: IngestConfig) -> Listing:
    """List an archive once, recursively, and say what each file is.

    Raises
    ------
    UserError
        There is no such archive, or its ``dataset_description.json`` cannot be read.
    """
    root = locate(config.archive)
    files = _list_files(root)
    description = _description(root, files)
    dataset = config.dataset or _slug(root.name) or _slug(str(description.get("Name", ""))) or "archive"
    is_bids = "dataset_description.json" in files or any(path.startswith("sub-") for path in files)
    skipped: dict[str, int] = defaultdict(int)
    groups = _group(root, files, skipped)
    sidecar_files = [path for path in files if path.endswith((".json", ".tsv"))]
    licence = str(description.get("License", ""))
    sources = []
    for group in groups:
        reason = _left_aside(group.lead, is_bids=is_bids)
        if reason:
            skipped[reason] += 1
        else:
            sources.append(_source(group, config.archive, dataset, licence, files, sidecar_files))
    return Listing(dataset, tuple(sorted(sources, key=lambda s: s.path)), dict(sorted(skipped.items())))


def _list_files(root: Location) -> dict[str, ListedFile]:
    if not root.exists():
        raise UserError(f"{root}: there is no such archive; give a folder or an fsspec URI such as s3://bucket/prefix")
    root.fs.invalidate_cache(root.path)
    found = root.fs.find(root.path, detail=True)
    prefix = root.path.rstrip("/") + "/"
    files = {}
    for full, info in sorted(found.items()):
        path = full.removeprefix(prefix)
        if any(part.startswith(".") for part in PurePosixPath(path).parts):
            continue
        etag = "" if root.is_local else str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "")
        files[path] = ListedFile(path, int(info.get("size") or 0), etag.strip('"'))
    return files


def _description(root: Location, files: dict[str, ListedFile]) -> dict[str, Any]:
    if "dataset_description.json" not in files:
        return {}
    try:
        found = json.loads((root / "dataset_description.json").read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise UserError(
            f"{root}/dataset_description.json: not readable as JSON ({error}); mend or remove it"
        ) from error
    return found if isinstance(found, dict) else {}


def _group(root: Location, files: dict[str, ListedFile], skipped: dict[str, int]) -> list[Group]:
    folders: dict[str, list[str]] = defaultdict(list)
    whole: dict[str, list[str]] = defaultdict(list)
    for path in files:
        lead = _folder_recording(path)
        if lead:
            whole[lead].append(path)
        else:
            folders[str(PurePosixPath(path).parent)].append(path)
    groups = [Group(lead, FOLDER_FORMATS[PurePosixPath(lead).suffix.lower()], tuple(p)) for lead, p in whole.items()]
    for paths in folders.values():
        found, used = group_folder(paths, lambda path: (root / path).read_bytes())
        groups += found
        others = [path for path in paths if path not in used and not path.endswith((".json", ".tsv"))]
        if others:
            skipped["not a recording"] += len(others)
    return groups


def _folder_recording(path: str) -> str:
    parts = PurePosixPath(path).parts
    for depth, part in enumerate(parts[:-1], start=1):
        if PurePosixPath(part).suffix.lower() in FOLDER_FORMATS:
            return "/".join(parts[:depth])
    return ""


def _left_aside(path: str, *, is_bids: bool) -> str:
    """Why a recording is none of ours, by folder and entity; empty for one that is."""
    top = PurePosixPath(path).parts[0]
    name = parse_name(path)
    entities = path_entities(path)
    if top in _LEFT_FOLDERS:
        return top
    if is_bids and not top.startswith("sub-"):
        return "outside the subjects' folders"
    if entities.get("sub") in _EMPTY_ROOM_SUBJECTS or entities.get("task") in _EMPTY_ROOM_TASKS:
        return "empty room"
    if entities.get("acq") in _CALIBRATIONS:
        return "calibration"
    if is_bids and name.entities and name.suffix not in DATA_SUFFIXES:
        return "not a recording"
    return ""


def _source(
    group: Group,
    archive: str,
    dataset: str,
    licence: str,
    files: dict[str, ListedFile],
    sidecar_files: Iterable[str],
) -> Source:
    path = group.lead
    entities = path_entities(path)
    kind = parse_name(path).suffix
    sidecar_files = [s for s in sidecar_files if s not in group.files]
    modalities = (kind,) if kind in DATA_SUFFIXES else ("eeg", "meg")
    sidecars = [("json", s) for m in modalities for s in sidecars_of(path, sidecar_files, suffix=m, extension=".json")]
    for name in ("channels", "events", "electrodes"):
        sidecars += [(name, s) for s in sidecars_of(path, sidecar_files, suffix=name, extension=".tsv")]
    sidecars += [("coordsystem", s) for s in sidecars_of(path, sidecar_files, suffix="coordsystem", extension=".json")]
    return Source(
        archive=archive,
        dataset=dataset,
        path=path,
        format=group.format,
        subject=f"sub-{entities['sub']}" if "sub" in entities else _subject_of_folder(path),
        session=entities.get("ses", ""),
        task=entities.get("task", ""),
        run=entities.get("run", ""),
        acquisition=entities.get("acq", ""),
        licence=licence,
        files=tuple(files[p] for p in group.files),
        sidecars=tuple((name, files[s]) for name, s in sidecars),
        problem=group.problem,
    )


def _subject_of_folder(path: str) -> str:
    """Outside BIDS a folder is one person, so that a person is never split; a file at the top is one by itself."""
    parent = PurePosixPath(path).parent
    name = "-".join(parent.parts) if parent.parts else PurePosixPath(path).name.partition(".")[0]
    return _slug(name) or "unnamed"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
