"""The page of an evaluation over tasks draws every panel, names what is missing, and keeps every number."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.messages import refusal
from tests.reports.grids import (
    PLANTED,
    PLANTED_DB,
    SUBJECTS,
    TASKS,
    add_recordings,
    grid,
    predictions,
    probes,
    publish,
    results,
    task,
)

from emeg import metrics
from emeg.errors import UserError
from emeg.evaluation.protocol.products import GridSummary, write_grid
from emeg.evaluation.protocol.rows import PREDICTIONS, SPLITS
from emeg.reports import ReportConfig, report
from emeg.reports.sections import grid as grid_section
from emeg.store import Store
from emeg.store.catalog.parquet import parquet_bytes

PANELS = {
    "Means and intervals of": 1,
    "Balanced accuracy of every subject": 2,
    "labelled examples of each class": 2,
    "Confusion matrix of": 2,
    "Spectra of": 2,
    "Topographies on": 2,
    "under 5 conditions": 2,
    "by layer": 2,
}
"""Beginning or middle of the text beside each picture, and the number of such pictures for two tasks."""


class Read(HTMLParser):
    """What a screen reader meets: headings, pictures, tables."""

    def __init__(self, html):
        super().__init__()
        self.headings, self.pictures, self.heads, self.captions, self.tables = [], [], [], 0, 0
        self.unlabelled, self._inside = 0, 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag == "th":
            self.heads.append(attrs.get("scope"))
        if attrs.get("role") == "img":
            self.pictures.append(attrs["aria-label"])
        if tag == "svg" and len(self.pictures) == self._inside:
            self.unlabelled += 1
        self._inside = len(self.pictures) if tag == "svg" else self._inside


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    add_recordings(store)
    return store


def made(store, name="e1"):
    folder = Path(report(ReportConfig(root=str(store.root), evaluation=name)).path).parent
    return (folder / "index.html").read_text(encoding="utf-8"), folder


def text_of(html):
    body = re.sub(r"<(style|script|svg).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_every_panel_is_drawn_with_a_text_beside_it(store):
    publish(store, "e1", "aaaaaaaa11", 0.7)
    read = Read(made(store)[0])
    for panel, count in PANELS.items():
        assert sum(panel in text for text in read.pictures) == count, panel
    assert len(read.pictures) == sum(PANELS.values())
    assert read.unlabelled == 0
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(read.headings, read.headings[1:], strict=False)), "no level is left out"
    assert read.tables == read.captions > 0
    assert set(read.heads) == {"row", "col"}


def test_gates_come_first_and_each_score_has_its_interval_and_n(store):
    changed = {
        "tasks_not_run": {"pd31": "ingest ds002778"},
        "models_not_run": (("t1", "xdawn", "no shared channel"),),
        "provenance": {"notes": ["a note"], "model": ""},
    }
    publish(store, "e1", "aaaaaaaa11", 0.7, **changed)
    html, _ = made(store)
    text = text_of(html)
    assert html.index('id="gates"') < html.index('id="checks"') < html.index('id="figures"')
    for wanted in (
        "+0.090 [+0.000, +0.200] 6 0.010 0.020 passed", "above the best rival",
        "BrainOmni, logistic (aaaaaaaa) 0.700 ± 0.010 3 0.700 [0.650, 0.750] 6", "2 of 2",
        "ingest ds002778", "t1, xdawn did not run: no shared channel", "A note.", "48 windows (24 a, 24 b)",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+["']|url\((?!#)""", html), "nothing is fetched"


def test_confusion_and_recall_are_those_of_the_predictions(store):
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",))
    html, folder = made(store)
    found = {
        (one["panel"], one["item"]): one
        for one in pq.read_table(folder / "figures.parquet").to_pylist()
        if one["task"] == "t1" and one["panel"] in ("confusion", "recall")
    }
    counts = {item: one["value"] for (panel, item), one in found.items() if panel == "confusion"}
    assert counts == {"a as a": 24, "a as b": 0, "b as a": 6, "b as b": 18}
    assert found["recall", "b"]["value"] == found["recall", "b"]["low"] == 0.75
    assert found["recall", "b"]["n"] == 6
    assert "b as a 0.25, b 0.75" in html


def test_spectra_and_topographies_show_the_planted_rhythm(store):
    """Labels come from the real cells, not from those with permuted labels."""
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",))
    html, folder = made(store)
    rows = [one for one in pq.read_table(folder / "figures.parquet").to_pylist() if one["task"] == "t1"]
    alpha = {one["item"]: one["value"] for one in rows if one["panel"] == "topographies" and "alpha" in one["series"]}
    assert max(alpha, key=alpha.get) == PLANTED
    others = [value for name, value in alpha.items() if name != PLANTED]
    assert abs(sum(others) / len(others)) < 1.0
    at_10 = {one["series"]: one for one in rows if one["panel"] == "spectra" and one["item"] == "10 Hz"}
    assert set(at_10) == {"cap, EEG, a", "cap, EEG, b"}
    assert all(one["low"] < one["value"] < one["high"] and one["n"] == 6 for one in at_10.values())
    assert f"strongest at {PLANTED}" in html
    assert alpha[PLANTED] < PLANTED_DB + 1.0


def publish_kind(store, kind, metric, label_and_prediction):
    """Publish an evaluation on one task of a kind; the function of subject index and window gives label, prediction."""
    changed = [
        row | dict(zip(("label", "prediction"), label_and_prediction(k // 8, k % 8), strict=True))
        for k, row in enumerate(row for row in predictions("m", ("t1",)).to_pylist() if row["labels"] == "real")
    ]
    fields = grid("m", 0.7, tasks=("t1",)).model_dump()
    fields["tasks"] = [task("t1", kind=kind, metric=metric, classes=(), windows_per_class={})]
    fields["scores"] = [one | {"metric": metric} for one in fields["scores"]]
    with store.publishing("evaluations", "e1") as folder:
        write_grid(
            folder,
            GridSummary.checked(fields, source="test"),
            results("m", 0.7, ("t1",)),
            pa.Table.from_pylist(changed, schema=PREDICTIONS),
            SPLITS.empty_table(),
        )


def test_targets_are_drawn_for_each_subject(store):
    """Predictions scatter around twice the target of each subject, so that their means lie on a line."""
    publish_kind(store, "regression", "pearson", lambda k, i: (20.0 + k, [40.0 + 2 * k + (-1) ** i]))
    html, folder = made(store)
    pictures = [text for text in Read(html).pictures if "Predicted over true target" in text]
    assert len(pictures) == 1
    assert "6 subjects; correlation 1.000" in pictures[0]
    (row,) = [one for one in pq.read_table(folder / "figures.parquet").to_pylist() if one["panel"] == "targets"]
    assert (row["value"], row["n"]) == (pytest.approx(1.0), 6)


def test_ranks_are_drawn_over_the_number_of_candidates(store):
    """Ranks of the eight windows of a subject are 0 to 7 among twenty candidates."""
    publish_kind(store, "retrieval", "top5", lambda k, i: (float(i), [float(i), 20.0]))
    html, folder = made(store)
    pictures = [text for text in Read(html).pictures if "among the first k candidates" in text]
    assert len(pictures) == 1
    assert "0.12" in pictures[0]
    rows = [one for one in pq.read_table(folder / "figures.parquet").to_pylist() if one["panel"] == "ranks"]
    assert {one["item"]: one["value"] for one in rows} == {"first 1": 1 / 8, "first 5": 5 / 8, "first 10": 1.0}


def test_training_curves_of_network_and_tokenizer_are_drawn(store):
    curves = {
        "tokenizer": [("train", metrics.LOSS), ("validation", metrics.PCC), ("validation", metrics.codes_in_use(0))],
        "model": [("train", metrics.LOSS), ("validation", metrics.LOSS), ("validation", metrics.ACCURACY)],
    }
    for name, drawn in curves.items():
        rows = [
            {"step": step, "split": split, "name": metric, "value": 2.0 - step / 20}
            for split, metric in drawn
            for step in (10, 20)
        ]
        with store.publishing("models", name) as folder:
            provenance = {"tokenizer": "tokenizer"} if name == "model" else {}
            (folder / "config.json").write_text(json.dumps({"kind": "another", "provenance": provenance}))
            (folder / "metrics.parquet").write_bytes(parquet_bytes(pa.Table.from_pylist(rows)))
    publish(store, "e1", "model", 0.7, tasks=("t1",))
    html, _ = made(store)
    pictures = [text for text in Read(html[html.index('id="training"') :]).pictures if "over 20 steps" in text]
    assert len(pictures) == 6
    assert sum(": loss 1" in text for text in pictures) == 3, "the last value stands in the text"
    assert "Not drawn" not in text_of(html)
    assert "3 seeds, split mode strict; network model (another); evaluation e1" in text_of(html)


def test_subjects_as_units_have_an_interval(store):
    fields = grid("aaaaaaaa11", 0.7, tasks=("t1",)).model_dump(mode="json")
    whole = {"mean": 0.8125, "low": 0.625, "high": 0.9375, "n_subjects": 6}
    fields["scores"][2] |= {"by_subject": 0.8125, "by_subject_interval": whole}
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",), scores=fields["scores"])
    html, folder = made(store)
    assert "0.812 [0.625, 0.938]" in text_of(html)
    rows = pq.read_table(folder / "figures.parquet").to_pylist()
    (row,) = [one for one in rows if one["item"] == "subjects as units"]
    assert (row["value"], row["low"], row["high"], row["n"]) == (0.8125, 0.625, 0.9375, 6)


@pytest.mark.parametrize("known", [True, False])
def test_chance_is_drawn_in_the_metric_of_single_subjects_or_not_at_all(store, monkeypatch, known):
    """The primary metric of a regression is not defined for one subject: chance of another metric says nothing."""
    scores = grid("aaaaaaaa11", 0.7, tasks=("t1",)).model_dump(mode="json")["scores"]
    for one in scores:
        one |= {"subject_metric": "mae", "subjects": dict.fromkeys(one["subjects"], 3.0)}
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",), scores=scores if known else scores[1:])
    lines = []
    monkeypatch.setattr(grid_section, "scores", lambda names, values, chance, label: lines.append(chance) or "<svg/>")
    html, _ = made(store)
    assert lines == [3.0 if known else None]
    assert ("Dots: subjects; red: their mean; dotted: chance." in html) is known


def test_an_older_evaluation_is_shown_with_a_line_for_each_missing_file(store):
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",), files=())
    text = text_of(made(store)[0])
    for file in ("checks.json", "probes.json", "predictions.parquet"):
        assert file in text, file
    assert "The evaluation does not hold its windows" in text


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({}, "probes.json"),
        ({"t1": {"reason": "no classes"}}, "No probes: no classes."),
        (
            {"t1": {"reason": "no classes", "device_tokens": probes()["t1"]["device_tokens"]}},
            "cap and helmet 0.400 0.100 0.050 0.800 12 3",
        ),
    ],
)
def test_empty_probes_are_a_line(store, content, line):
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",), files=("predictions",))
    (Path(str(store.root)) / "evaluations/e1/probes.json").write_text(json.dumps(content))
    assert line in text_of(made(store)[0])


def test_recordings_that_are_gone_are_counted(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks=("t1",))
    text = text_of(made(store)[0])
    assert "6 recordings are no longer in the store" in text
    assert "model aaaaaaaa11 is no longer in the store" in text


def test_text_from_a_store_is_escaped(store):
    publish(store, "e1", "aaaaaaaa11", 0.7, tasks_not_run={"<script>": "<b>no</b>"})
    html, _ = made(store)
    assert "<t2>" not in html
    assert "<b>no</b>" not in html
    assert html.count("<script>") == 1, "the page's own"


def test_all_numbers_stand_beside_the_page(store):
    publish(store, "e1", "aaaaaaaa11", 0.7)
    _, folder = made(store)
    stored = json.loads((folder / "figures.json").read_text())["e1"]
    assert len(stored["checks"]) == len(TASKS)
    assert set(stored["probes"]) == set(TASKS)
    rows = pq.read_table(folder / "figures.parquet").to_pylist()
    panels = {"gates", "scores", "subjects", "confusion", "recall", "spectra", "topographies", "probes", "tokens"}
    assert {one["panel"] for one in rows} == panels
    subjects = [one["item"] for one in rows if one["panel"] == "subjects" and one["series"] == "band_power"]
    assert subjects == SUBJECTS * len(TASKS)
    assert set(pq.read_table(folder / "results.parquet")["evaluation"].to_pylist()) == {"e1"}
    assert (folder / "moabb.csv").exists()


def test_an_unfinished_grid_gets_no_page(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    store.write_json(["hands--chance--seed0-fold0", "hands--chance--seed0-fold1"], "runs", "e1", "cells.json")
    store.write_bytes(b"", "runs", "e1", "cells", "hands--chance--seed0-fold0.parquet")
    with refusal(UserError, "hands--chance--seed0-fold1", "1 of 2", action="emeg evaluate --tasks"):
        report(ReportConfig(root=str(store.root), evaluation="e1"))


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ({"kind": "brainomni", "config": {"token": "window"}}, "BrainOmni, tokens of a window"),
        ({"kind": "causal", "role": "encoder", "tokenizer_kind": "mulaw"}, "Causal transformer, µ-law"),
        ({"kind": "causal", "role": "encoder", "tokenizer_kind": "absent"}, "Causal transformer, absent"),
        ({"kind": "causal", "role": "encoder"}, "Causal transformer"),
    ],
)
def test_networks_are_told_apart_by_their_tokens(store, card, named):
    publish(store, "e1", "aaaaaaaa11", 0.7)
    with store.publishing("models", "aaaaaaaa11") as folder:
        (folder / "config.json").write_text(json.dumps(card))
    text = text_of(made(store)[0])
    assert f"aaaaaaaa ({named})" in text
    assert f"BrainOmni, logistic (aaaaaaaa) {named} 0.700" in text.replace("\N{NO-BREAK SPACE}", " ")
