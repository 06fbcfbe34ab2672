"""List an archive once and turn the listing into sources: recordings with all their files and sidecars."""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from emeg.errors import UserError
from emeg.ingest.config import IngestConfig
from emeg.ingest.listing.contents import Contents
from emeg.ingest.listing.file_mapping import FileMapping
from emeg.ingest.listing.lister import BIDSIGNORE, Dataset, Lister, slug, subject_of_folder
from emeg.ingest.pseudonyms import Pseudonyms
from emeg.ingest.source import ListedFile, Source
from emeg.ingest.text_files import decode_text
from emeg.ingest.transfer.download import list_files, read_listed
from emeg.registry import Entry, Registry, plain_doi
from emeg.uri import Location, locate

_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)\b")


@dataclass(frozen=True)
class Listing:
    """What an archive holds, sorted by path: sources, all files, and what was left aside, counted by reason."""

    dataset: str
    sources: tuple[Source, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    snapshot: str = ""
    licence: str = ""
    title: str = ""
    doi: str = ""
    entry: Entry | None = None
    entry_by: str = ""
    files: tuple[ListedFile, ...] = ()
    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms, repr=False)


def list_sources(config: IngestConfig) -> list[Source]:
    """List the recordings of an archive, sorted by path.

    Raises
    ------
    UserError
        The archive does not exist.
    TransientError
        The bucket does not answer.
    """
    return list(list_archive(config).sources)


def list_archive(config: IngestConfig) -> Listing:
    """List an archive once, recursively, and decide what each file is.

    Raises
    ------
    UserError
        The archive does not exist, its ``dataset_description.json`` cannot be read, or it must not be fetched without
        an agreement.
    TransientError
        The bucket does not answer.
    """
    root = locate(config.archive)
    mapping = FileMapping.read(config.mapping) if config.mapping else None
    files = list_files(root, config.transfer)
    unnamed = [path for path in files if not _is_text(path)]
    for path in unnamed:
        del files[path]
    description = _description(root, files, config)
    title = _stated(description, "Name")
    names = (config.dataset, mapping.dataset if mapping else None, slug(root.name), slug(title))
    dataset = next((name for name in names if name), "archive")
    match = Registry.load().identify(dataset, doi=_doi(description), title=title, location=str(root))
    entry = match.entry
    _refuse_closed(config, root, entry)
    licence = str(description.get("License", "")) or (mapping.licence if mapping else "")
    if not licence and entry is not None:
        licence = entry.licence
    common = Dataset(config.archive, dataset, licence, mapping, entry)
    lister = Lister(common, files, Contents(root, files, config.transfer))
    pseudonyms = Pseudonyms.from_environment()
    sources = [_public(source, pseudonyms) for source in lister.sources()]
    for path in unnamed:
        lister.left_aside.add("name is not UTF-8", path.encode(errors="surrogateescape").decode(errors="replace"))
    return Listing(
        dataset=dataset,
        sources=tuple(sorted(sources, key=lambda s: s.path)),
        skipped=lister.left_aside.counts,
        skipped_examples={
            reason: tuple(pseudonyms.path(path, subject_of_folder(path)) for path in paths)
            for reason, paths in lister.left_aside.examples.items()
        },
        snapshot=_snapshot(root, files, description, config),
        licence=licence,
        title=title,
        doi=_doi(description),
        entry=entry,
        entry_by=match.by,
        files=tuple(file for path, file in files.items() if path != BIDSIGNORE),
        pseudonyms=pseudonyms,
    )


def _stated(description: dict[str, Any], key: str) -> str:
    value = description.get(key)
    return " ".join(value.split()) if isinstance(value, str) else ""


def _doi(description: dict[str, Any]) -> str:
    """Return the dataset's DOI without prefix and version, in small letters."""
    return plain_doi(_stated(description, "DatasetDOI"))


def _public(source: Source, pseudonyms: Pseudonyms) -> Source:
    """Return a source with the names that products may hold."""
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
    """Return whether a name can be written to the catalogue; bytes that are not UTF-8 are lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_closed(config: IngestConfig, root: Location, entry: Entry | None) -> None:
    """Refuse to download a dataset that needs an agreement or an approval; a copy that the user has is accepted."""
    if entry is None or entry.access_tier == "open" or root.is_local:
        return
    if entry.source.uri.rstrip("/") in {str(root).rstrip("/"), config.archive.rstrip("/")}:
        raise UserError(
            f"{config.archive}: {entry.id} is available by {entry.access_tier} only; obtain it from {entry.source.uri}"
            " and give the folder or bucket with your copy"
        )


def _description(root: Location, files: dict[str, ListedFile], config: IngestConfig) -> dict[str, Any]:
    file = files.get("dataset_description.json")
    if file is None:
        return {}
    try:
        found = json.loads(decode_text(read_listed(root, file, config.transfer)).text)
    except ValueError as error:
        raise UserError(
            f"{root}/dataset_description.json: not readable as JSON ({error}); repair or remove it"
        ) from error
    return found if isinstance(found, dict) else {}


def _snapshot(root: Location, files: dict[str, ListedFile], description: dict[str, Any], config: IngestConfig) -> str:
    """Return the dataset's version tag: from its DOI, else from the newest entry of CHANGES."""
    found = _VERSION.search(str(description.get("DatasetDOI", "")).rpartition(".v")[2])
    if found is None and "CHANGES" in files:
        found = _VERSION.search(decode_text(read_listed(root, files["CHANGES"], config.transfer)).text)
    return found[1] if found else ""
