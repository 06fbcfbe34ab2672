"""Labelled stretches of recordings: from events, tables of subjects, tables of a user, or paths of source files."""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from emeg.data.corpus.registered import registry_id
from emeg.data.tasks.definition import event_label
from emeg.data.tasks.recipes import LabelSource, TaskRecipe
from emeg.errors import UserError
from emeg.store import CatalogRow, Store, find_labels, read_catalog, read_events
from emeg.store.catalog.facts import label_text
from emeg.store.catalog.parquet import table_of
from emeg.uri import locate

KEYS = ("dataset", "subject", "session", "task", "run", "recording", "source")
"""Columns by which rows of a user's table belong to recordings."""


class Span(NamedTuple):
    """A labelled stretch of a recording."""

    onset_s: float
    duration_s: float
    value: str


def task_recordings(store: Store, recipe: TaskRecipe) -> list[CatalogRow]:
    """Return the catalogue rows that a task may use: of brains, of its dataset, device, modality and paths.

    A dataset is the recipe's if it has its name in the store, or its entry in the registry.

    Raises
    ------
    UserError
        No recording matches; the message names the field that leaves none.
    """
    rows = [row for row in read_catalog(store) if row.contents == "brain"]
    ids = {} if recipe.dataset is None else {name: registry_id(store, name) for name in {row.dataset for row in rows}}
    checks: dict[str, Callable[[CatalogRow], bool]] = {
        "dataset": lambda row: recipe.dataset in (None, row.dataset, ids.get(row.dataset)),
        "device": lambda row: recipe.device in (None, row.device),
        "modality": lambda row: recipe.modality in (None, row.modality),
        "sensors": lambda row: recipe.sensors is None or recipe.sensors in row.modality.split("+"),
        "include": lambda row: not recipe.include or any(fnmatchcase(row.source, glob) for glob in recipe.include),
        "subjects": lambda row: not recipe.subjects or f"{row.dataset}/{row.subject}" in recipe.subjects,
    }
    for field, check in checks.items():
        left = [row for row in rows if check(row)]
        if not left:
            asked = getattr(recipe, field)
            there = sorted({str(getattr(row, field, row.source)) for row in rows})[:6] if field != "subjects" else []
            raise UserError(
                f"task {recipe.id}: no recording of the store has {field} {asked}"
                f"{'; there are ' + ', '.join(there) if there else ''}; ingest the dataset, or change {field}"
            )
        rows = left
    return rows


def find_spans(store: Store, rows: Sequence[CatalogRow], recipe: TaskRecipe) -> dict[str, list[Span]]:
    """Return the labelled stretches of each recording; recordings without labels are absent.

    Raises
    ------
    UserError
        A column, a table or a pattern does not fit.
    """
    labels = recipe.labels
    if labels.source == "events":
        return {row.recording: found for row in rows if (found := _of_events(store, row, labels))}
    if labels.source == "table":
        return _of_table(rows, recipe)
    if labels.source == "path":
        values = {row.recording: _of_path(row, labels) for row in rows}
    else:
        values = dict(find_labels(store, rows, labels.column or ""))
    return {row.recording: [Span(0.0, row.duration_s, value)] for row in rows if (value := values.get(row.recording))}


def _of_events(store: Store, row: CatalogRow, labels: LabelSource) -> list[Span]:
    about = {
        "run": str(int(row.run)) if row.run.isdigit() else row.run,
        "task": row.task,
        "session": row.session,
        "subject": row.subject,
    }
    found = []
    for event in read_events(store, row.recording):
        texts = {"label": event_label(event), "trial_type": event.trial_type, "value": event.value}
        try:
            value = labels.value.format(**about, **texts)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise UserError(
                f"labels.value {labels.value!r}: {error} is not known; use {', '.join((*texts, *about))} in braces"
            ) from error
        duration_s = event.duration_s if np.isfinite(event.duration_s) else 0.0
        found.append(Span(event.onset_s, duration_s, value))
    return found


def _of_path(row: CatalogRow, labels: LabelSource) -> str | None:
    match = re.search(labels.pattern or "", row.source)
    if match is None:
        return None
    return str(match[1] if match.re.groups else match[0])


def _of_table(rows: Sequence[CatalogRow], recipe: TaskRecipe) -> dict[str, list[Span]]:
    labels = recipe.labels
    table = read_user_table(labels.table or "")
    needed = [column for column in (labels.column, labels.onset, labels.duration) if column is not None]
    missing = [column for column in needed if column not in table.column_names]
    keys = [key for key in KEYS if key in table.column_names and key != labels.column]
    if missing or not keys:
        what = f"column {missing[0]}" if missing else f"one of the columns {', '.join(KEYS)}"
        raise UserError(f"{labels.table}: it lacks {what}; its columns are {', '.join(table.column_names)}; add it")
    by_key: Mapping[tuple[str, ...], list[CatalogRow]] = defaultdict(list)
    for row in rows:
        by_key[tuple(_key(getattr(row, key), key) for key in keys)].append(row)
    found: dict[str, list[Span]] = defaultdict(list)
    for cells in table.select([*keys, *needed]).to_pylist():
        value = cells[labels.column]
        if value is None or (isinstance(value, float) and not np.isfinite(value)):
            continue
        for row in by_key.get(tuple(_key(cells[key], key) for key in keys), ()):
            onset_s = 0.0 if labels.onset is None else _seconds(cells, labels.onset, labels.table)
            whole = row.duration_s if labels.onset is None else 0.0
            duration_s = whole if labels.duration is None else _seconds(cells, labels.duration, labels.table)
            found[row.recording].append(Span(onset_s, duration_s, label_text(value)))
    return dict(found)


def _seconds(cells: Mapping[str, Any], column: str, table: str | None) -> float:
    """Return a time of a row of a table, s.

    Raises
    ------
    UserError
        It is missing or no number.
    """
    try:
        value = float(cells[column])
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise UserError(
            f"{table}: {column} is {cells[column]!r} in the row {dict(cells)}; write a time in seconds, or remove the"
            " row"
        )
    return value


def _key(value: Any, key: str) -> str:  # noqa: ANN401 - a cell
    """Return a key as text, without BIDS prefixes and leading zeros of numbers: ``sub-01`` and 1 are one subject."""
    text = label_text(value) if value is not None else ""
    if key in ("subject", "session"):
        text = re.sub(r"^(sub|ses)-", "", text)
    return (text.lstrip("0") or "0") if text.isdigit() else text


def read_user_table(path: str) -> pa.Table:
    """Read a table with a header from a .csv, .tsv or .parquet file, a path or any fsspec URI.

    Raises
    ------
    UserError
        There is no such file, or it is not a table.
    """
    from pyarrow import csv

    location = locate(path)
    if not location.exists():
        raise UserError(f"{path}: there is no such table; give a path relative to the task's YAML file")
    data = location.read_bytes()
    try:
        if path.endswith(".parquet"):
            return table_of(data)
        options = csv.ParseOptions(delimiter="\t" if path.endswith(".tsv") else ",")
        convert = csv.ConvertOptions(null_values=["", "n/a"], strings_can_be_null=True)
        return csv.read_csv(
            io.BytesIO(data), csv.ReadOptions(use_threads=False), parse_options=options, convert_options=convert
        )
    except pa.ArrowException as error:
        raise UserError(f"{path}: not readable as a table: {error}; write a header and one row a line") from error
