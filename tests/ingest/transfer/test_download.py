"""Files from a bucket over HTTP arrive complete and correct over a faulty connection, or not at all."""

import os
import subprocess
import sys
import uuid
from types import SimpleNamespace

import boto3
import pytest
import s3fs
from tests.faulty_proxy import FAULTS, FaultyProxy
from tests.messages import refusal

from emeg.errors import TransientError, UserError
from emeg.hashing import sha256_bytes
from emeg.ingest import IngestConfig, ingest, list_sources
from emeg.ingest.config import TransferConfig
from emeg.ingest.listing.sources import list_archive
from emeg.ingest.transfer import download, retry
from emeg.ingest.transfer.download import clear_scratch, fetched, list_files, scratch_name, scratch_root
from emeg.store import Store, read_catalog
from emeg.uri import locate

MIB = 2**20


@pytest.fixture
def line(bucket_server, monkeypatch, tmp_path):
    """An archive in a bucket: its direct client, its URI, and a function for requests through a proxy."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.005)
    credentials = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    bucket = f"archive-{uuid.uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=bucket_server)
    client.create_bucket(Bucket=bucket)

    def through(url):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3fs.S3FileSystem.clear_instance_cache()

    through(bucket_server)
    yield SimpleNamespace(
        bucket=bucket,
        uri=f"s3://{bucket}/data",
        put=lambda key, data: client.put_object(Bucket=bucket, Key=f"data/{key}", Body=data),
        client=client,
        server=bucket_server,
        through=through,
        config=TransferConfig(piece_mib=0.25, timeout_s=0.5, scratch=str(tmp_path / "scratch")),
    )
    s3fs.S3FileSystem.clear_instance_cache()


def filled(line, files=4, size=MIB + 7):
    contents = {}
    for i in range(files):
        contents[f"sub-{i}/eeg/sub-{i}_eeg.edf"] = os.urandom(size)
        line.put(f"sub-{i}/eeg/sub-{i}_eeg.edf", contents[f"sub-{i}/eeg/sub-{i}_eeg.edf"])
    return contents


def fetch_all(line):
    arrived = {}
    for source in list_sources(IngestConfig(archive=line.uri, root="unused", transfer=line.config)):
        with fetched(source, line.config) as folder:
            arrived[source.path] = (folder / source.path).read_bytes()
    return arrived


@pytest.mark.parametrize("fault", FAULTS)
def test_every_kind_of_fault_is_overcome(line, fault):
    contents = filled(line, files=2)
    with FaultyProxy(line.server, rate=0.3, faults=[fault], stall_s=5, seed=1) as proxy:
        line.through(proxy.url)
        arrived = fetch_all(line)
    assert {k: sha256_bytes(v) for k, v in arrived.items()} == {k: sha256_bytes(v) for k, v in contents.items()}
    assert proxy.counts[fault] >= 2
    assert set(proxy.counts) <= {"fine", fault, "503"}


@pytest.mark.parametrize(("fault", "cause"), [("503", "OSError"), ("etag", "ETag"), ("page", "Error: ")])
def test_a_transfer_that_never_succeeds_is_a_transient_error_with_its_cause(line, fault, cause):
    filled(line, files=1, size=1000)
    [source] = list_sources(IngestConfig(archive=line.uri, root="unused"))
    config = line.config.model_copy(update={"attempts": 3})
    with FaultyProxy(line.server, rate=1.0, faults=[fault]) as proxy:
        line.through(proxy.url)
        with refusal(TransientError, "sub-0_eeg.edf", "3 attempts", cause, action="again"), fetched(source, config):
            pass
    assert proxy.failed == 3


def test_the_wait_grows_and_is_drawn(monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)

    def fail():
        raise TimeoutError("no")

    for _ in range(200):
        with refusal(TransientError, "x:", "10 attempts", action="again"):
            retry.with_retries(fail, what="x", attempts=10)
    for i in range(9):
        bound = min(retry.LONGEST_WAIT_S, retry.FIRST_WAIT_S * 2**i)
        drawn = waits[i::9]
        assert 0.9 * bound < max(drawn) <= bound
        assert min(drawn) < 0.1 * bound
    with pytest.raises(FileNotFoundError):
        retry.with_retries(lambda: open("/absent"), what="x", attempts=10)  # noqa: PTH123, SIM115
    assert len(waits) == 200 * 9


def test_a_killed_transfer_resumes_by_range(line):
    contents = filled(line, files=1, size=8 * MIB)
    [path] = contents
    script = (
        "import sys, os\n"
        "from emeg.ingest import IngestConfig, list_sources; from emeg.ingest.transfer import download\n"
        "config = download.TransferConfig(piece_mib=0.25, scratch=sys.argv[2])\n"
        "[source] = list_sources(IngestConfig(archive=sys.argv[1], root='unused', transfer=config))\n"
        "piece, n = download.Connection._piece, []\n"
        "def counted(*arguments):\n"
        "    n.append(1)\n"
        "    if len(n) > 20: os.kill(os.getpid(), 9)\n"
        "    return piece(*arguments)\n"
        "download.Connection._piece = counted\n"
        "with download.fetched(source, config): pass\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, line.uri, line.config.scratch], check=False)
    assert killed.returncode == -9
    with FaultyProxy(line.server, rate=0.0) as proxy:
        line.through(proxy.url)
        arrived = fetch_all(line)
    assert arrived == contents
    ranges = [range_ for _, key, range_ in proxy.paths if key.endswith(path)]
    assert ranges[0] == f"bytes={20 * MIB // 4}-{21 * MIB // 4 - 1}"
    assert len(ranges) == 12
    assert not list(scratch_root(line.uri, line.config).iterdir()), "nothing is left when it is done"


def test_a_spoilt_part_is_thrown_away(line):
    contents = filled(line, files=1)
    [source] = list_sources(IngestConfig(archive=line.uri, root="unused"))
    part = scratch_root(line.uri, line.config) / scratch_name(source) / f"{source.path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * MIB)
    with fetched(source, line.config) as folder:
        assert (folder / source.path).read_bytes() == contents[source.path]


def test_an_object_that_changes_after_the_listing_is_not_mixed_with_the_old_one(line):
    filled(line, files=1)
    [source] = list_sources(IngestConfig(archive=line.uri, root="unused"))
    line.put(source.path, os.urandom(MIB + 7))
    config = line.config.model_copy(update={"attempts": 2})
    with refusal(TransientError, "sub-0_eeg.edf", "ETag", action="again"), fetched(source, config):
        pass
    assert clear_scratch(line.uri, config, set()) == 1
    assert not list(scratch_root(line.uri, config).iterdir())


def test_a_listing_of_many_pages_is_whole_though_pages_fail(line, monkeypatch):
    monkeypatch.setattr(download, "PAGE_KEYS", 20)
    keys = {f"sub-{i:04d}/eeg/sub-{i:04d}_eeg.edf" for i in range(205)}
    for key in keys:
        line.put(key, b"x")
    with FaultyProxy(line.server, rate=0.5, faults=["503", "504", "cut", "page"], seed=3) as proxy:
        line.through(proxy.url)
        files = list_files(locate(line.uri), line.config)
    assert set(files) == keys
    assert proxy.failed >= 5


def test_an_absent_or_closed_bucket_is_the_callers_mistake(line, monkeypatch):
    def refuse(*_):
        raise PermissionError("Access Denied")

    with refusal(UserError, "s3://nobody-has-this/x", action="s3://bucket/prefix"):
        list_files(locate("s3://nobody-has-this/x"), line.config)
    with refusal(UserError, "nothing-here", action="s3://bucket/prefix"):
        list_files(locate(f"s3://{line.bucket}/nothing-here"), line.config)
    monkeypatch.setattr(download, "_s3_page", refuse)
    with refusal(UserError, f"{line.bucket}/data", action="credentials"):
        list_files(locate(line.uri), line.config)


def test_openneuro_is_read_without_an_account_and_its_snapshot_is_recorded(line, monkeypatch):
    client = line.client
    client.create_bucket(Bucket="openneuro.org", ACL="public-read")
    objects = {
        "dataset_description.json": b'{"Name": "x", "DatasetDOI": "doi:10.18112/openneuro.ds000117.v1.0.5"}',
        "CHANGES": b"1.0.4 2020-01-01\n",
        "sub-01/meg/sub-01_task-a_run-01_meg.fif": b"x",
        "sub-emptyroom/ses-20090409/meg/sub-emptyroom_ses-20090409_task-noise_meg.fif": b"x",
        "derivatives/meg/sub-01/meg/sub-01_task-a_run-01_proc-sss_meg.fif": b"x",
    }
    for key, data in objects.items():
        client.put_object(Bucket="openneuro.org", Key=f"ds000117/{key}", Body=data, ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    listing = list_archive(IngestConfig(archive="openneuro:ds000117", root="unused", transfer=line.config))
    assert (listing.dataset, listing.snapshot, listing.entry.id) == ("ds000117", "1.0.5", "ds000117")
    [source] = listing.sources
    assert source.path == "sub-01/meg/sub-01_task-a_run-01_meg.fif"
    assert (source.files[0].size, len(source.files[0].etag)) == (1, 32)
    assert source.licence == "CC0-1.0"
    assert source.treatment.mains_hz == 50
    with fetched(source, line.config) as folder:
        assert (folder / source.path).read_bytes() == b"x"


@pytest.mark.parametrize(
    ("uri", "action"),
    [
        ("openneuro:117", "openneuro:ds000117"),
        ("openneuro:ds000117/sub-01", "openneuro:ds000117"),
        ("anonymous:/tmp", "anonymous:s3://"),
    ],
)
def test_a_uri_that_is_none_is_refused(uri, action):
    with refusal(UserError, uri, action=action):
        locate(uri)


def test_a_second_run_fetches_only_what_changed(line, shared, tmp_path):
    oddball = shared / "data/oddball/sub-02"
    files = {f"sub-02/{path.relative_to(oddball)}": path.read_bytes() for path in oddball.rglob("*") if path.is_file()}
    for key, data in files.items():
        line.put(key, data)
    config = IngestConfig(archive=line.uri, root=str(tmp_path / "store"), workers=0, transfer=line.config)
    first = ingest(config)
    assert (first.n_new, first.quarantined) == (3, ())
    changed = "sub-02/eeg/sub-02_task-p300_run-02_events.tsv"
    with FaultyProxy(line.server, rate=0.0) as proxy:
        line.through(proxy.url)
        assert ingest(config).n_new == 0
        assert [path for _, path, range_ in proxy.paths if range_] == []
        line.put(changed, files[changed] + b"200.0\t0\ttarget\n")
        second = ingest(config)
    fetched_ = {path.split("/data/")[1] for _, path, range_ in proxy.paths if range_}
    assert (second.n_new, second.n_known, len(second.replaced)) == (1, 2, 0)  # a row of events is a label
    assert changed in fetched_
    assert all("_run-02_" in path for path in fetched_), "nothing of the other runs"
    assert len(read_catalog(Store.open(config.root))) == 3
