"""Whole ingests give the same bytes for any number of interruptions and any location of the archive."""

import os
import shutil
import signal
import subprocess
import sys
import time

import fsspec
import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.messages import refusal

from emeg.errors import TransientError
from emeg.hashing import sha256_file
from emeg.ingest import IngestConfig, ingest, list_sources
from emeg.ingest.config import TransferConfig
from emeg.ingest.transfer.download import fetched
from emeg.store import open_recording, read_catalog

RUN = """
import sys
from emeg.ingest import IngestConfig, archive
from emeg.ingest.workers import processes
if __name__ == "__main__":
    processes.POOL_FROM_BYTES = 0
    archive.ingest(IngestConfig(archive=sys.argv[1], root=sys.argv[2], workers=int(sys.argv[3])))
"""


def tree(folder):
    """Content of every product; files in ``runs`` are not products."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.relative_to(folder).parts[0] != "runs"]
    return {str(p.relative_to(folder)): sha256_file(p) for p in files}


@pytest.fixture(scope="module")
def archive(shared, tmp_path_factory):
    """Six recordings of two formats and two damaged files."""
    folder = tmp_path_factory.mktemp("archive") / "small"
    shutil.copytree(shared / "data/oddball/sub-02", folder / "sub-02")
    (folder / "sub-03").mkdir()
    for name in ("tiny/one_second.edf", "edf-bci2000-128hz/test_edf_overlapping_annotations.edf", "broken/empty.edf"):
        shutil.copy(shared / "data/devices" / name, folder / "sub-03")
    shutil.copy(shared / "data/devices/broken/truncated.edf", folder / "sub-03")
    return folder


@pytest.fixture(scope="module")
def clean(archive, tmp_path_factory):
    return ingested(archive, tmp_path_factory.mktemp("clean") / "store")


def test_the_small_archive_comes_in(clean):
    assert (len(clean.result.ready), clean.result.quarantined) == (
        5,
        ("sub-03/empty.edf", "sub-03/truncated.edf"),
    )
    assert {row.dataset for row in clean.rows.values()} == {"small"}


def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(archive, clean, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    root = tmp_path / "store"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    moments = np.random.default_rng(0).uniform(0.0, 0.3, 2)
    for settled, workers, moment_s in zip((0, 2), (2, 1), moments, strict=True):
        command = [sys.executable, str(script), str(archive), str(root), str(workers)]
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if root.exists() and len(list(root.glob("catalog/recordings/*.parquet"))) >= settled:
                time.sleep(moment_s)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert process.wait() == -signal.SIGKILL
    result = ingest(clean.config.model_copy(update={"root": str(root)}))
    assert result.ready == clean.result.ready
    assert tree(root) == tree(clean.store.root.local_path())


def test_a_bucket_as_archive_gives_the_same_signals(archive, clean, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(archive), "/bucket/small", recursive=True)
    remote = ingested("memory://bucket/small", tmp_path / "store")
    assert remote.result.quarantined == clean.result.quarantined
    pairs = {row.source: row.recording for row in read_catalog(remote.store)}
    assert len(pairs) == 5
    for row in read_catalog(clean.store):
        ours = open_recording(remote.store, pairs[row.source])
        theirs = open_recording(clean.store, row.recording)
        assert ours.n_samples == theirs.n_samples
        assert (ours.read(0, 256) == theirs.read(0, 256)).all()
    assert {r.reason for r in remote.refused.values()} == {r.reason for r in clean.refused.values()}


def test_a_file_that_arrives_short_is_worth_another_try(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/short/a/x.edf", b"0" * 1000)
    [source] = list_sources(IngestConfig(archive="memory://short", root="unused"))
    memory.pipe_file("/short/a/x.edf", b"0" * 10)
    once = TransferConfig(attempts=1)
    with refusal(TransientError, "a/x.edf", "10 bytes", "1000", action="again"), fetched(source, once):
        pass


def test_a_changed_file_or_setting_is_worked_on_again_and_the_rest_is_not(archive, clean, tmp_path):
    copy = tmp_path / "small"
    shutil.copytree(archive, copy)
    root = tmp_path / "store"
    config = clean.config.model_copy(update={"archive": str(copy), "root": str(root)})
    assert ingest(config).n_new == 7
    shutil.copy(copy / "sub-03/one_second.edf", copy / "sub-03/empty.edf")
    healed = ingest(config)
    assert (healed.n_new, healed.n_known) == (1, 6)
    assert healed.quarantined == ("sub-03/truncated.edf",)
    assert len(list((root / "catalog/quarantine").glob("*.json"))) == 1
    other = config.model_copy(update={"standardise": config.standardise.model_copy(update={"h_freq": 40.0})})
    assert ingest(other).n_new == 7
    assert ingest(config.model_copy(update={"retry_quarantined": True})).n_new == 1
