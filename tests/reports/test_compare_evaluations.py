"""`compare` shows every figure of several evaluations, draws every panel, and refuses figures that do not compare."""

import csv
import io
import json
import re
import zlib
from pathlib import Path

import pytest
from tests.browser import open_browser
from tests.messages import refusal
from tests.reports.grids import add_recordings, grid, publish, results, task

from emeg.errors import UserError
from emeg.evaluation.protocol.products import GridSummary, write_grid
from emeg.evaluation.protocol.rows import PREDICTIONS, SPLITS
from emeg.reports import CompareConfig, compare
from emeg.reports.moabb_table import COLUMNS
from emeg.store import Store


@pytest.fixture
def root(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    add_recordings(store)
    publish(store, "e1", "aaaaaaaa11", 0.7)
    publish(store, "e2", "bbbbbbbb22", 0.55)
    return str(tmp_path / "store")


def test_the_page_has_every_model_and_every_panel(root):
    done = compare(CompareConfig(root=root))
    assert done.evaluations == ("e1", "e2")
    html = Path(done.path).read_text(encoding="utf-8")
    for text, count in (("Means and intervals of", 1), ("labelled examples of each", 2), ("Confusion matrix", 4)):
        assert len(re.findall(f'role="img" aria-label="[^"]*{text}', html)) == count, text
    for text in ("(aaaaaaaa)", "(bbbbbbbb)", "[0.650, 0.750]", "[0.500, 0.600]", "passed", "not passed", "&lt;t2&gt;"):
        assert text in html, text
    assert "<t2>" not in html, "names are escaped, also in plots"
    section = html[html.index('id="figures"') : html.index('id="task-t1"')]
    assert section.count("[0.560, 0.660]") == 2, "a rival of equal splits is shown once for each task"
    again = compare(CompareConfig(root=root))
    assert again.done_before
    assert again.report == done.report


def test_the_tables_beside_the_page_have_every_row(root):
    done = compare(CompareConfig(root=root, evaluations=("e2", "e1")))
    folder = Path(done.path).parent
    assert set(json.loads((folder / "figures.json").read_text())) == {"e1", "e2"}
    rows = list(csv.DictReader(io.StringIO((folder / "moabb.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 2 * 6 * 3, "two tasks, six subjects, one rival and two networks"
    rival = [row for row in rows if row["pipeline"] == "band_power"]
    assert {float(row["score"]) for row in rival} == {0.615}, "mean over two seeds"
    assert {row["channels"] for row in rows} == {"8"}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"tasks": [task("t1", definition={"id": "t1", "classes": {}}), task("<t2>")]}, "definition"),
        ({"tasks": [task("t1", splits={"0": "other"}), task("<t2>")]}, "splits"),
        ({"seeds": (0,)}, "seeds"),
    ],
)
def test_figures_that_do_not_compare_are_refused(root, changed, what):
    store = Store.open(root)
    fields = grid("cc", 0.6).model_dump() | changed
    with store.publishing("evaluations", "e3") as folder:
        write_grid(
            folder,
            GridSummary.checked(fields, source="test"),
            results("cc", 0.6),
            PREDICTIONS.empty_table(),
            SPLITS.empty_table(),
        )
    with refusal(UserError, "t1", "e1", "e3", what, action="emeg evaluate"):
        compare(CompareConfig(root=root, evaluations=("e1", "e3")))


def test_a_missing_evaluation_is_named_with_those_that_exist(root, tmp_path):
    with refusal(UserError, "e9", action="e1, e2"):
        compare(CompareConfig(root=root, evaluations=("e9",)))
    Store.open(tmp_path / "empty", create=True)
    with refusal(UserError, "empty", action="emeg evaluate --tasks"):
        compare(CompareConfig(root=str(tmp_path / "empty")))


LONG_TABLE = """
for (let k = 0; k < 7; k++) { const rows = document.querySelector("#figures tbody"); rows.innerHTML += rows.innerHTML; }
for (const head of document.querySelectorAll("#figures thead th")) head.style.background = "#ff00ff";
"""
"""Script that gives one table hundreds of rows and a coloured heading."""


def sheets_with(path, operator):
    """Return on how many sheets of a PDF an operator stands, such as the one that sets a colour."""
    found = 0
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", path.read_bytes(), re.DOTALL):
        try:
            found += operator in zlib.decompress(stream)
        except zlib.error:
            continue
    return found


def test_in_a_browser_tables_sort_by_mouse_and_keyboard_and_nothing_fails(root, tmp_path):
    path = Path(compare(CompareConfig(root=root)).path)
    with open_browser(tmp_path) as page:
        page.open(path.as_uri())
        column = "[...document.querySelectorAll('#figures tbody tr')].map(r => r.cells[3].textContent).join(' ')"
        order = "document.querySelectorAll('#figures th[scope=col]')[3].getAttribute('aria-sort')"
        assert page.run(order) == "none"
        page.click("#figures th:nth-child(4) button")
        down, how = page.run(column), page.run(order)
        values = re.findall(r"\d\.\d+(?= ±)", down)
        assert (how, values) == ("descending", sorted(values, reverse=True))
        page.press("Enter")
        up = re.findall(r"\d\.\d+(?= ±)", page.run(column))
        assert (page.run(order), up) == ("ascending", sorted(values))
        page.press("Tab")
        page.press(" ")
        assert page.run("document.querySelectorAll('#figures th[scope=col]')[4].getAttribute('aria-sort')") != "none"
        empty = "[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().width < 20).length"
        assert page.run(empty) == 0, "every picture is drawn"
        page.size(380, 800)
        assert page.run("document.documentElement.scrollWidth") <= 380, "a narrow window scrolls tables alone"
        page.call("Emulation.setEmulatedMedia", media="print")
        page.size(720, 1000)
        assert page.run("document.documentElement.scrollWidth") <= 720, "print is whole"
        page.pdf(tmp_path / "page.pdf")
        assert page.run("[...document.querySelectorAll('details')].every(one => one.open)"), "folded parts are printed"
        page.run(LONG_TABLE)
        page.pdf(tmp_path / "long.pdf")
        assert sheets_with(tmp_path / "long.pdf", b"1 0 1 rg") >= 3, "the heading of a table is on each of its sheets"
        assert page.errors == []
