"""Read participants.tsv, sessions.tsv and scans.tsv of an archive into the store's tables of facts."""

import csv
import io
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from emeg.ingest.config import TransferConfig
from emeg.ingest.listing.bids import path_entities
from emeg.ingest.pseudonyms import Pseudonyms, without_dates
from emeg.ingest.source import ListedFile, Source
from emeg.ingest.subjects.column_types import levels_of, typed
from emeg.ingest.subjects.private import rule_on_name, rule_on_values
from emeg.ingest.text_files import ABSENT, decode_text
from emeg.ingest.transfer.download import read_listed
from emeg.store import Store
from emeg.store.catalog.facts import KEYS, FactKind, with_about, write_facts
from emeg.uri import Location

logger = logging.getLogger(__name__)

PARTICIPANTS = "participants.tsv"

_ID_COLUMN: dict[FactKind, str] = {"subjects": "participant_id", "sessions": "session_id", "scans": "filename"}
"""Column of each source table that says whose row it is."""

_ABOUT_KEYS = ("LongName", "Description", "Levels", "Units", "Derivative")
"""Keys of a column's JSON entry that are kept."""

Row = dict[str, str]


@dataclass
class FactTable:
    """A table that is being read: rows by key, and the columns' descriptions in its JSON files."""

    kind: FactKind
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    """Files of which nothing could be used, by name, and why."""

    def columns(self) -> list[str]:
        """Return the names of the columns, in order of appearance, without the one that says whose the row is."""
        names = dict.fromkeys(name for row in self.rows.values() for name in row)
        return [name for name in names if name != _ID_COLUMN[self.kind]]


def store_facts(
    store: Store,
    root: Location,
    dataset: str,
    files: Sequence[ListedFile],
    sources: Sequence[Source],
    pseudonyms: Pseudonyms,
    config: TransferConfig,
) -> dict[str, str]:
    """Read an archive's tables about subjects, sessions and recordings and write them to the store.

    Only rows of subjects and recordings in `sources` are kept. Tables that are as before are not written again.

    Parameters
    ----------
    store : Store
    root : Location
        The archive.
    dataset : str
    files : sequence of ListedFile
        All files of the archive.
    sources : sequence of Source
        Its recordings, under their public names; withdrawn subjects left out.
    pseudonyms : Pseudonyms
    config : TransferConfig

    Returns
    -------
    dict
        For each column that was dropped, the reason: ``participants.tsv: dob`` -> ``private by its name``; and for each
        file of which nothing could be used.
    """
    dropped: dict[str, str] = {}
    for table in read_fact_tables(root, files, sources, pseudonyms, config):
        written, reasons = public_table(table, dataset)
        if write_facts(store, table.kind, dataset, written):
            logger.info("catalog/%s/%s.parquet: %d rows", table.kind, dataset, 0 if written is None else len(written))
        dropped |= {f"{_file_of(table.kind)}: {name}": reason for name, reason in reasons.items()} | table.unread
    for name, reason in dropped.items():
        logger.info("%s of %s is not kept: %s", name, dataset, reason)
    return dropped


def read_fact_tables(
    root: Location,
    files: Iterable[ListedFile],
    sources: Sequence[Source],
    pseudonyms: Pseudonyms,
    config: TransferConfig,
) -> list[FactTable]:
    """Read the tables with the public names of subjects, sessions and recordings; no column is left out yet."""
    by_name: dict[str, list[ListedFile]] = defaultdict(list)
    for file in files:
        by_name[_suffix(file.path)].append(file)
    wanted = [*by_name[PARTICIPANTS], *by_name["sessions.tsv"], *by_name["scans.tsv"]]
    wanted += [*by_name["participants.json"], *by_name["sessions.json"], *by_name["scans.json"]]
    with ThreadPoolExecutor(8) as pool:
        texts = dict(
            zip((file.path for file in wanted), pool.map(lambda f: _text(root, f, config), wanted), strict=True)
        )
    people = {source.subject for source in sources}
    known: dict[FactKind, FactTable] = {kind: FactTable(kind) for kind in KEYS}
    for file in by_name[PARTICIPANTS]:
        if "/" not in file.path:
            _add_participants(known["subjects"], _rows(texts[file.path]), people, pseudonyms)
    for file in by_name["sessions.tsv"]:
        _add_sessions(known["sessions"], _rows(texts[file.path]), file.path, people, pseudonyms)
    shown = {source.path: (source.subject, source.shown) for source in sources}
    for file in by_name["scans.tsv"]:
        _add_scans(known["scans"], _rows(texts[file.path]), file.path, shown)
    for kind, table in known.items():
        described = _file_of(kind).replace(".tsv", ".json")
        for file in by_name[described]:
            found = _about(texts[file.path])
            if found is None:
                table.unread[described] = "not readable as a JSON object; types and levels of columns are not known"
            table.about = {**(found or {}), **table.about}
        if by_name[_file_of(kind)] and sources and not table.rows:
            table.unread[_file_of(kind)] = f"no row names one of the recordings in its column {_ID_COLUMN[kind]}"
    return list(known.values())


def public_table(table: FactTable, dataset: str) -> tuple[pa.Table | None, dict[str, str]]:
    """Return the columns that may be kept, typed, and the reason for each that is dropped."""
    keys = sorted(table.rows)
    names = ("subject", *KEYS[table.kind][2:])
    columns: dict[str, Any] = {"dataset": [dataset] * len(keys)}
    columns |= {name: [key[i] for key in keys] for i, name in enumerate(names)}
    dropped: dict[str, str] = {}
    taken = {name.lower() for name in columns}
    for name in table.columns():
        about = table.about.get(name, {})
        levels, has_unit = levels_of(about), bool(about.get("Units"))
        cells: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            if (value := table.rows[key].get(name, "")) not in ABSENT:
                cells[key[0]].append(value)
        reason = rule_on_name(name)
        hidden: frozenset[str] = frozenset()
        if not reason:
            reason, hidden = rule_on_values(name, cells, levels=levels, has_unit=has_unit)
        if not reason and name.lower() in taken:
            reason = "its name is taken"
        if reason:
            dropped[name] = reason
            continue
        if hidden:
            dropped[f"{name} ({len(hidden)} values)"] = "may name a person; declare them in Levels to keep them"
        taken.add(name.lower())
        values = [_cell(table.rows[key].get(name, ""), hidden) for key in keys]
        columns[name] = typed(name, values, levels=levels, has_unit=has_unit)
    if not keys:
        return None, dropped
    return with_about(pa.table(columns), table.about), dropped


def _cell(value: str, hidden: frozenset[str]) -> str | None:
    return None if value in ABSENT or value in hidden else value


def _file_of(kind: FactKind) -> str:
    return PARTICIPANTS if kind == "subjects" else f"{kind}.tsv"


def _suffix(path: str) -> str:
    """Return the last part of a BIDS name with its extension: ``scans.tsv`` for ``sub-01/sub-01_scans.tsv``."""
    return PurePosixPath(path).name.rpartition("_")[2]


def _text(root: Location, file: ListedFile, config: TransferConfig) -> str:
    return decode_text(read_listed(root, file, config)).text


def _rows(text: str) -> list[Row]:
    """Read a table of tabs; a row with too few cells has empty ones."""
    lines = [line for line in csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE) if any(line)]
    if not lines:
        return []
    names = [name.strip() for name in lines[0]]
    return [dict(zip(names, [cell.strip() for cell in line], strict=False)) for line in lines[1:]]


def _about(text: str) -> dict[str, dict[str, Any]] | None:
    """Return what a JSON file says of columns; None for a file that holds no JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {
        str(name): {key: _without_dates(entry[key]) for key in _ABOUT_KEYS if key in entry}
        for name, entry in found.items()
        if isinstance(entry, dict)
    }


def _without_dates(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return without_dates(value)
    if isinstance(value, Mapping):
        return {str(key): _without_dates(one) for key, one in value.items()}
    return [_without_dates(one) for one in value] if isinstance(value, list) else value


def _add_participants(table: FactTable, rows: list[Row], people: set[str], pseudonyms: Pseudonyms) -> None:
    for row in rows:
        label = row.get("participant_id", "")
        for one in (label, f"sub-{label}", label.removeprefix("sub-")):
            if (public := pseudonyms.subject(one)) in people:
                table.rows.setdefault((public,), row)
                break


def _add_sessions(table: FactTable, rows: list[Row], path: str, people: set[str], pseudonyms: Pseudonyms) -> None:
    subject = pseudonyms.subject(f"sub-{path_entities(path).get('sub', '')}")
    for row in rows if subject in people else ():
        session = pseudonyms.label(row.get("session_id", "").removeprefix("ses-"))
        if session:
            table.rows.setdefault((subject, session), row)


def _add_scans(table: FactTable, rows: list[Row], path: str, shown: Mapping[str, tuple[str, str]]) -> None:
    folder = PurePosixPath(path).parent
    for row in rows:
        if (key := shown.get(str(folder / row.get("filename", "")))) is not None:
            table.rows.setdefault(key, row)
