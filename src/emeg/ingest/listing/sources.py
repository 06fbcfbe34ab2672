"""One listing of an archive, turned into sources: recordings with all their files and sidecars."""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from emeg.errors import UserError
from emeg.ingest.config import IngestConfig
from emeg.ingest.listing.bids import DATA_SUFFIXES, SIDECAR_EXTENSIONS, SidecarIndex, parse_name, path_entities
from emeg.ingest.listing.file_mapping import Recipe, SidecarKind, matches
from emeg.ingest.listing.formats import FOLDER_FORMATS, Group, group_folder
from emeg.ingest.pseudonyms import Pseudonyms
from emeg.ingest.source import ListedFile, Source
from emeg.ingest.text_files import decode_text
from emeg.ingest.transfer.download import list_files, read_listed
from emeg.registry import Entry, Registry
from emeg.uri import Location, locate

_LEFT_FOLDERS = frozenset({"derivatives", "sourcedata", "code", "stimuli", "phenotype"})
_EMPTY_ROOM_SUBJECTS = frozenset({"emptyroom"})
_EMPTY_ROOM_TASKS = frozenset({"noise", "emptyroom"})
_CALIBRATIONS = frozenset({"calibration", "crosstalk"})
_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)\b")
_TABLES: tuple[SidecarKind, ...] = ("channels", "events", "electrodes")


@dataclass(frozen=True)
class Listing:
    """Everything an archive holds, sorted by path: sources, all files, and what was left aside, counted by reason."""

    dataset: str
    sources: tuple[Source, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    snapshot: str = ""
    licence: str = ""
    entry: Entry | None = None
    files: tuple[ListedFile, ...] = ()
    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms, repr=False)


def list_sources(config: IngestConfig) -> list[Source]:
    """List the recordings of an archive, sorted by path.

    Raises
    ------
    UserError
        There is no such archive.
    TransientError
        It does not answer.
    """
    return list(list_archive(config).sources)


def list_archive(config: IngestConfig) -> Listing:
    """List an archive once, recursively, and say what each file is.

    Raises
    ------
    UserError
        There is no such archive, its ``dataset_description.json`` cannot be read, or it must not be fetched without an
        agreement.
    TransientError
        It does not answer.
    """
    root = locate(config.archive)
    recipe = Recipe.read(config.recipe) if config.recipe else None
    files = list_files(root, config.transfer)
    unnamed = [path for path in files if not _is_text(path)]
    for path in unnamed:
        del files[path]
    description = _description(root, files, config)
    names = (
        config.dataset,
        recipe.dataset if recipe else None,
        _slug(root.name),
        _slug(str(description.get("Name", ""))),
    )
    dataset = next((name for name in names if name), "archive")
    entry = Registry.load().find(dataset)
    _refuse_closed(config, root, entry)
    listed = _Lister(config.archive, dataset, root, files, recipe, entry)
    listed.licence = str(description.get("License", "")) or (recipe.licence if recipe else "")
    if not listed.licence and entry is not None:
        listed.licence = entry.licence
    if unnamed:
        listed.skipped["name is not UTF-8"] += len(unnamed)
    pseudonyms = Pseudonyms.from_environment()
    sources = [_public(source, pseudonyms) for source in listed.sources()]
    return Listing(
        dataset,
        tuple(sorted(sources, key=lambda s: s.path)),
        dict(sorted(listed.skipped.items())),
        _snapshot(root, files, description, config),
        listed.licence,
        entry,
        tuple(files.values()),
        pseudonyms,
    )


def _public(source: Source, pseudonyms: Pseudonyms) -> Source:
    """Give a source the names under which it may be known."""
    return replace(
        source,
        subject=pseudonyms.subject(source.subject),
        session=pseudonyms.label(source.session),
        task=pseudonyms.label(source.task),
        run=pseudonyms.index(source.run),
        acquisition=pseudonyms.label(source.acquisition),
        public=pseudonyms.path(source.path, source.subject),
        hidden=pseudonyms.hidden((source.path, *(file.path for file in source.all_files)), source.subject),
    )


def _is_text(path: str) -> bool:
    """Tell whether a name can stand in a catalogue: bytes that are not UTF-8 arrive as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_closed(config: IngestConfig, root: Location, entry: Entry | None) -> None:
    """Never download what needs an agreement or a person's approval: it is taken from a folder that is there."""
    if entry is None or entry.access_tier == "open" or root.is_local:
        return
    if entry.source.uri.rstrip("/") in {str(root).rstrip("/"), config.archive.rstrip("/")}:
        raise UserError(
            f"{config.archive}: {entry.id} is given out by {entry.access_tier} only; obtain it from {entry.source.uri}"
            " and name the folder or bucket of yours that holds it"
        )


def _description(root: Location, files: dict[str, ListedFile], config: IngestConfig) -> dict[str, Any]:
    file = files.get("dataset_description.json")
    if file is None:
        return {}
    try:
        found = json.loads(decode_text(read_listed(root, file, config.transfer)).text)
    except ValueError as error:
        raise UserError(
            f"{root}/dataset_description.json: not readable as JSON ({error}); mend or remove it"
        ) from error
    return found if isinstance(found, dict) else {}


def _snapshot(root: Location, files: dict[str, ListedFile], description: dict[str, Any], config: IngestConfig) -> str:
    """Version tag of the dataset as it lies there: from its DOI, else from the newest entry of CHANGES."""
    found = _VERSION.search(str(description.get("DatasetDOI", "")).rpartition(".v")[2])
    if found is None and "CHANGES" in files:
        found = _VERSION.search(decode_text(read_listed(root, files["CHANGES"], config.transfer)).text)
    return found[1] if found else ""


class _Lister:
    """Says what each of an archive's files is."""

    def __init__(
        self,
        archive: str,
        dataset: str,
        root: Location,
        files: dict[str, ListedFile],
        recipe: Recipe | None,
        entry: Entry | None,
    ) -> None:
        self.archive, self.dataset, self.root, self.files = archive, dataset, root, files
        self.recipe, self.entry = recipe, entry
        self.licence = ""
        self.skipped: dict[str, int] = defaultdict(int)
        self.is_bids = recipe is None and (
            "dataset_description.json" in files or any(path.startswith("sub-") for path in files)
        )
        self.index = SidecarIndex(files)

    def sources(self) -> list[Source]:
        """Every recording that is not left aside."""
        sources = []
        for group in _group(self.root, self.files, self.skipped):
            if self.recipe is not None:
                source, reason = self._declared(group, self.recipe)
            else:
                reason = self._left_aside(group.lead)
                source = None if reason else self._found(group)
            if source is None:
                self.skipped[reason] += 1
            else:
                sources.append(source)
        return sources

    def _left_aside(self, path: str) -> str:
        entry = self.entry
        if entry is not None and matches(path, entry.exclude_paths) and not matches(path, entry.include):
            return "excluded by the registry"
        if entry is not None and entry.include and not matches(path, entry.include):
            # a registered folder may be a subset of one's own, laid out differently: its own globs decide only where
            # they know any file at all
            if any(matches(one, entry.include) for one in self.files):
                return "not among the registry's recordings"
        elif entry is not None and entry.include:
            return ""
        return _left_aside(path, is_bids=self.is_bids)

    def _found(self, group: Group) -> Source:
        path = group.lead
        entities = path_entities(path)
        key = self.entry.subject_key if self.entry is not None else None
        keyed = key.subject(path) if key is not None else ""
        return Source(
            archive=self.archive,
            dataset=self.dataset,
            path=path,
            format=group.format,
            subject=keyed or (f"sub-{entities['sub']}" if "sub" in entities else _subject_of_folder(path)),
            session=entities.get("ses", ""),
            task=entities.get("task", ""),
            run=entities.get("run", ""),
            acquisition=entities.get("acq", ""),
            licence=self.licence,
            files=tuple(self.files[p] for p in group.files),
            sidecars=self._sidecars(group),
            problem=group.problem,
            treatment=self.entry.treatment if self.entry is not None else None,
            declared=bool(keyed),
        )

    def _sidecars(self, group: Group) -> tuple[tuple[str, ListedFile], ...]:
        path = group.lead
        kind = parse_name(path).suffix
        found: list[tuple[str, str]] = []
        for modality in (kind,) if kind in DATA_SUFFIXES else ("eeg", "meg"):
            found += [("json", s) for s in self.index.find(path, suffix=modality, extension=".json")]
        for name in _TABLES:
            found += [(name, s) for s in self.index.find(path, suffix=name, extension=".tsv")]
        found += [("coordsystem", s) for s in self.index.find(path, suffix="coordsystem", extension=".json")]
        return tuple((name, self.files[s]) for name, s in found if s not in group.files)

    def _declared(self, group: Group, recipe: Recipe) -> tuple[Source | None, str]:
        for pattern in recipe.files:
            names = pattern.match(group.lead)
            if names is None:
                continue
            declared = {kind: pattern.sidecar(kind, names) for kind in pattern.sidecars}
            absent = [path for path in declared.values() if path not in self.files]
            problem = f"the recipe names {absent[0]}, which is not in the archive" if absent else group.problem
            sidecars: list[tuple[str, ListedFile]] = [
                (kind, self.files[path]) for kind, path in declared.items() if path in self.files
            ]
            sidecars += [(kind, file) for kind, file in self._sidecars(group) if kind not in declared]
            source = Source(
                archive=self.archive,
                dataset=self.dataset,
                path=group.lead,
                format=group.format,
                licence=self.licence,
                files=tuple(self.files[p] for p in group.files),
                sidecars=tuple(sidecars),
                problem=problem,
                treatment=recipe.treatment,
                declared=True,
                subject=_slug(names["subject"]) or _subject_of_folder(group.lead),
                **{key: value for key, value in names.items() if key != "subject"},  # type: ignore[arg-type]
            )
            return source, ""
        return None, "matches no pattern of the recipe"


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
        found, used = group_folder(paths, lambda path: read_listed(root, files[path]))
        groups += found
        others = [path for path in paths if path not in used and not path.endswith(SIDECAR_EXTENSIONS)]
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
    parts = PurePosixPath(path).parts
    top = parts[0]
    name = parse_name(path)
    entities = path_entities(path)
    left = next((part for part in parts[:-1] if part in _LEFT_FOLDERS), "")
    if left:
        return left
    if is_bids and not top.startswith("sub-"):
        return "outside the subjects' folders"
    if entities.get("sub") in _EMPTY_ROOM_SUBJECTS or entities.get("task") in _EMPTY_ROOM_TASKS:
        return "empty room"
    if entities.get("acq") in _CALIBRATIONS:
        return "calibration"
    if is_bids and name.entities and name.suffix not in DATA_SUFFIXES:
        return "not a recording"
    if is_bids and "desc" in name.entities:  # raw data have none: somebody processed this one
        return "derivatives"
    return ""


def _subject_of_folder(path: str) -> str:
    """Outside BIDS a folder is one person, so that a person is never split; a file at the top is one by itself."""
    parent = PurePosixPath(path).parent
    name = "-".join(parent.parts) if parent.parts else PurePosixPath(path).name.partition(".")[0]
    return _slug(name) or "unnamed"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
