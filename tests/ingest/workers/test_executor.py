"""Workers that die, hang, or meet another run: the other sources are processed, and none is processed twice."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.ingest.conftest import ingested
from tests.messages import check_message

from emeg.hashing import sha256_file
from emeg.ingest import IngestConfig, Outcome, Source
from emeg.ingest.source import ListedFile
from emeg.ingest.workers.executor import fan_out
from emeg.ingest.workers.processes import in_processes
from emeg.store import Store, read_quarantine
from emeg.store.claims import claimed, sweep_claims

RUN = """
import os, sys
from emeg.ingest import IngestConfig, ingest, recording
work = recording._ingest
def noted(store, facts):
    with open(sys.argv[3], "a") as file:
        file.write(facts.recording + "\\n")
    return work(store, facts)
if __name__ == "__main__":
    recording._ingest = noted
    result = ingest(IngestConfig(archive=sys.argv[1], root=sys.argv[2], workers=0))
    print(len(result.ready), len(result.quarantined), result.n_new, result.n_known)
"""


def fragile(source: Source, config: IngestConfig) -> Outcome:
    """Simulate a reader in C that crashes, crashes while another one runs, hangs, or works."""
    folder = Path(source.archive)
    with (folder / f"{source.path}.tries").open("a") as file:
        file.write("x")
    if "crash" in source.path:
        os.abort()
    if "once" in source.path and (folder / f"{source.path}.tries").stat().st_size == 1:
        os.abort()
    if "hang" in source.path:
        time.sleep(120)
    return Outcome(source.path, source.path, "ready")


def made(folder: Path, names: list[str]) -> tuple[list[Source], IngestConfig]:
    archive = folder / "archive"
    archive.mkdir()
    sources = [
        Source(str(archive), "d", name, "edf", "01", files=(ListedFile(name, 10 + i, sha256="0" * 64),))
        for i, name in enumerate(names)
    ]
    return sources, IngestConfig(archive=str(archive), root=str(folder / "store"), workers=2)


def tree(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.relative_to(folder).parts[0] != "runs"]
    return {str(p.relative_to(folder)): sha256_file(p) for p in files}


def states(outcomes: dict[Source, Outcome]) -> dict[str, str]:
    return {source.path: outcome.state for source, outcome in outcomes.items()}


def test_what_kills_or_hangs_a_worker_is_quarantined_and_the_rest_is_done(tmp_path):
    sources, config = made(tmp_path, ["a", "hang", "once", "crash", "b"])
    config = config.model_copy(update={"time_limit_s": 10.0})
    outcomes = dict(in_processes(sources, config, fragile))
    good = dict.fromkeys(["a", "b", "once"], "ready")
    assert states(outcomes) == good | {"crash": "quarantined", "hang": "quarantined"}
    tries = {path.stem: path.stat().st_size for path in (tmp_path / "archive").glob("*.tries")}
    assert tries == dict.fromkeys(["a", "b", "hang"], 1) | {"crash": 2, "once": 2}
    refused = {record.source: record for record in read_quarantine(Store.open(config.root))}
    check_message(refused["crash"], "crash", "twice", action="retry_quarantined")
    check_message(refused["hang"], "hang", "10 s", action="time_limit_s")


@pytest.mark.parametrize(("workers", "n_here"), [(0, 2), (1, 0), (2, 0)])
def test_only_without_workers_is_a_recording_done_in_this_process(tmp_path, monkeypatch, workers, n_here):
    sources, config = made(tmp_path, ["a", "b"])
    here = []
    monkeypatch.setattr(
        "emeg.ingest.workers.executor.ingest_recording", lambda source, _: here.append(source) or ready(source)
    )
    monkeypatch.setattr(
        "emeg.ingest.workers.executor.in_processes", lambda them, _, pool: [(s, ready(s)) for s in them]
    )
    found = dict(fan_out(sources, config.model_copy(update={"workers": workers})))
    assert states(found) == dict.fromkeys("ab", "ready")
    assert len(here) == n_here


def ready(source: Source) -> Outcome:
    return Outcome(source.path, source.path, "ready")


def test_a_claim_that_is_held_for_too_long_is_reported_and_left(tmp_path):
    sources, config = made(tmp_path, ["a", "b"])
    config = config.model_copy(update={"time_limit_s": 0.2})

    def one_claimed(them: list[Source], _: IngestConfig):
        return ((s, Outcome(s.path, s.path, "claimed" if s.path == "b" else "ready")) for s in them)

    found = dict(fan_out(sources, config, one_claimed))
    told = {source.path: outcome for source, outcome in found.items()}
    assert told["a"].state == "ready"
    assert told["b"].state == "failed"
    check_message(told["b"], "b:", "claim", action="run again")


@pytest.fixture(scope="module")
def archive(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "small"
    shutil.copytree(shared / "data/oddball/sub-02", folder / "sub-02")
    (folder / "sub-03").mkdir()
    shutil.copy(shared / "data/devices/broken/truncated.edf", folder / "sub-03")
    return folder


@pytest.fixture(scope="module")
def clean(archive, tmp_path_factory):
    return ingested(archive, tmp_path_factory.mktemp("clean") / "store")


def test_two_runs_on_one_store_share_the_work_and_leave_the_same_bytes(archive, clean, tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    root, notes = tmp_path / "store", tmp_path / "notes"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "run.py"), str(archive), str(root), str(notes)]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split() for process in both]
    n_ready = len(clean.result.ready)
    made = notes.read_text().split()
    assert [line[:2] for line in said] == [[str(n_ready), "1"]] * 2
    assert sum(int(line[2]) for line in said) == len(made) == len(set(made)) == n_ready + 1
    assert all(int(line[2]) + int(line[3]) == n_ready + 1 for line in said)
    assert tree(root) == tree(clean.store.root.local_path())


def test_an_executor_that_yields_no_outcome_is_an_error_that_names_the_source(tmp_path):
    sources, config = made(tmp_path, ["a"])
    with pytest.raises(TypeError, match=r"^a: .*'timed out'"):
        list(fan_out(sources, config, lambda them, _: ((s, "timed out") for s in them)))
    with pytest.raises(ValueError, match="not 'elsewhere'"):
        Outcome("a", "a", "elsewhere")


def test_a_claim_is_one_worker_s_until_it_ends(tmp_path):
    for uri in (str(tmp_path / "store"), f"memory://claims-{tmp_path.name}"):
        store = Store.open(uri, create=True)
        with claimed(store, "a") as first, claimed(store, "a") as second:
            assert (first, second) == (True, False)
            with claimed(store, "b") as other:
                assert other
        with claimed(store, "a") as again:
            assert again
        assert not store.exists(".partial", "claim-a")


def in_bucket(store: Store, **changed: object) -> None:
    """Leave another machine's claim in a bucket."""
    claim = {"token": "theirs", "expires": time.time() + 60, "machine": "elsewhere"} | changed
    store.write_json(claim, ".partial", "claim-a")


def test_a_claim_in_a_bucket_is_taken_over_when_its_holder_is_gone(tmp_path):
    store = Store.open(f"memory://gone-{tmp_path.name}", create=True)
    place = store.location(".partial", "claim-a")
    in_bucket(store)
    with claimed(store, "a") as alive:
        assert not alive
    in_bucket(store, expires=time.time() - 1)
    with claimed(store, "a") as expired:
        assert expired
        mine = place.read_json()["machine"]
    in_bucket(store, machine=mine)  # killed on this machine a moment ago: its lock file is free
    with claimed(store, "a") as killed:
        assert killed
    in_bucket(store)
    assert sweep_claims(store) == 0
    in_bucket(store, machine=mine)  # killed when its recording was there: nobody asks for the claim again
    assert sweep_claims(store) == 1
    assert not place.exists()


def test_a_claim_in_a_bucket_is_renewed_while_its_holder_lives(tmp_path):
    store = Store.open(f"memory://renewed-{tmp_path.name}", create=True)
    place = store.location(".partial", "claim-a")
    with claimed(store, "a", lease_s=0.4) as ours:
        assert ours
        first = place.read_json()["expires"]
        time.sleep(0.6)
        assert place.read_json()["expires"] > max(first, time.time())
        for _ in range(5):
            in_bucket(store)  # taken by another, since this one's network was away: it is left to them
            time.sleep(0.3)
            if place.read_json()["token"] == "theirs":
                break  # otherwise a renewal that had begun before was written after it, once
        assert place.read_json()["token"] == "theirs"
    assert place.read_json()["token"] == "theirs"


def test_a_run_leaves_a_log_and_counters(clean):
    runs = clean.store.root.local_path() / "runs"
    (log,) = runs.glob("ingest-*/log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["recording"] for line in lines if line["state"] == "ready") == list(clean.result.ready)
    (refused,) = [line for line in lines if line["state"] == "quarantined"]
    assert "truncated" in refused["reason"]
    text = (runs / "ingest-small.prom").read_text()
    values = dict(re.findall(r"^([a-z_]+\{.*\}) (\S+)$", text, flags=re.MULTILINE))
    assert float(values['emeg_ingest_recordings{dataset="small",state="ready"}']) == len(clean.result.ready)
    assert float(values['emeg_ingest_remaining{dataset="small"}']) == 0
