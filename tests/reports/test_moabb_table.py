"""The mean over seeds and folds of each subject, under MOABB's columns."""

import pyarrow as pa

from emeg.evaluation.protocol.rows import RESULTS
from emeg.reports.moabb_table import COLUMNS, moabb_table

ROW = {
    "task": "t",
    "kind": "classification",
    "split_rule": "cross_subject",
    "model": "m",
    "weights": "pretrained",
    "mode": "frozen",
    "read_out": "logistic",
    "labels": "real",
    "condition": "",
    "examples_per_class": None,
    "seed": 0,
    "fold": 0,
    "subject": "d/1",
    "unit": "window",
    "metric": "balanced_accuracy",
    "value": 0.5,
    "n": 20,
    "note": "",
    "setting": "{}",
}


def table(*changes):
    return moabb_table(
        pa.Table.from_pylist([ROW | change for change in changes], schema=RESULTS),
        {"t": "balanced_accuracy"},
        {"t": 19},
    )


def test_columns_and_means():
    found = table({}, {"seed": 1, "value": 0.7}, {"labels": "permuted"}, {"examples_per_class": 5})
    assert tuple(found.column_names) == COLUMNS
    rows = {row["pipeline"]: row for row in found.to_pylist()}
    assert set(rows) == {
        "m/pretrained/frozen/logistic",
        "m/pretrained/frozen/logistic/permuted",
        "m/pretrained/frozen/logistic/5 examples",
    }
    first = rows["m/pretrained/frozen/logistic"]
    assert first["score"] == 0.6
    assert (first["samples"], first["channels"], first["dataset"], first["subject"]) == (20, 19, "t", "d/1")
    assert first["time"] is None


def test_pooled_rows_other_metrics_and_undefined_values_are_left_out():
    assert len(table({"subject": ""}, {"metric": "auroc"}, {"value": None}, {"unit": "subject"})) == 0
