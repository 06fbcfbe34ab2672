"""Compare the store of an undisturbed ingest with those of a faulty connection and of kills at random moments.

Three small synthetic datasets are in a moto bucket (over HTTP), and the store is a folder or a bucket (``--kinds``
selects). The benchmark ingests the datasets in three ways and compares every file of the stores, except ``runs/``:

1. undisturbed;
2. through a proxy that fails 20 % of the requests: status 503, a 504 page, a truncated body, a stall, a wrong ETag, or
   an HTML page instead of the data;
3. through the same proxy, with SIGKILL at a random moment of each run.

After a kill, the next run continues the store. When a store has all recordings, one more run completes it, it is
compared, and a new store follows, until all kills have been made. The moment of a kill is drawn from the estimated time
of the remaining work. One kill in five hits a run with worker processes. Waits between attempts are a tenth of the
default, so that most kills hit work and not waiting.

`repeated` counts recordings that were complete when a run started and were written or started again (`done_again`,
`begun_again`); `lost` counts recordings that were complete and are missing afterwards.

``python -m benchmarks.faults [--kinds folder bucket] [--kills 50] [--rate 0.2] [--seed 0]``
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from benchmarks._faulty_archive import DATASETS, PEOPLE, moto, write_dataset
from tests.faulty_proxy import FaultyProxy

BUCKET, STORES = "archive", "stores"
PRELOAD = [
    "__main__", "emeg.ingest.archive",
    "mne", "mne.channels", "mne.io.edf", "mne.io.brainvision", "scipy.signal", "scipy.fft",
    "pyarrow.parquet", "aiobotocore.session", "s3fs", "zarr",
]  # fmt: skip
TIMEOUT_S = 0.5
WAITS = 0.1
"""Factor by which the waits between attempts are shortened."""

WITH_WORKERS = 5
"""One run in this many uses worker processes."""

MOST_RUNS = 30
"""Maximum number of runs for one store; a run that ends with `TransientError` (exit 75) is repeated."""


def ingest_all(endpoint: str, root: str, scratch: str, workers: int, notes: str) -> None:
    """Ingest the three datasets; runs in the process that is killed."""
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    from botocore import retryhandler

    from emeg.errors import TransientError
    from emeg.ingest import IngestConfig, recording
    from emeg.ingest.archive import ingest
    from emeg.ingest.config import TransferConfig
    from emeg.ingest.transfer import retry

    retry.FIRST_WAIT_S *= WAITS
    whole_wait = retryhandler.delay_exponential
    retryhandler.delay_exponential = lambda **settings: WAITS * whole_wait(**settings)
    work = recording._ingest

    def noted(store: Any, facts: Any) -> Any:  # noqa: ANN401 - passed through
        with Path(notes).open("a") as file:
            file.write(f"{facts.recording}\n")
        return work(store, facts)

    recording._ingest = noted
    transfer = TransferConfig(timeout_s=TIMEOUT_S, piece_mib=1 / 16, scratch=scratch, attempts=10)
    try:
        for name in DATASETS:
            ingest(IngestConfig(archive=f"s3://{BUCKET}/{name}", root=root, workers=workers, transfer=transfer))
    except TransientError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(75)


@dataclass
class Bench:
    """The servers and the counts of a benchmark run."""

    direct: str
    proxy: FaultyProxy
    folder: Path
    chance: random.Random
    client: Any
    context: Any
    kills: int = 0
    kills_with_workers: int = 0
    stores: int = 0
    reruns: int = 0
    crashes: int = 0
    done_again: int = 0
    begun_again: int = 0
    lost: int = 0
    began: float = field(default_factory=time.perf_counter)
    differing: list[str] = field(default_factory=list)
    reference: dict[str, str] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Print progress on standard error."""
        sys.stderr.write(f"{time.perf_counter() - self.began:7.1f} s  {text}\n")
        sys.stderr.flush()

    @property
    def notes(self) -> Path:
        """Return the file with the names of the recordings that the latest run has started."""
        return self.folder / "begun"

    def start(self, endpoint: str, root: str, workers: int = 0) -> Any:  # noqa: ANN401 - a process of some context
        """Start an ingest in a separate process."""
        self.notes.write_text("")
        arguments = (endpoint, root, str(self.folder / "scratch"), workers, str(self.notes))
        process = self.context.Process(target=ingest_all, args=arguments)
        process.start()
        return process

    def finish(self, endpoint: str, root: str) -> float:
        """Run ingests until one succeeds, and return the seconds of all runs together."""
        began = time.perf_counter()
        for _ in range(MOST_RUNS):
            before = self.done(root)
            process = self.start(endpoint, root)
            process.join()
            self.say(f"{root}: exit {process.exitcode}, {time.perf_counter() - began:.1f} s")
            self.look(root, before)
            if process.exitcode == 0:
                return time.perf_counter() - began
            self.failed(process)
        raise SystemExit(f"{root}: did not end in {MOST_RUNS} runs")

    def failed(self, process: Any) -> None:  # noqa: ANN401 - a process of some context
        """Count a run that failed without being killed."""
        self.reruns += 1
        self.crashes += process.exitcode != 75

    def tree(self, root: str) -> dict[str, str]:
        """Return the hash of every file of the products."""
        if not root.startswith("s3://"):
            files = [path for path in Path(root).rglob("*") if path.is_file()]
            found = {str(path.relative_to(root)): path.read_bytes() for path in files}
        else:
            prefix = root.removeprefix(f"s3://{STORES}/") + "/"
            read = self.client.get_object
            found = {k.removeprefix(prefix): read(Bucket=STORES, Key=k)["Body"].read() for k in self.keys(prefix)}
        return {p: hashlib.sha256(data).hexdigest() for p, data in found.items() if not p.startswith("runs/")}

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of the stores' bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=STORES, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def done(self, root: str) -> dict[str, object]:
        """Return the complete recordings, each with a value that changes if the recording is written again."""
        if not root.startswith("s3://"):
            rows = Path(root).glob("catalog/recordings/*.parquet")
            return {path.stem: (path.stat().st_mtime_ns, path.stat().st_ino) for path in rows}
        prefix = root.removeprefix(f"s3://{STORES}/") + "/catalog/recordings/"
        return {Path(key).stem: self.puts(key) for key in self.keys(prefix)}

    def puts(self, key: str) -> int:
        """Count how often an object was written through the proxy."""
        return sum(method == "PUT" and path.split("?")[0].endswith(key) for method, path, _ in self.proxy.paths)

    def look(self, root: str, before: dict[str, object]) -> dict[str, object]:
        """Count the recordings that the latest run repeated or lost, and return those that are complete now."""
        now, begun = self.done(root), set(self.notes.read_text().split())
        self.lost += len(before.keys() - now.keys())
        self.done_again += sum(now[name] != before[name] for name in before.keys() & now.keys())
        self.begun_again += len(begun & before.keys())
        return now

    def compare(self, root: str) -> None:
        """Record files that differ from those of the undisturbed store."""
        mine = self.tree(root)
        files = sorted(mine.keys() | self.reference.keys())
        wrong = [path for path in files if mine.get(path) != self.reference.get(path)]
        self.say(f"{root}: {len(files)} files, {len(wrong)} differ; {self.kills} kills")
        self.differing += [f"{root}/{path}" for path in wrong]

    def kill_often(self, kind: str, kills: int, whole_s: float, idle_s: float) -> None:
        """Kill ingests at random moments, in one store after the other, until `kills` have been made."""
        last, whole = self.kills + kills, PEOPLE * len(DATASETS)
        root, done = self.new_root(kind), dict[str, object]()
        while self.kills < last:
            if len(done) == whole:
                self.finish(self.proxy.url, root)
                self.compare(root)
                root, done = self.new_root(kind), {}
            left_s = idle_s + (whole_s - idle_s) * (1 - len(done) / whole)
            moment_s = self.chance.uniform(0.0, left_s)
            workers = 2 if self.chance.randrange(WITH_WORKERS) == 0 else 0
            process = self.start(self.proxy.url, root, workers)
            process.join(moment_s)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            if process.exitcode == -signal.SIGKILL:
                self.kills += 1
                self.kills_with_workers += workers > 0
            done = self.look(root, done)
            self.say(f"{root}: kill {self.kills}, {moment_s:.1f} of {left_s:.1f} s, {len(done)} done")
            if process.exitcode not in {0, -signal.SIGKILL}:
                self.failed(process)
        self.finish(self.proxy.url, root)
        self.compare(root)

    def new_root(self, kind: str) -> str:
        """Return the root of the next store."""
        self.stores += 1
        name = f"killed-{self.stores}"
        return f"s3://{STORES}/{name}" if kind == "bucket" else str(self.folder / name)


def measure(bench: Bench, kinds: list[str], kills: int) -> dict[str, object]:
    """Measure undisturbed, faulty and killed runs, for each kind of store."""
    plain = str(bench.folder / "plain")
    faultless_s = bench.finish(bench.direct, plain)
    bench.reference = bench.tree(plain)
    rows = sum(path.startswith("catalog/recordings/") for path in bench.reference)
    refused = sum(path.startswith("catalog/quarantine/") for path in bench.reference)
    if (rows, refused) != (len(DATASETS) * PEOPLE, 1):
        raise SystemExit(f"the faultless ingest gave {rows} recordings and {refused} refusals")
    found: dict[str, object] = {"seconds_faultless": round(faultless_s, 2), "recordings": rows}
    for kind in kinds:
        folder = f"s3://{STORES}" if kind == "bucket" else str(bench.folder)
        if kind == "bucket":
            bench.finish(bench.direct, f"{folder}/plain")
            bench.compare(f"{folder}/plain")
        failed, reruns, before = bench.proxy.failed, bench.reruns, bench.kills
        whole_s = bench.finish(bench.proxy.url, f"{folder}/faulty")
        found[f"requests_failed_{kind}"] = bench.proxy.failed - failed
        idle_s = bench.finish(bench.proxy.url, f"{folder}/faulty")
        bench.compare(f"{folder}/faulty")
        bench.kill_often(kind, kills, whole_s, idle_s)
        found[f"seconds_faulty_{kind}"], found[f"seconds_idle_{kind}"] = round(whole_s, 2), round(idle_s, 2)
        found[f"reruns_{kind}"], found[f"kills_{kind}"] = bench.reruns - reruns, bench.kills - before
    return found


def surroundings() -> None:
    """Set credentials, short time limits and one thread, for this process and its children."""
    os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "benchmark")
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    os.environ["FSSPEC_S3"] = json.dumps({"config_kwargs": {"read_timeout": TIMEOUT_S, "connect_timeout": 5}})


def main() -> None:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="+", choices=("folder", "bucket"), default=["folder", "bucket"])
    parser.add_argument("--kills", type=int, default=50, help="for each kind of store")
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    surroundings()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    began = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="emeg-faults-"))
    server, direct = moto()
    try:
        client = boto3.client("s3", endpoint_url=direct)
        for number, (name, kind) in enumerate(DATASETS.items(), start=1):
            write_dataset(folder / "archive" / name, kind, number)
        for bucket in (BUCKET, STORES):
            client.create_bucket(Bucket=bucket)
        for path in sorted((folder / "archive").rglob("*")):
            if path.is_file():
                client.upload_file(str(path), BUCKET, str(path.relative_to(folder / "archive")))
        with FaultyProxy(direct, rate=options.rate, lies_about=f"/{BUCKET}", stall_s=1.0, seed=options.seed) as proxy:
            bench = Bench(direct, proxy, folder, random.Random(options.seed), client, context)
            found = measure(bench, options.kinds, options.kills)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
    kinds = Counter({f"answers_{kind}": n for kind, n in proxy.counts.items()})
    figures = {
        "identical": not bench.differing,
        "kills": bench.kills,
        "kills_with_workers": bench.kills_with_workers,
        "stores": bench.stores,
        "lost": bench.lost,
        "repeated": bench.done_again + bench.begun_again,
        "requests_failed": proxy.failed,
        "requests": proxy.counts.total(),
        "reruns": bench.reruns,
        "crashes": bench.crashes,
        "differing": bench.differing[:3],
    }
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"benchmark": "faults", **figures, **found, **dict(sorted(kinds.items())), "seconds": seconds}))


if __name__ == "__main__":
    main()
