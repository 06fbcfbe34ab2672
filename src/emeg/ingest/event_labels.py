"""Decide which rows of a table of events belong to a recording's content, and which are labels only.

Rows that mark bad data or pauses (``BAD_muscle``, ``boundary``, ``New Segment``) change what is stored of the signal,
so they are part of a recording's identity. All others are labels: when they change, the recording keeps its name, and
the next ingest replaces its events alone.

``catalog/labels/<dataset>.json`` holds, for recordings with a table of events, the identity of the table that their
events come from, and the names that earlier versions gave to the same content.
"""

import csv
import io
import re
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pydantic import Field

from emeg.config import Config
from emeg.hashing import hash_json
from emeg.ingest.config import IngestConfig
from emeg.ingest.source import ListedFile, Source
from emeg.ingest.text_files import decode_text
from emeg.ingest.transfer.download import file_identity, read_listed, recording_id
from emeg.store import Store
from emeg.uri import Location, locate

_CONTENT = re.compile(
    r"(?:bad|edge)\b|(?:bad|edge)[_ ]|.*\bboundary\b|new segment|recording (?:start|end)", re.IGNORECASE
)


class Labels(Config):
    """What the store records of a dataset's tables of events."""

    events: dict[str, str] = Field(default_factory=dict)
    """Recording -> identity of the tables that its events come from."""
    older_names: dict[str, str] = Field(default_factory=dict)
    """Name that the content has today -> recording that an earlier version gave another name."""


def read_labels(store: Store, dataset: str) -> Labels:
    """Read the records about a dataset's tables of events; empty for a dataset without any."""
    parts = ("catalog", "labels", f"{dataset}.json")
    return Labels.checked(store.read_json(*parts), source="/".join(parts)) if store.exists(*parts) else Labels()


def write_labels(store: Store, dataset: str, labels: Labels, recordings: set[str]) -> None:
    """Write the records about tables of events for the recordings that exist, if they have changed."""
    events = {name: identity for name, identity in labels.events.items() if name in recordings and identity}
    older = {name: known for name, known in labels.older_names.items() if known in recordings}
    kept = Labels(events=dict(sorted(events.items())), older_names=dict(sorted(older.items())))
    if kept == read_labels(store, dataset):
        return
    parts = ("catalog", "labels", f"{dataset}.json")
    if kept == Labels():
        store.remove(*parts)
    else:
        store.write_json(kept.model_dump(mode="json"), *parts)


def content_of_events(data: bytes) -> str:
    """Hash the rows of a table of events that belong to the content of a recording; empty where there is none.

    Parameters
    ----------
    data : bytes
        The file.
    """
    lines = csv.reader(io.StringIO(decode_text(data).text), delimiter="\t", quoting=csv.QUOTE_NONE)
    rows = [[cell.strip() for cell in line] for line in lines]
    found = [[*row[:2], *filter(_CONTENT.match, row[2:])] for row in rows[1:] if any(map(_CONTENT.match, row[2:]))]
    return hash_json(found) if found else ""


def event_files(source: Source) -> tuple[ListedFile, ...]:
    """Return the tables of events of a source, general ones first."""
    return tuple(file for kind, file in source.sidecars if kind == "events")


def labels_identity(source: Source) -> str:
    """Name the content of a source's tables of events; empty where there is none."""
    files = {file.path: file_identity(source.archive, file) for file in event_files(source)}
    return hash_json(files) if files else ""


def with_event_content(store: Store, sources: Sequence[Source], config: IngestConfig) -> tuple[Source, ...]:
    """Return the sources with `ListedFile.content` of their tables of events.

    Each version of a table is read once; what was found is kept in ``runs/``, since it is no product.

    Raises
    ------
    TransientError
        A table in a bucket could not be read.
    """
    if not sources:
        return ()
    parts = ("runs", "ingest", f"{sources[0].dataset}-events.json")
    kept: dict[str, str] = store.read_json(*parts) if store.exists(*parts) else {}
    files = {file.path: file for source in sources for file in event_files(source)}
    root = locate(sources[0].archive)
    with ThreadPoolExecutor(config.transfer.connections) as pool:
        found = list(pool.map(lambda file: _content(root, file, kept, config), files.values()))
    content = {path: one for path, (_, one) in zip(files, found, strict=True)}
    fresh = {key: one for key, one in found if key and one is not None}
    if fresh != kept:
        store.write_json(fresh, *parts)
    return tuple(
        replace(source, sidecars=tuple(_with_content(kind, file, content) for kind, file in source.sidecars))
        for source in sources
    )


def _content(root: Location, file: ListedFile, kept: Mapping[str, str], config: IngestConfig) -> tuple[str, str | None]:
    """Return the key under which the content is kept, empty where nothing identifies the file, and the content."""
    known = file.sha256 or file.etag
    key = hash_json([file.path, known, file.size]) if known else ""
    if key in kept:
        return key, kept[key]
    try:
        return key, content_of_events(read_listed(root, file, config.transfer))
    except OSError:  # a broken link, a file without read permission: refused when it is opened
        return "", None


def _with_content(kind: str, file: ListedFile, content: Mapping[str, str | None]) -> tuple[str, ListedFile]:
    return kind, replace(file, content=content[file.path]) if kind == "events" else file


def match_older_names(
    sources: Sequence[Source], config: IngestConfig, existing: Container[str], labels: Labels
) -> tuple[tuple[Source, ...], Labels]:
    """Return the sources with the ids that their recordings have in the store, and marks where events are out of date.

    Earlier versions counted whole tables of events as content. Their recordings are found by that id while the
    tables are unchanged, and by `Labels.older_names` later.

    Parameters
    ----------
    sources : sequence of Source
        With `ListedFile.content`.
    config : IngestConfig
    existing : container of str
        Ids of recordings in the store and of refused ones.
    labels : Labels
        What earlier runs recorded.

    Returns
    -------
    tuple of Source, Labels
        The labels hold what is to be recorded now: the identity of the tables of all recordings that are up to date
        or not made yet.
    """
    events, older_names = dict(labels.events), dict(labels.older_names)
    found = []
    for source in sources:
        name, identity = recording_id(source, config), labels_identity(source)
        if name not in existing and name in older_names and older_names[name] in existing:
            source = replace(source, adopted=older_names[name])
        elif name not in existing and identity and (older := _older_id(source, config)) in existing:
            source, older_names[name] = replace(source, adopted=older), older
            events[older] = identity
        name = source.adopted or name
        if name not in existing:
            events[name] = identity
        elif events.get(name, "") != identity:
            source = replace(source, relabel=True)
        found.append(source)
    return tuple(found), Labels(events=events, older_names=older_names)


def _older_id(source: Source, config: IngestConfig) -> str:
    whole = tuple((kind, replace(file, content=None)) for kind, file in source.sidecars)
    return recording_id(replace(source, sidecars=whole), config)
