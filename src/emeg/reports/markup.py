"""Tables and pictures of a page, each with the text that a screen reader needs, and their figures as rows.

The macros in ``templates/parts.html.j2`` draw `Table` and `Picture`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

METRIC_TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "kappa": "κ",
    "weighted_f1": "weighted F1",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "r2": "R²",
    "mae": "MAE",
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "mean_rank": "mean rank",
    "noise_ceiling": "noise ceiling",
    "share_of_ceiling": "share of the noise ceiling",
}
"""Names of metrics for readers, by the name in tables and files."""


def metric_title(name: str) -> str:
    """Return the name of a metric as a page shows it."""
    return METRIC_TITLES.get(name, name.replace("_", " "))


def words(name: str) -> str:
    """Return a name of the settings, such as ``cross_subject``, as words."""
    return name.replace("_", " ")


def sentence(text: str) -> str:
    """Return a text that begins with a capital."""
    return f"{text[:1].upper()}{text[1:]}"


class Column(NamedTuple):
    """Column of a table."""

    title: str
    is_number: bool = False
    wraps: bool = False
    """Whether a number and its interval may stand on two lines."""

    @property
    def classes(self) -> str:
        """Names of the classes of its cells in HTML."""
        return " ".join(name for name, is_set in (("n", self.is_number), ("wraps", self.wraps)) if is_set)


class Cell(NamedTuple):
    """Cell of a table."""

    text: str
    warn: bool = False
    """Whether the text is a warning, such as a gate that was not passed."""


class Row(NamedTuple):
    """Row of a table; the first cell is its heading."""

    cells: tuple[Cell, ...]
    strong: bool = False


class Table(NamedTuple):
    """A table with its caption."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    empty: str = "Nothing to show."
    """Sentence in place of rows."""


class Picture(NamedTuple):
    """A plot as SVG text."""

    svg: str
    alt: str
    """What the plot shows, for readers who cannot see it."""
    caption: str = ""


class Figure(NamedTuple):
    """One number of a page; ``figures.parquet`` has one row for each."""

    panel: str
    """Part of the page, such as scores, gates, confusion, spectra."""
    evaluation: str
    task: str
    series: str
    """Compared model, class or device."""
    item: str
    """What the number belongs to, such as a subject, a channel or a frequency."""
    metric: str
    value: float | None
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""
    n: int | None = None
    """Subjects or windows that the number was computed from."""


FIGURES = pa.schema(
    [
        *((name, pa.string()) for name in ("panel", "evaluation", "task", "series", "item", "metric")),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        ("n", pa.int64()),
    ]
)
"""Columns of ``figures.parquet``: the fields of `Figure`."""


def figure_table(figures: Iterable[Figure]) -> pa.Table:
    """Return the numbers of a page as a table."""
    return pa.Table.from_pylist([one._asdict() for one in figures], schema=FIGURES)


def drop_empty(table: Table) -> Table:
    """Return a table without the columns that have a dash in every row."""
    kept = [k for k in range(len(table.columns)) if any(row.cells[k].text != "–" for row in table.rows)]
    rows = tuple(row._replace(cells=tuple(row.cells[k] for k in kept)) for row in table.rows)
    return table._replace(columns=tuple(table.columns[k] for k in kept), rows=rows) if table.rows else table


def number(value: float | None, *, sign: bool = False) -> str:
    """Return a number with three decimals; a dash for None."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.3f}"


def span(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Return an interval as text; a dash if there is none."""
    return "–" if low is None or high is None else f"[{number(low, sign=sign)}, {number(high, sign=sign)}]"
