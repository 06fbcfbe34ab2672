"""An ingest from a bucket over a faulty connection ends in one run, with the same store as without faults."""

import shutil

from tests.faulty_proxy import FaultyProxy
from tests.ingest.test_archive import tree
from tests.ingest.transfer.test_download import line

from emeg.ingest import IngestConfig, ingest

__all__ = ["line"]  # a fixture


def test_the_store_behind_a_faulty_connection_is_the_faultless_one(line, shared, tmp_path):
    archive = tmp_path / "small"
    shutil.copytree(shared / "data/oddball/sub-02", archive / "sub-02")
    (archive / "sub-03").mkdir()
    for name in ("tiny/one_second.edf", "broken/truncated.edf", "broken/empty.edf"):
        shutil.copy(shared / "data/devices" / name, archive / "sub-03")
    for path in archive.rglob("*"):
        if path.is_file():
            line.put(str(path.relative_to(archive)), path.read_bytes())
    config = IngestConfig(archive=line.uri, root=str(tmp_path / "plain"), workers=0, transfer=line.config)
    plain = ingest(config)
    with FaultyProxy(line.server, rate=0.3, stall_s=2.0, seed=2) as proxy:
        line.through(proxy.url)
        faulty = ingest(config.model_copy(update={"root": str(tmp_path / "faulty")}))
    assert len(plain.ready) >= 3
    assert faulty == plain
    assert tree(tmp_path / "faulty") == tree(tmp_path / "plain")
    assert proxy.failed >= 8
    assert len({kind for kind in proxy.counts if kind != "fine"}) >= 4
