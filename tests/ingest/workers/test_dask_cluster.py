"""Dask: a crash or a hang ends a child only, another worker takes over from a lost one, and no process is left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.ingest.conftest import ingested
from tests.ingest.failing_units import fail_as_named
from tests.ingest.workers.test_executor import made, states, tree
from tests.messages import check_message, refusal

from emeg.errors import TransientError
from emeg.ingest import IngestConfig, ingest
from emeg.ingest.workers import dask_cluster as cluster
from emeg.ingest.workers.dask_cluster import on_cluster
from emeg.ingest.workers.executor import fan_out
from emeg.store import Store, read_quarantine
from emeg.store.claims import claimed

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def two_workers():
    """Start two workers in processes; one that does not respond counts as lost."""
    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "2s"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as workers,
    ):
        workers.scheduler.worker_ttl = 12  # importing what a first task brings silences a worker for seconds
        yield workers


def pids(workers) -> set[int]:
    with distributed.Client(workers, set_as_default=False) as client:
        return set(client.run(os.getpid).values())


def tried(tmp_path: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in (tmp_path / "archive").glob("*.tries")}


def worked_on(tmp_path: Path, workers, names: list[str]) -> tuple[dict[str, str], Store]:
    sources, config = made(tmp_path, names)
    store = Store.open(config.root, create=True)
    config = config.model_copy(update={"time_limit_s": 5.0, "dask": workers.scheduler_address})
    outcomes = fan_out(sources, config, lambda left, same: on_cluster(left, same, fail_as_named))
    return states(dict(outcomes)), store


def test_a_recording_that_crashes_or_hangs_costs_no_worker_of_the_cluster(two_workers, tmp_path):
    before = pids(two_workers)
    found, store = worked_on(tmp_path, two_workers, ["a", "crash", "b", "hang", "c"])
    assert found == dict.fromkeys("abc", "ready") | {"crash": "quarantined", "hang": "quarantined"}
    assert pids(two_workers) == before
    refused = {record.source: record for record in read_quarantine(store)}
    check_message(refused["crash"], "crash", "twice", action="retry_quarantined")
    check_message(refused["hang"], "hang", "5 s", action="time_limit_s")
    assert tried(tmp_path) == dict.fromkeys(["a", "b", "c", "hang"], 1) | {"crash": 2}


def test_a_cluster_makes_the_same_store(two_workers, shared, tmp_path):
    archive = tmp_path / "small"
    shutil.copytree(shared / "data/oddball/sub-02", archive / "sub-02")
    shutil.copy(shared / "data/devices/broken/truncated.edf", archive / "sub-02")
    here = ingested(archive, tmp_path / "here")
    config = here.config.model_copy(update={"root": str(tmp_path / "there"), "dask": two_workers.scheduler_address})
    assert ingest(config) == here.result
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_what_a_killed_or_frozen_worker_had_is_done_by_another(two_workers, tmp_path):
    before = pids(two_workers)
    found, _ = worked_on(tmp_path, two_workers, ["a", "killed", "b", "frozen"])
    assert found == dict.fromkeys(["a", "killed", "b", "frozen"], "ready")
    assert not before & pids(two_workers)
    tries = tried(tmp_path)
    assert min(tries["killed"], tries["frozen"]) >= 2  # more where a result was lost with the other worker


def is_free(store: Store, name: str) -> bool:
    """Try to take a claim, and wait a little if another process still holds it."""
    with claimed(store, name) as free:
        if not free:
            time.sleep(0.1)
        return free


def test_what_takes_worker_after_worker_with_it_is_refused(two_workers, tmp_path):
    two_workers.scheduler.allowed_failures = 0
    found, store = worked_on(tmp_path, two_workers, ["a", "doomed", "b"])
    assert found == {"a": "ready", "b": "ready", "doomed": "quarantined"}
    (record,) = read_quarantine(store)
    check_message(record, "doomed", action="retry_quarantined")
    assert tried(tmp_path)["doomed"] == 2
    assert any(is_free(store, "doomed") for _ in range(100)), "the claim ends with the killed worker's processes"


def test_a_cluster_whose_last_worker_is_lost_is_reported_with_its_work(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE_S", 1.0)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty:
        sources, config = made(tmp_path, ["a", "doomed"])
        config = config.model_copy(update={"dask": empty.scheduler_address})
        Store.open(config.root, create=True)
        command = [sys.executable, "-m", "distributed.cli.dask_worker", empty.scheduler_address]
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard"]
        worker = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
        with distributed.Client(empty, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        with refusal(TransientError, config.dask, "1 s", "doomed", action="start workers"):
            list(on_cluster(sources, config, fail_as_named))
        assert worker.wait() == -signal.SIGKILL


def test_a_cluster_that_is_not_there_is_worth_another_try(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    config = IngestConfig(archive=str(shared / "data/oddball"), root=str(tmp_path / "store"), dask="tcp://127.0.0.1:1")
    with refusal(TransientError, "tcp://127.0.0.1:1", action="scheduler"):
        ingest(config)
