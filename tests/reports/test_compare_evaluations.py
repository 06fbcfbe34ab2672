"""`compare` shows every figure of several evaluations, draws every panel, and refuses figures that do not compare."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.protocol.products import GridSummary, write_grid
from emeg.evaluation.protocol.rows import PREDICTIONS, RESULTS, SPLITS
from emeg.reports import CompareConfig, compare
from emeg.reports.moabb_table import COLUMNS
from emeg.store import Store

SUBJECTS = [f"d/{k}" for k in range(6)]


def score(task, model, mean, *, weights="", examples=None, title=None):
    return {
        "task": task,
        "key": {"model": model, "weights": weights, "examples_per_class": examples, "read_out": "logistic"},
        "title": title or model,
        "metric": "balanced_accuracy",
        "mean": mean,
        "sd": 0.01,
        "n_runs": 3,
        "subject_metric": "balanced_accuracy",
        "subjects": dict.fromkeys(SUBJECTS, mean),
        "interval": {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n_subjects": 6},
        "by_subject": None,
    }


def task(name, **changes):
    return {
        "id": name,
        "title": f"Task {name}",
        "kind": "classification",
        "metric": "balanced_accuracy",
        "split_rule": "cross_subject",
        "definition": {"id": name},
        "classes": ("a", "b"),
        "datasets": ("d",),
        "devices": ("x",),
        "n_subjects": 6,
        "n_recordings": 6,
        "n_windows": 60,
        "windows_per_class": {"a": 30, "b": 30},
        "n_channels": 8,
        "left_out": {},
        "n_seen": 0,
        "n_folds": 3,
        "splits": {"0": "abc"},
        "notices": (),
        "published": {},
    } | changes


def grid(model, mean, *, tasks=("t1", "<t2>"), **changes):
    scores = []
    for name in tasks:
        scores += [score(name, "chance", 0.5), score(name, "band_power", 0.61)]
        scores += [score(name, model, mean, weights="pretrained", title="BrainOmni, logistic")]
        scores += [
            score(name, model, mean - 0.1 / n, weights="pretrained", examples=n, title="BrainOmni, logistic")
            for n in (1, 5)
        ]
    own, rival = scores[2]["key"], scores[1]["key"]
    comparison = {
        "task": tasks[0],
        "key": own,
        "rival": rival,
        "question": "best_rival",
        "difference": {"mean": mean - 0.61, "low": mean - 0.7, "high": mean - 0.5, "n_subjects": 6},
        "p": 0.01,
        "p_corrected": 0.02,
        "passed": mean > 0.61,
    }
    fields = {
        "version": "0",
        "seeds": (0, 1, 2),
        "split_mode": "strict",
        "tasks": [task(name) for name in tasks],
        "scores": scores,
        "comparisons": [comparison],
        "provenance": {"notes": []},
    }
    return GridSummary.checked(fields | changes, source="test")


def results(model, mean, tasks=("t1", "<t2>")):
    base = {"kind": "classification", "split_rule": "cross_subject", "labels": "real", "condition": "", "n": 10}
    base |= {"unit": "window", "metric": "balanced_accuracy", "note": "", "setting": "{}", "examples_per_class": None}
    rows = []
    for name in tasks:
        for model_name, weights, value in (("band_power", "", 0.61), (model, "pretrained", mean)):
            own = {"task": name, "model": model_name, "weights": weights, "mode": "", "read_out": ""}
            rows += [
                base | own | {"seed": seed, "fold": 0, "subject": subject, "value": value + 0.01 * seed}
                for seed in (0, 1)
                for subject in SUBJECTS
            ]
    return pa.Table.from_pylist(rows, schema=RESULTS)


def publish(store, name, model, mean, **changes):
    with store.publishing("evaluations", name) as folder:
        write_grid(
            folder,
            grid(model, mean, **changes),
            results(model, mean),
            PREDICTIONS.empty_table(),
            SPLITS.empty_table(),
        )


@pytest.fixture
def root(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    publish(store, "e1", "aaaaaaaa11", 0.7)
    publish(store, "e2", "bbbbbbbb22", 0.55)
    return str(tmp_path / "store")


def test_the_page_has_every_model_and_every_panel(root):
    done = compare(CompareConfig(root=root))
    assert done.evaluations == ("e1", "e2")
    html = Path(done.path).read_text(encoding="utf-8")
    assert html.count("<svg") == 3, "forest plot and two label budgets"
    for text in ("(aaaaaaaa)", "(bbbbbbbb)", "[0.650, 0.750]", "[0.500, 0.600]", "passed", "not passed", "&lt;t2&gt;"):
        assert text in html, text
    assert "<t2>" not in html, "names are escaped, also in plots"
    assert html.count('<td class="n">0.610</td>') == 2 * 2, "a rival of equal splits is shown once for each task"
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


def test_tables_sort_by_click_and_by_keyboard_without_errors(root, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    html = Path(compare(CompareConfig(root=root)).path).read_text(encoding="utf-8")
    html = html.replace("<head>", "<head><script>window.faults = []; onerror = m => window.faults.push(m)</script>")
    script = """<script>
        const head = [...document.querySelectorAll("#figures th")].find(one => one.textContent === "mean over runs");
        const column = () => [...head.closest("table").tBodies[0].rows].map(r => r.cells[3].textContent).join(" ");
        head.click(); const up = column();
        head.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"})); const down = column();
        document.title = [up, down, head.getAttribute("aria-sort"), window.faults.length].join("|");
        </script></body>"""
    (tmp_path / "page.html").write_text(html.replace("</body>", script), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [
        chromium,
        *options,
        profile,
        "--virtual-time-budget=5000",
        "--dump-dom",
        (tmp_path / "page.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    up, down, order, n_faults = re.search(r"<title>(.*?)</title>", done.stdout).group(1).split("|")
    values = [float(text) for text in up.split()]
    assert values == sorted(values)
    assert [float(text) for text in down.split()] == sorted(values, reverse=True)
    assert (order, n_faults) == ("descending", "0")
