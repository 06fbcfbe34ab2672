"""Read the sidecars of a recording: JSON, channels, electrodes, events and coordinate system."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from emeg.errors import RecordingError
from emeg.ingest.refusals import quoted
from emeg.ingest.source import Source
from emeg.ingest.tables.contact_systems import name_by_space, rank_contact_system
from emeg.ingest.tables.coordinate_systems import choose_pair, rank_system
from emeg.ingest.tables.datatype import is_intracranial
from emeg.ingest.text_files import ABSENT, decode_text
from emeg.ingest.units import hertz

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z_]{0,39}")
_LOW_PASS = re.compile(r"low.?pass|anti.?alias", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_CUTOFF = re.compile(r"cut.?off|freq|hz", re.IGNORECASE)

Rows = list[dict[str, str]]
_KEYS = {"channels": "name", "events": "onset", "electrodes": "name"}
"""Tables, and the column that each cannot do without."""

_NAMES = (
    "name",
    "type",
    "units",
    "status",
    "onset",
    "duration",
    "trial_type",
    "value",
    "sample",
    "x",
    "y",
    "z",
    "hemisphere",
)
_COLUMNS = {name.replace("_", ""): name for name in _NAMES} | {"unit": "units", "types": "type", "onsets": "onset"}
"""Columns that are read, by their names in small letters without blanks and dashes."""


@dataclass(frozen=True)
class Sidecars:
    """Contents of a recording's sidecars; ``None`` for a table that is not there."""

    json: dict[str, Any] = field(default_factory=dict)
    channels: Rows | None = None
    events: Rows | None = None
    electrodes: Rows | None = None
    coordsystem: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    paths: dict[str, str] = field(default_factory=dict)

    def path(self, kind: str) -> str:
        """Return the path of the table that was read, for messages."""
        return self.paths.get(kind, f"{kind}.tsv")

    @property
    def mains(self) -> float:
        """``PowerLineFrequency``, Hz; 0 where it is not known."""
        return hertz(self.json.get("PowerLineFrequency")) or 0.0

    @property
    def lowpass(self) -> float:
        """Lowest low-pass cutoff among the filters that the JSON describes, Hz; 0 where none is stated."""
        cutoffs = []
        for group in ("SoftwareFilters", "HardwareFilters"):
            filters = self.json.get(group)
            for name, parameters in filters.items() if isinstance(filters, dict) else ():
                if _LOW_PASS.search(name) and isinstance(parameters, dict):
                    cutoffs += [hertz(value) or 0.0 for key, value in parameters.items() if _CUTOFF.search(key)]
        return min((cutoff for cutoff in cutoffs if cutoff > 0.0), default=0.0)

    def text(self, key: str) -> str:
        """Return one field of the JSON as text, empty where absent or ``n/a``."""
        value = self.json.get(key)
        return "" if not isinstance(value, str) or value.strip() in ABSENT else value.strip()


def read_sidecars(source: Source, folder: Path) -> Sidecars:
    """Read the sidecars of a recording: JSON files merged from general to special, of each table the nearest.

    Positions are often not needed, since electrodes have names: a damaged table of electrodes or coordinate system is
    left out, with a note. All other sidecars decide what the signal and its events are.

    Raises
    ------
    RecordingError
        A sidecar that does not state positions is not readable as JSON or as a table.
    """
    notes: list[str] = []
    systems, tables = {}, {}
    for path in source.sidecars_named("coordsystem"):
        with _positions_only(notes):
            systems[path] = _merge(folder, [path], notes)
    for path in source.sidecars_named("electrodes"):
        with _positions_only(notes):
            tables[path] = _read_table(folder, path, notes, key=_KEYS["electrodes"])
    intracranial = is_intracranial(source.path)
    if intracranial:
        systems = {path: name_by_space(content, path, notes) for path, content in systems.items()}
    rank = rank_contact_system if intracranial else rank_system
    electrodes, system = choose_pair(tables, tuple(systems), systems, rank)
    paths = {kind: found[-1] for kind in _KEYS if (found := source.sidecars_named(kind))} | {"electrodes": electrodes}
    paths = {kind: path for kind, path in paths.items() if path}

    def table(kind: str) -> Rows | None:
        return _read_table(folder, paths[kind], notes, key=_KEYS[kind]) if kind in paths else None

    return Sidecars(
        json=_with_mains(_merge(folder, source.sidecars_named("json"), notes), source, notes),
        channels=table("channels"),
        events=table("events"),
        electrodes=tables.get(electrodes),
        coordsystem=systems.get(system, {}),
        notes=tuple(notes),
        paths=paths,
    )


@contextmanager
def _positions_only(notes: list[str]) -> Iterator[None]:
    """Replace the refusal of a damaged file that states positions by a note."""
    try:
        yield
    except RecordingError as error:
        notes.append(f"{error}; its positions are not used")


def _with_mains(stated: dict[str, Any], source: Source, notes: list[str]) -> dict[str, Any]:
    """Fill in the mains frequency that the dataset's entry knows; where both are known they must agree."""
    known = source.treatment.mains_hz if source.treatment is not None else None
    entry = stated.get("PowerLineFrequency")
    found = hertz(entry)
    if found is None and entry is not None and str(entry).strip() not in ABSENT:
        notes.append(f"sidecar: PowerLineFrequency {quoted(str(entry))} is no frequency; not used")
    if source.treatment is None or known is None or found == known:
        return stated
    if found is None or found <= 0.0:
        return {**stated, "PowerLineFrequency": known}
    if source.treatment.mains_certain:
        raise RecordingError(
            f"{source.path}: PowerLineFrequency is {found:g} Hz in the sidecar, {known} Hz in the dataset's entry",
            next_action="find out which is right and correct the other",
        )
    notes.append(
        f"mains: {found:g} Hz in the sidecar, {known} Hz in the dataset's entry, unverified; the sidecar's used"
    )
    return stated


def _merge(folder: Path, paths: Iterable[str], notes: list[str]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            found = json.loads(_text(folder, path, notes), object_pairs_hook=partial(_object, path=path, notes=notes))
        except (ValueError, RecursionError) as error:
            raise RecordingError(
                f"{path}: not readable as JSON ({error})", next_action="repair or remove the sidecar"
            ) from error
        if not isinstance(found, dict):
            raise RecordingError(
                f"{path}: expected a JSON object, found {type(found).__name__}",
                next_action="repair or remove the sidecar",
            )
        merged.update(found)
    return merged


def _shown(name: str) -> str:
    """Return the name of a column or key for a note."""
    return repr(name) if _PLAIN_NAME.fullmatch(name) else quoted(name)


def _object(pairs: list[tuple[str, Any]], *, path: str, notes: list[str]) -> dict[str, Any]:
    """Return an object of a JSON file; note keys that it has twice with different values, of which the last counts."""
    found = dict(pairs)
    doubled = dict.fromkeys(key for key, value in pairs if value != found[key])
    notes.extend(f"{path}: {_shown(key)} is stated more than once; the last value is used" for key in doubled)
    return found


def _read_table(folder: Path, path: str, notes: list[str], *, key: str) -> Rows:
    """Read a table whose rows are known by the column `key`."""
    text = _text(folder, path, notes)
    if "\0" in text:
        raise RecordingError(f"{path}: no table but binary data", next_action="repair or remove the table")
    # `splitlines` would also split at characters that stand in names
    lines = [_cells(line) for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if not lines:
        return []
    header = _header(lines[0], path, notes)
    if key not in header:
        raise RecordingError(
            f"{path} has no column {key!r} but {', '.join(map(quoted, header[:6]))[:200]};"
            " columns are separated by tabs",
            next_action="repair the table",
        )
    rows = []
    for number_, line in enumerate(lines[1:], start=2):
        if len(line) > len(header):
            raise RecordingError(
                f"{path}, line {number_}: {len(line)} fields under {len(header)} names; fields are separated by tabs",
                next_action="repair the table",
            )
        row: dict[str, str] = {}
        for name, cell in zip(header, line, strict=False):
            row.setdefault(name, cell)
        rows.append(row)
    return rows


def _cells(line: str) -> list[str]:
    """Split a line at its tabs; blank cells at its end and quotes around a whole cell come from spreadsheets."""
    cells = [cell.strip() for cell in line.split("\t")]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return [cell[1:-1].strip() if _QUOTED.fullmatch(cell) else cell for cell in cells]


def _header(cells: list[str], path: str, notes: list[str]) -> list[str]:
    """Return the names of columns; known ones that are spelt otherwise, such as ``Onset``, get the spelling of BIDS."""
    folded = {name: _COLUMNS.get(re.sub(r"[\s_\-]+", "", name).lower(), name) for name in cells}
    renamed = {name: known for name, known in folded.items() if name != known and known not in cells}
    if renamed:
        listed = ", ".join(f"{name!r} as {known!r}" for name, known in renamed.items())
        notes.append(f"{path}: columns are not named as in BIDS; read {listed}")
    names = [renamed.get(name, name) for name in cells]
    doubled = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
    if doubled:
        shown = _shown(doubled[0])
        notes.append(f"{path}: {len(doubled)} columns appear more than once, such as {shown}; the first is read")
    return names


def _text(folder: Path, path: str, notes: list[str]) -> str:
    text, encoding = decode_text((folder / path).read_bytes())
    if encoding != "UTF-8":
        notes.append(f"{path}: not UTF-8 as BIDS requires; read as {encoding}")
    return text
