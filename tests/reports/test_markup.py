"""Columns without a value are left out, and every number of a page becomes a row."""

import pytest

from emeg.evaluation.protocol.scoring import OF_KIND
from emeg.reports.markup import (
    FIGURES,
    METRIC_TITLES,
    Cell,
    Column,
    Figure,
    Row,
    Table,
    drop_empty,
    figure_table,
    metric_title,
)


def rows(*texts):
    return tuple(Row(tuple(map(Cell, own))) for own in texts)


def test_only_columns_of_dashes_are_dropped():
    table = Table("c", (Column("a"), Column("b"), Column("c")), rows(("x", "–", "–"), ("y", "–", "1")))
    found = drop_empty(table)
    assert [one.title for one in found.columns] == ["a", "c"]
    assert [[cell.text for cell in row.cells] for row in found.rows] == [["x", "–"], ["y", "1"]]
    empty = table._replace(rows=())
    assert drop_empty(empty) == empty


def test_figures_keep_what_is_unknown():
    table = figure_table([Figure("scores", "e", "t", "m", "subjects", "acc", 0.5, n=3), Figure(*"abcdef", None)])
    assert table.schema == FIGURES
    assert table["low"].to_pylist() == [None, None]
    assert table["n"].to_pylist() == [3, None]


@pytest.mark.parametrize("kind", OF_KIND)
def test_every_metric_has_a_name_for_readers(kind):
    titles = [metric_title(name) for name in OF_KIND[kind]]
    assert "_" not in "".join(titles)
    assert len(set(titles)) == len(titles)


def test_names_for_readers_are_those_of_metrics():
    assert METRIC_TITLES.keys() <= {name for names in OF_KIND.values() for name in names}
