"""Questions to the catalogue: what fits is found, and nothing else can be done."""

import json

import pytest

from emeg.errors import UserError
from emeg.store import CatalogConfig, Store, compact_catalog, publish_row, query_catalog


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


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("hours > 3", "hours"),
        ("duration_s >", "syntax"),
        ("1=1); drop table catalog; select (1", "one question at a time"),
        ("recording in (select content from read_text('/etc/hostname'))", "disabled"),
    ],
)
def test_a_wrong_question_is_one_line(root, where, words):
    with pytest.raises(UserError, match=words) as caught:
        recordings(root, where=where)
    assert "\n" not in str(caught.value)
