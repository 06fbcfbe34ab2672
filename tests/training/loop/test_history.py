import csv

import pyarrow.parquet as pq

from emeg.training.loop.history import History


def rows_of(path):
    with path.open(newline="") as file:
        return [(int(r["step"]), r["split"], r["name"], float(r["value"])) for r in csv.DictReader(file)]


def test_csv_and_table_hold_every_figure_in_order(tmp_path):
    history = History(tmp_path / "metrics.csv")
    history.add(10, "train", {"loss": 2.5, "pcc": 0.25})
    history.add(20, "validation", {"pcc": 0.5})
    history.write_table(tmp_path / "metrics.parquet")
    expected = [(10, "train", "loss", 2.5), (10, "train", "pcc", 0.25), (20, "validation", "pcc", 0.5)]
    assert rows_of(tmp_path / "metrics.csv") == expected
    assert [tuple(row.values()) for row in pq.read_table(tmp_path / "metrics.parquet").to_pylist()] == expected


def test_resuming_drops_what_was_written_after_the_checkpoint(tmp_path):
    first = History(tmp_path / "metrics.csv")
    first.add(10, "train", {"loss": 2.0})
    state = first.state()
    first.add(20, "train", {"loss": 99.0})
    second = History(tmp_path / "metrics.csv")
    second.load(state)
    second.add(20, "train", {"loss": 1.0})
    assert rows_of(tmp_path / "metrics.csv") == [(10, "train", "loss", 2.0), (20, "train", "loss", 1.0)]
    assert second.latest("train") == {"loss": 1.0}
    assert second.seconds >= first.seconds_before


def test_equal_figures_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        history = History()
        history.add(1, "train", {"loss": 0.1})
        history.write_table(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
