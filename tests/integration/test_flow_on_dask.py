"""The ingest flow with Prefect's runner for Dask: task runs on a real cluster give the same store as `emeg ingest`."""

import shutil

import pytest
from tests.ingest.conftest import ingested
from tests.ingest.workers.test_executor import tree

distributed = pytest.importorskip("distributed")
pytest.importorskip("prefect_dask")


@pytest.fixture(scope="module")
def server():
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield lambda: get_client(sync_client=True)


def test_batches_of_recordings_are_task_runs_on_the_cluster(server, shared, tmp_path, monkeypatch):
    from emeg.flows.ingest import ingest_flow
    from emeg.ingest.workers import executor

    monkeypatch.setattr(executor, "BATCH_RECORDINGS", 2)
    archive = tmp_path / "small"
    shutil.copytree(shared / "data/oddball/sub-02", archive / "sub-02")
    for name in ("tiny/one_second.edf", "broken/truncated.edf"):
        shutil.copy(shared / "data/devices" / name, archive / "sub-02")
    here = ingested(archive, tmp_path / "here")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        config = here.config.model_copy(update={"root": str(tmp_path / "there"), "dask": cluster.scheduler_address})
        assert ingest_flow(config) == here.result
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    n_sources = here.result.n_new
    with server() as client:
        names = [run.name.rsplit("-", 1)[0] for run in client.read_task_runs()]
    assert names.count("ingest-batch") == (n_sources + 1) // 2
    assert names.count("ingest") == 1
    (log,) = (tmp_path / "there/runs").glob("ingest-*/log.jsonl")
    assert len(log.read_text().splitlines()) == n_sources
