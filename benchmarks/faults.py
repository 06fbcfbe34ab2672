"""Compare the store of an undisturbed ingest with those of a faulty line and of kills at random moments.

Three small synthetic datasets lie in a moto bucket (over HTTP). Beside a faultless ingest: one through a proxy that
answers 20 % of requests with 503, a 504 page, a cut body, a stall, a wrong ETag or a page in the place of the data;
then SIGKILL at random moments, each followed by another run through the same proxy, until all kills are spent, and one
last run. All of it with a folder as the store and with a bucket. Every file is compared (``runs/`` is no product).

``python -m benchmarks.faults [--kills 50] [--rate 0.2] [--seed 0]``
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from tests.faulty_proxy import FaultyProxy

BUCKET, STORES = "archive", "stores"
NAMES = tuple(f"{row}{side}" for row in ("F", "FC", "C", "CP", "P") for side in ("3", "z", "4"))
SECONDS, RATE, PEOPLE = 60, 250, 2
PRELOAD = [
    "__main__", "emeg.ingest.archive",
    "mne", "mne.channels", "mne.io.edf", "mne.io.brainvision", "scipy.signal", "scipy.fft",
    "pyarrow.parquet", "aiobotocore.session", "s3fs", "zarr",
]  # fmt: skip
TIMEOUT_S = 0.5
LONGEST_S = 4.0
"""A killed run has lived for no longer, s; what it finished stays, so the next is killed further on."""

MOST_RUNS = 30
"""A run that ends with `TransientError` (exit 75) is to be called again; more often than this is a failure."""


def signals(seed: int) -> np.ndarray:
    """Make 15 channels of 1/f noise with an alpha rhythm, in volts; neighbours share half of it."""
    rng = np.random.default_rng(seed)
    n = SECONDS * RATE
    spectrum = rng.normal(size=(len(NAMES) + 1, n // 2 + 1)) + 1j * rng.normal(size=(len(NAMES) + 1, n // 2 + 1))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.5))
    noise = np.fft.irfft(spectrum, n)
    noise = noise[1:] + 2.0 * noise[:1]
    alpha = np.sin(2 * np.pi * 10 * np.arange(n) / RATE + seed)
    return 15e-6 * (noise / noise.std() + 0.5 * alpha)


def write_dataset(folder: Path, kind: str, number: int) -> None:
    """Write two people with one recording each, and, in the last dataset, one damaged file."""
    import edfio
    import mne
    import pybv

    folder.mkdir(parents=True)
    description = {"Name": folder.name, "BIDSVersion": "1.9.0", "License": "CC0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    (folder / "task-rest_eeg.json").write_text(json.dumps({"PowerLineFrequency": 50, "TaskName": "rest"}))
    for person in range(1, PEOPLE + 1):
        place = folder / f"sub-{person:02d}" / "eeg"
        place.mkdir(parents=True)
        stem = f"sub-{person:02d}_task-rest_eeg"
        data = signals(10 * number + person)
        if kind == "edf":
            channels = [
                edfio.EdfSignal(row * 1e6, RATE, label=n, physical_dimension="uV")
                for row, n in zip(data, NAMES, strict=True)
            ]
            edfio.Edf(channels).write(place / f"{stem}.edf")
        else:
            mne.set_log_level("ERROR")
            pybv.write_brainvision(
                data=data, sfreq=RATE, ch_names=NAMES, fname_base=stem, folder_out=place, events=None, unit="µV"
            )
        (place / f"sub-{person:02d}_task-rest_events.tsv").write_text(
            "onset\tduration\ttrial_type\n5\t1\ta\n20\t1\tb\n"
        )
    if number == 3:
        (folder / "sub-04" / "eeg").mkdir(parents=True)
        whole = (folder / "sub-01/eeg/sub-01_task-rest_eeg.edf").read_bytes()
        (folder / "sub-04/eeg/sub-04_task-rest_eeg.edf").write_bytes(whole[: len(whole) // 2])


DATASETS = {"one": "edf", "two": "brainvision", "three": "edf"}


def ingest_all(endpoint: str, root: str, scratch: str) -> None:
    """Ingest the three datasets; the body of the process that is killed."""
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    from emeg.errors import TransientError
    from emeg.ingest import IngestConfig
    from emeg.ingest.archive import ingest
    from emeg.ingest.config import TransferConfig

    transfer = TransferConfig(timeout_s=TIMEOUT_S, piece_mib=0.25, scratch=scratch, attempts=10)
    try:
        for name in DATASETS:
            ingest(IngestConfig(archive=f"s3://{BUCKET}/{name}", root=root, workers=1, transfer=transfer))
    except TransientError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(75)


@dataclass
class Bench:
    """The servers, and what was counted."""

    direct: str
    proxy: FaultyProxy
    folder: Path
    chance: random.Random
    client: Any
    context: Any
    kills: int = 0
    reruns: int = 0
    crashes: int = 0
    repeated: int = 0
    began: float = field(default_factory=time.perf_counter)
    differing: list[str] = field(default_factory=list)
    reference: dict[str, str] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Tell where it is, on standard error."""
        sys.stderr.write(f"{time.perf_counter() - self.began:7.1f} s  {text}\n")
        sys.stderr.flush()

    def start(self, endpoint: str, root: str) -> Any:  # noqa: ANN401 - a process of some context
        """Begin an ingest."""
        process = self.context.Process(target=ingest_all, args=(endpoint, root, str(self.folder / "scratch")))
        process.start()
        return process

    def finish(self, endpoint: str, root: str) -> float:
        """Run until it ends well; gives the seconds of the last run."""
        for _ in range(MOST_RUNS):
            began = time.perf_counter()
            process = self.start(endpoint, root)
            process.join()
            self.say(f"{root}: exit {process.exitcode}, {time.perf_counter() - began:.1f} s")
            if process.exitcode == 0:
                return time.perf_counter() - began
            self.reruns += 1
            self.crashes += process.exitcode != 75
        raise SystemExit(f"{root}: did not end in {MOST_RUNS} runs")

    def tree(self, root: str) -> dict[str, str]:
        """Hash of every product's file."""
        if not root.startswith("s3://"):
            files = [path for path in Path(root).rglob("*") if path.is_file()]
            found = {str(path.relative_to(root)): path.read_bytes() for path in files}
        else:
            prefix = root.removeprefix(f"s3://{STORES}/") + "/"
            keys = self.keys(prefix)
            read = self.client.get_object
            found = {key.removeprefix(prefix): read(Bucket=STORES, Key=key)["Body"].read() for key in keys}
        return {p: hashlib.sha256(data).hexdigest() for p, data in found.items() if not p.startswith("runs/")}

    def keys(self, prefix: str) -> list[str]:
        """Objects of the stores' bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=STORES, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def done(self, root: str) -> dict[str, object]:
        """List recordings that are complete, with what shows that one was written again."""
        if not root.startswith("s3://"):
            rows = Path(root).glob("catalog/recordings/*.parquet")
            return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in rows}
        prefix = root.removeprefix(f"s3://{STORES}/") + "/catalog/recordings/"
        return {key: self.puts(key) for key in self.keys(prefix)}

    def puts(self, key: str) -> int:
        """Count how often an object was written through the proxy."""
        return sum(method == "PUT" and path.split("?")[0].endswith(key) for method, path, _ in self.proxy.paths)

    def compare(self, root: str) -> None:
        """Note files that differ from the faultless store's."""
        mine = self.tree(root)
        files = sorted(mine.keys() | self.reference.keys())
        wrong = [path for path in files if mine.get(path) != self.reference.get(path)]
        self.say(f"{root}: {len(files)} files, {len(wrong)} differ; {self.kills} kills, {self.repeated} repeated")
        self.differing += wrong

    def kill_often(self, kind: str, kills: int, span_s: float) -> None:
        """Kill at random moments; a store that got finished is compared, and the next one begun."""
        store, before = 0, self.kills
        root, finished = self.new_root(kind, store), dict[str, object]()
        while self.kills - before < kills:
            process = self.start(self.proxy.url, root)
            process.join(self.chance.uniform(0.0, span_s))
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                self.kills += 1
            process.join()
            self.say(f"{root}: {self.kills} kills, exit {process.exitcode}")
            now = self.done(root)
            self.repeated += sum(now.get(name) != stamp for name, stamp in finished.items())
            finished = now
            if process.exitcode == 0:
                self.compare(root)
                store += 1
                root, finished = self.new_root(kind, store), {}
            elif process.exitcode != -signal.SIGKILL:
                self.reruns += 1
                self.crashes += process.exitcode != 75
        self.finish(self.proxy.url, root)
        now = self.done(root)
        self.repeated += sum(now.get(name) != stamp for name, stamp in finished.items())
        self.compare(root)

    def new_root(self, kind: str, number: int) -> str:
        """Name the next store."""
        name = f"killed-{number}"
        return f"s3://{STORES}/{name}" if kind == "bucket" else str(self.folder / name)


def measure(bench: Bench, kills: int) -> dict[str, object]:
    """Faultless, faulty and killed, for both kinds of store."""
    plain = str(bench.folder / "plain")
    faultless_s = bench.finish(bench.direct, plain)
    bench.reference = bench.tree(plain)
    rows = sum(path.startswith("catalog/recordings/") for path in bench.reference)
    refused = sum(path.startswith("catalog/quarantine/") for path in bench.reference)
    if (rows, refused) != (3 * PEOPLE, 1):
        raise SystemExit(f"the faultless ingest gave {rows} recordings and {refused} refusals")
    found: dict[str, object] = {"seconds_faultless": round(faultless_s, 2), "recordings": rows}
    bench.finish(bench.direct, f"s3://{STORES}/plain")
    bench.compare(f"s3://{STORES}/plain")
    for kind, root in (("folder", str(bench.folder / "faulty")), ("bucket", f"s3://{STORES}/faulty")):
        began, failed = time.perf_counter(), bench.proxy.failed
        bench.finish(bench.proxy.url, root)
        seconds = time.perf_counter() - began
        bench.compare(root)
        found[f"seconds_faulty_{kind}"] = round(seconds, 2)
        found[f"requests_failed_{kind}"] = bench.proxy.failed - failed
        found[f"reruns_{kind}"] = bench.reruns
        bench.kill_often(kind, kills, min(seconds, LONGEST_S))
    return found


def moto() -> tuple[subprocess.Popen[bytes], str]:
    """Start an S3 server in a process of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process, f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    raise SystemExit("moto did not start")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="for each of the two kinds of store")
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "benchmark"
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    os.environ["FSSPEC_S3"] = json.dumps({"config_kwargs": {"read_timeout": TIMEOUT_S, "connect_timeout": 5}})
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
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
            found = measure(bench, options.kills)
            kinds = Counter({f"answers_{kind}": n for kind, n in proxy.counts.items()})
            requests, failed = proxy.counts.total(), proxy.failed
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        json.dumps(
            {
                "benchmark": "faults",
                "identical": not bench.differing,
                "kills": bench.kills,
                "requests_failed": failed,
                "requests": requests,
                "repeated": bench.repeated,
                "reruns": bench.reruns,
                "crashes": bench.crashes,
                "differing": bench.differing[:3],
                **found,
                **dict(sorted(kinds.items())),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
