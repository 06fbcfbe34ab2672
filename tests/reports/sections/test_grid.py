import re

import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.protocol.products import (
    GridComparison,
    GridInterval,
    GridScore,
    GridSummary,
    GridTask,
    ModelKey,
)
from emeg.reports import ReportConfig, report
from emeg.reports.sections.grid import grid_context
from emeg.reports.write_report import render
from emeg.store import Store

SUBJECTS = {f"d/{k}": 0.5 + 0.05 * k for k in range(6)}
NETWORK = ModelKey(model="abc", weights="pretrained", mode="frozen", read_out="logistic")
POWER = ModelKey(model="band_power")


def score(key: ModelKey, title: str, mean: float) -> GridScore:
    return GridScore(
        task="hands", key=key, title=title, metric="balanced_accuracy", mean=mean, sd=0.01, n_runs=15,
        subject_metric="balanced_accuracy", subjects=SUBJECTS,
        interval=GridInterval(mean=mean, low=mean - 0.1, high=mean + 0.1, n_subjects=6), by_subject=None,
    )  # fmt: skip


@pytest.fixture
def summary() -> GridSummary:
    task = GridTask(
        id="hands", title="Left or right hand", kind="classification", metric="balanced_accuracy",
        split_rule="cross_subject", definition={}, classes=("left", "right"), datasets=("d",), devices=("x",),
        n_subjects=6, n_recordings=7, n_windows=120, windows_per_class={"left": 50, "right": 70}, n_channels=5,
        left_out={"outside the recording": 3}, n_seen=4, n_folds=5, splits={"seed 0": "1234"},
        notices=("3 folds instead of 5",), published={"brainomni-base": 0.832},
    )  # fmt: skip
    comparison = GridComparison(
        task="hands", key=NETWORK, rival=POWER, question="best_rival", p=0.01, p_corrected=0.03, passed=True,
        difference=GridInterval(mean=0.123, low=0.045, high=0.201, n_subjects=6),
    )  # fmt: skip
    return GridSummary(
        version="0", seeds=(0, 1, 2), split_mode="strict", tasks=(task,),
        tasks_not_run={"pd31": "ingest ds002778"}, models_not_run=(("hands", "xdawn", "no shared channel"),),
        scores=(score(NETWORK, "Pretrained", 0.811), score(POWER, "Band power", 0.688)), comparisons=(comparison,),
        provenance={"model": "abc", "notes": ["a note"]},
    )  # fmt: skip


def test_the_page_shows_gates_scores_and_what_did_not_run(summary):
    html = render(grid_context(summary, "e1"), "grid.html.j2")
    text = re.sub(r"<[^>]+>", " ", html)
    for wanted in (
        "0.123 [0.045, 0.201]", "0.030", "above the best rival (Band power)", "passed",
        "0.811 ± 0.010", "0.688 [0.588, 0.788]", "120 windows (50 left, 70 right)", "3 windows left out",
        "4 subjects that the network was trained on", "3 folds instead of 5", "brainomni-base 0.832",
        "ingest ds002778", "xdawn did not run", "a note",
    ):  # fmt: skip
        assert wanted in " ".join(text.split()), wanted
    assert html.count("<svg") == 1, "one plot for each task"
    assert "http" not in re.sub(r"http://www\.w3\.org\S*|https?://\S*(?:dublincore|matplotlib|purl)\S*", "", html)


def test_text_from_a_store_is_escaped(summary):
    changed = summary.model_copy(update={"tasks_not_run": {"<script>": "no"}})
    assert "<script>" not in render(grid_context(changed, "e1"), "grid.html.j2")


def test_an_unfinished_grid_gets_no_page(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    store.write_json(["hands--chance--seed0-fold0", "hands--chance--seed0-fold1"], "runs", "e1", "cells.json")
    store.write_bytes(b"", "runs", "e1", "cells", "hands--chance--seed0-fold0.parquet")
    with refusal(UserError, "hands--chance--seed0-fold1", "1 of 2", action="emeg evaluate --tasks"):
        report(ReportConfig(root=str(store.root), evaluation="e1"))
