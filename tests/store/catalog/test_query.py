"""Catalogue queries return the matching rows, and statements other than queries are refused."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.store import CatalogConfig, Store, catalog_table, compact_catalog, publish_row, query_catalog


@pytest.fixture
def root(tmp_path, row):
    store = Store.open(tmp_path / "store", create=True)
    for i in range(6):
        made = row(f"r{i}", device=("ctf275", "biosemi64")[i % 2], duration_s=300.0 * i)
        publish_row(store, made, [])
    return str(tmp_path / "store")


def recordings(root, **fields):
    return [row[0] for row in query_catalog(CatalogConfig(root=root, columns=("recording",), **fields)).rows]


def test_a_condition_chooses_recordings_merged_or_not(root):
    where = "device = 'ctf275' and duration_s > 500"
    assert recordings(root, where=where) == ["r2", "r4"]
    assert recordings(root) == [f"r{i}" for i in range(6)]
    compact_catalog(Store.open(root))
    assert recordings(root, where=where) == ["r2", "r4"]
    assert recordings(root, where=where, compact=True, limit=1) == ["r2"]


def test_groups_are_counted(root):
    columns = ("device", "sum(duration_s) / 3600 as hours")
    answer = query_catalog(CatalogConfig(root=root, columns=columns, group_by=("device",)))
    assert answer.columns == ("device", "hours")
    assert dict(answer.rows) == pytest.approx({"biosemi64": 0.75, "ctf275": 0.5})


def test_answers_are_written_in_three_ways(root):
    def text(form):
        config = CatalogConfig(root=root, where="duration_s < 400", columns=("recording", "duration_s"), format=form)
        return query_catalog(config).as_text()

    assert text("csv") == "recording,duration_s\nr0,0.0\nr1,300.0"
    assert [json.loads(line) for line in text("json").splitlines()] == [
        {"recording": "r0", "duration_s": 0.0},
        {"recording": "r1", "duration_s": 300.0},
    ]
    assert text("table").splitlines()[-1] == "(2 rows)"


def test_answers_are_written_into_files(root, tmp_path):
    def ask(name, **fields):
        return query_catalog(CatalogConfig(root=root, columns=("*",), out=str(tmp_path / name), **fields))

    answer = ask("rows.parquet", where="duration_s < 400")
    assert answer.as_text().splitlines() == ["2 rows", str(tmp_path / "rows.parquet")]
    expected = catalog_table(Store.open(root)).slice(0, 2)
    assert pq.read_table(tmp_path / "rows.parquet").cast(expected.schema).equals(expected)
    before = (tmp_path / "rows.parquet").read_bytes()
    ask("rows.parquet", where="duration_s < 400")
    assert (tmp_path / "rows.parquet").read_bytes() == before
    ask("rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert [row["recording"] for row in csv.DictReader(file)] == [f"r{i}" for i in range(6)]
    ask("rows.txt", format="json")
    dropped = [json.loads(line)["dropped"] for line in (tmp_path / "rows.txt").read_text().splitlines()]
    assert dropped == [{"STATUS": "no EEG or MEG", "ECG": "no EEG or MEG"}] * 6
    with refusal(UserError, "parquet", action="--out"):
        query_catalog(CatalogConfig(root=root, format="parquet"))


@pytest.mark.parametrize(
    ("where", "named", "action"),
    [
        ("hours > 3", "hours", "duration_s"),
        ("duration_s >", "syntax", "duration_s"),
        ("1=1); drop table catalog; select (1", "where", "';'"),
        ("recording in (select content from read_text('/etc/hostname'))", "/etc/hostname", "duration_s"),
    ],
)
def test_a_wrong_question_is_one_line(root, where, named, action):
    with refusal(UserError, named, action=action):
        recordings(root, where=where)
