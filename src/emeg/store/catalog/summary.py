"""A summary of a store that a person can read: datasets, subjects, hours, devices, refused sources, products."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from emeg.notebook import html_table
from emeg.store.catalog.facts import KEYS, read_facts
from emeg.store.catalog.records import CatalogRow
from emeg.store.catalog.tables import read_catalog, read_quarantine
from emeg.store.files import MARKERS, StoreFiles

MOST_DEVICES = 3
"""Devices that are named for a dataset; others are counted."""


class DatasetSummary(NamedTuple):
    """What a store holds of one dataset."""

    dataset: str
    subjects: int
    recordings: int
    hours: float
    quarantined: int
    devices: tuple[str, ...]
    """Most frequent first."""


def summarise_datasets(store: StoreFiles) -> list[DatasetSummary]:
    """Return one summary for each dataset that has a recording or a refused source, by name."""
    rows: dict[str, list[CatalogRow]] = defaultdict(list)
    for row in read_catalog(store):
        rows[row.dataset].append(row)
    refused = Counter(record.dataset for record in read_quarantine(store))
    return [
        DatasetSummary(
            name,
            len({row.subject for row in rows[name]}),
            len(rows[name]),
            sum(row.duration_s for row in rows[name]) / 3600.0,
            refused[name],
            tuple(device for device, _ in Counter(row.device or "unknown" for row in rows[name]).most_common()),
        )
        for name in sorted({*rows, *refused})
    ]


def summarise_products(store: StoreFiles) -> dict[str, int]:
    """Return the number of complete products of each kind but recordings."""
    return {kind: len(store.names(kind)) for kind in MARKERS if kind != "recordings"}


def summarise_store(store: StoreFiles) -> str:
    """Return the summary as text: a table of datasets, then facts, products and the next command to try."""
    found = summarise_datasets(store)
    lines = [str(store.root), ""]
    if found:
        head = ("dataset", "subjects", "recordings", "hours", "quarantined", "devices")
        total = ("all", *(sum(column) for column in list(zip(*found, strict=True))[1:5]), ())
        shown = [*found, DatasetSummary(*total)] if len(found) > 1 else found
        lines += aligned([head, *(_cells(one) for one in shown)])
    else:
        lines.append("no recordings; `emeg ingest` adds them")
    lines += ["", *_fact_lines(store)]
    products = ", ".join(f"{kind} {n}" for kind, n in summarise_products(store).items() if n)
    lines.append(f"products: {products or 'none yet'}")
    if found:
        lines.append(f"list recordings: emeg catalog --root {store.root} --limit 20")
    return "\n".join(lines)


def store_html(store: StoreFiles) -> str:
    """Return the summary as HTML: the root, a table of datasets and the products."""
    from html import escape

    head = ("dataset", "subjects", "recordings", "hours", "quarantined", "devices")
    products = ", ".join(f"{kind} {n}" for kind, n in summarise_products(store).items() if n) or "none yet"
    table = html_table(head, map(_cells, summarise_datasets(store)))
    return f"<div><b>Store</b> {escape(str(store.root))}{table}<p>products: {escape(products)}</p></div>"


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of text as lines with aligned columns."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(one: DatasetSummary) -> tuple[str, ...]:
    named, others = one.devices[:MOST_DEVICES], len(one.devices) - MOST_DEVICES
    devices = ", ".join(named) + (f" and {others} more" if others > 0 else "")
    return one.dataset, str(one.subjects), str(one.recordings), f"{one.hours:.2f}", str(one.quarantined), devices


def _fact_lines(store: StoreFiles) -> list[str]:
    lines = []
    for kind, keys in KEYS.items():
        table = read_facts(store, kind)
        names = [name for name in table.column_names if name not in keys]
        if names:
            lines.append(f"columns of {kind}: {', '.join(names)}")
    return lines
