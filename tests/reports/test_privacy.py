"""Names and dates planted in an archive are in none of its products, nor in the report's page."""

import logging
from pathlib import Path

import pytest
from tests.evaluation.conftest import add_model
from tests.ingest.personal_data import FORBIDDEN, assert_private, outputs, write_archive

from emeg.data import ShardConfig, shard
from emeg.evaluation import EvaluateConfig, evaluate
from emeg.export import ExportBidsConfig, export_bids
from emeg.ingest import IngestConfig, ingest
from emeg.reports import ReportConfig, report
from emeg.store import Store
from emeg.training import TokenizeConfig, tokenize


def test_no_product_tells_a_name_or_a_date(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_archive(tmp_path / "ds")
    root = str(tmp_path / "store")
    with caplog.at_level(logging.DEBUG):
        ingest(IngestConfig(archive=str(tmp_path / "ds"), root=root, workers=0))
        store = Store.open(root)
        corpus = shard(ShardConfig(root=root, segment_s=4.0, held_out=0.5)).corpus
        add_model(store, corpus, name="first")
        tokens = tokenize(TokenizeConfig(root=root, tokenizer="tokenizer", device="cpu")).tokens
        add_model(store, corpus, tokens)
        evaluate(EvaluateConfig(root=root, model="omni", threads=1, device="cpu", segments_per_device=2))
        page = Path(report(ReportConfig(root=root)).path).read_text(encoding="utf-8")
        export_bids(ExportBidsConfig(root=root, out=str(tmp_path / "bids")))
    # the page is about this archive: what was refused stands on it, under its public name
    assert "cannot be read" in page
    assert "sub-08_task-rest_eeg.gdf" in page
    found = {**outputs(store, tmp_path / "store"), "log": caplog.text}
    for path in (tmp_path / "bids").rglob("*"):
        found[f"name of {path}"] = str(path.relative_to(tmp_path))
        if path.is_file():
            found[str(path)] = path.read_bytes().decode("latin-1")
    assert_private(found, FORBIDDEN)
