"""The summary of a store in a terminal and in a notebook."""

import pyarrow as pa
import pytest

from emeg.store import (
    CatalogConfig,
    QuarantineRecord,
    Store,
    open_recording,
    publish_row,
    quarantine,
    query_catalog,
    write_facts,
)


@pytest.fixture
def store(tmp_path, row) -> Store:
    store = Store.open(tmp_path / "store", create=True)
    for i in range(3):
        publish_row(store, row(f"r{i}", subject=f"0{i // 2}", device=("ctf275", "<b>")[i % 2], duration_s=1800.0), [])
    quarantine(store, QuarantineRecord(source="x.edf", dataset="other", stage="read", reason="x.edf: damaged"))
    facts = {"dataset": ["dataset"], "subject": ["00"], "group": ["patient"]}
    write_facts(store, "subjects", "dataset", pa.table(facts))
    with store.publishing("models", "one") as folder:
        (folder / "config.json").write_text("{}")
    return store


def test_a_store_is_summarised_where_nothing_is_asked(store):
    text = query_catalog(CatalogConfig(root=str(store.root))).as_text()
    cells = [line.split() for line in text.splitlines()]
    assert ["dataset", "2", "3", "1.50", "0", "ctf275,", "<b>"] in cells
    assert ["other", "0", "0", "0.00", "1"] in cells
    assert ["all", "2", "3", "1.50", "1"] in cells
    assert "columns of subjects: group" in text
    assert "products: models 1" in text
    assert "--limit" in text
    listed = query_catalog(CatalogConfig(root=str(store.root), limit=20)).as_text()
    assert listed.splitlines()[-1] == "(3 rows)"


def test_an_empty_store_names_the_next_action(tmp_path):
    Store.open(tmp_path, create=True)
    assert "emeg ingest" in query_catalog(CatalogConfig(root=str(tmp_path))).as_text()


def test_a_notebook_shows_a_store_as_a_table_with_escaped_cells(store):
    html = store._repr_html_()
    assert "<td>1.50</td>" in html
    assert "models 1" in html
    assert "&lt;b&gt;" in html
    assert "<td><b>" not in html


def test_a_recording_describes_itself(written):
    recording = open_recording(*written)
    for words in ("dataset/01", "2 EEG", "256 Hz", "20.0 s"):
        assert words in repr(recording)
    html = recording._repr_html_()
    for cell in ("2 EEG", "50 Hz", "CC0", "0.1-96 Hz"):
        assert f"<td>{cell}</td>" in html


@pytest.fixture
def written(tmp_path, sensors, attributes):
    import numpy as np

    from emeg.store import write_recording

    store = Store.open(tmp_path / "written", create=True)
    two = sensors(2)
    signal = np.random.default_rng(0).normal(size=(2, 5120)).astype(np.float32) * np.float32(1e-5)
    write_recording(store, "r", signal, sensors=two, attributes=attributes(two), bad=np.zeros((2, 20), np.uint8))
    return store, "r"
