"""Compare emeg's loader with three other loaders: samples per second, bytes and requests. No model runs.

Segments of 64 channels and 10 s, batches of 16, random order. Each side yields what training needs: float32 signal,
positions, types and mask. Each figure is emeg's rate divided by that of another loader:

* `ratio`: one float32 .pt file for each segment, with a warm page cache;
* `ratio_cold`: the same, after the pages of the files were dropped from the cache;
* `ratio_webdataset`: the webdataset package on the same shards;
* `s3_ratio`: one int16 object for each segment, from a server that waits 20 ms before each answer.

Each is the smaller one of 0 and 2 workers (threads in emeg, processes in the others). Rates are medians over rounds in
which the sides alternate.
"""

import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import fsspec
import torch
from benchmarks._loader_sides import (
    ObjectPerSegment,
    ObjectSide,
    Ours,
    PtSide,
    WebdatasetSide,
    make_store,
    write_objects,
    write_pt,
)

from emeg.data import Corpus, ShardConfig, shard
from emeg.store import Store
from emeg.uri import Location

WORKERS = (0, 2)
LATENCY_S = 0.02
ROUNDS, COLD_ROUNDS, S3_ROUNDS = 5, 3, 3
N_PEOPLE, SEGMENTS_EACH = 10, 96
N_OBJECTS = 192
"""Segments in an epoch of the slow side; emeg's loader reads all segments."""


def rate(side: Iterable[tuple], *, at_least_s: float = 0.0) -> float:
    """Return samples per second over whole epochs."""
    n, began = 0, time.perf_counter()
    while True:
        for signal, *_ in side:
            n += len(signal)
        took = time.perf_counter() - began
        if took >= at_least_s:
            return n / took


def take_turns(sides: dict[str, Iterable[tuple]], rounds: int) -> dict[str, float]:
    """Return the median rate of each side; the sides alternate in each round, and the first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            found = rate(side, at_least_s=0.5)
            if number:
                rates[name].append(found)
    return {name: statistics.median(found) for name, found in rates.items()}


def drop_pages(paths: Iterable[Path]) -> None:
    """Remove files from the page cache of the kernel."""
    os.sync()
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_turns(sides: dict[str, tuple[Callable[[], Iterable[tuple]], list[Path]]]) -> dict[str, float]:
    """Return the median rate of each side's first epoch after its files left the page cache."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(COLD_ROUNDS):
        for name, (make, paths) in sides.items():
            gc.collect()  # pages of files that are still mapped stay in the cache
            drop_pages(paths)
            rates[name].append(rate(make()))
    return {name: statistics.median(found) for name, found in rates.items()}


def measure_local(corpus: Corpus, folder: Path) -> dict[str, float]:
    """Return the warm, cold and webdataset rates for each number of workers."""
    train = [row for row, split in enumerate(corpus.column("split").tolist()) if split == "train"]
    paths = [path for row, path in enumerate(write_pt(corpus, folder / "pt")) if row in set(train)]
    tars = sorted((corpus.folder.local_path() / "shards").iterdir())
    found: dict[str, float] = {}
    for workers in WORKERS:
        sides = {"ours": Ours(corpus, workers), "pt": PtSide(paths, workers)}
        sides["webdataset"] = WebdatasetSide(corpus, workers)
        found |= {f"{name}_{workers}": value for name, value in take_turns(sides, ROUNDS).items()}
    del sides
    for workers in WORKERS:
        cold = cold_turns(
            {
                "cold_ours": (lambda w=workers: Ours(_again(corpus), w), tars),
                "cold_pt": (lambda w=workers: PtSide(paths, w), paths),
            }
        )
        found |= {f"{name}_{workers}": value for name, value in cold.items()}
    pt_bytes = sum(path.stat().st_size for path in paths) / len(paths)
    arrays = corpus.column("bytes")[train] + corpus.column("step_bytes")[train]
    found["bytes_ratio"] = float(arrays.mean()) / pt_bytes  # the headers and JSON between the arrays are not read
    shards = [shard for shard in corpus.manifest["shards"] if shard["split"] == "train"]
    found["bytes_ratio_on_disk"] = sum(s["bytes"] for s in shards) / len(train) / pt_bytes
    return found


def _again(corpus: Corpus) -> Corpus:
    """Open the corpus again, without mapped files."""
    opened = Corpus(corpus.name, corpus.folder, corpus.manifest)
    opened.column("split")
    return opened


def measure_s3(corpus: Corpus) -> dict[str, float]:
    """Return rates from the slow bucket, and the number of requests for 1,000 samples."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks._slow_bucket", str(port), str(LATENCY_S)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return _measure_s3(corpus, f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait()


def _measure_s3(corpus: Corpus, endpoint: str) -> dict[str, float]:
    options = {"key": "k", "secret": "s", "endpoint_url": endpoint}
    fs = fsspec.filesystem("s3", **options)
    for _ in range(100):
        try:
            _requests(endpoint)
            break
        except OSError:
            time.sleep(0.1)
    fs.mkdir("emeg")
    rows = [row for row, split in enumerate(corpus.column("split").tolist()) if split == "train"]
    n_samples = {"ours": len(rows), "objects": N_OBJECTS}
    write_objects(corpus, fs, "emeg/objects", rows[:N_OBJECTS])
    source = corpus.folder.local_path()
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        fs.pipe_file(f"emeg/corpora/{corpus.name}/{path.relative_to(source)}", path.read_bytes())
    remote = Corpus.open(Store(Location(fs, "emeg")), corpus.name)
    remote.column("split")
    pos, types = next(iter(corpus.layouts.values()))
    layout = (torch.from_numpy(pos), torch.from_numpy(types).long())
    found: dict[str, float] = {}
    counts: dict[str, list[float]] = {"ours": [], "objects": []}
    for workers in WORKERS:
        sides = {
            "ours": Ours(remote, workers),
            "objects": ObjectSide(ObjectPerSegment(options, "emeg/objects", N_OBJECTS, layout), workers),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(S3_ROUNDS + 1):
            for name, side in sides.items():
                before = _requests(endpoint)
                value = rate(side)
                if number:
                    rates[name].append(value)
                    counts[name].append((_requests(endpoint) - before) * 1000 / n_samples[name])
        found |= {f"s3_{name}_{workers}": statistics.median(values) for name, values in rates.items()}
    found |= {f"requests_{name}": max(values) for name, values in counts.items()}
    return found


def _requests(endpoint: str) -> int:
    with urllib.request.urlopen(f"{endpoint}/requests") as answer:
        return int(json.load(answer).get("GET", 0))


def main() -> None:
    """Measure, and print the result as one JSON object."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder / "store", N_PEOPLE, SEGMENTS_EACH)
        # small shards, because the server copies a whole object for each range request
        config = ShardConfig(root=str(store.root), held_out=0.0, validation=0.1, max_shard_bytes=32 * 2**20)
        corpus = Corpus.open(store, shard(config).corpus)
        found = measure_local(corpus, folder) | measure_s3(corpus)

    def worst(ours: str, theirs: str) -> float:
        return min(found[f"{ours}_{w}"] / found[f"{theirs}_{w}"] for w in WORKERS)

    figures = {
        "ratio": worst("ours", "pt"),
        "ratio_cold": worst("cold_ours", "cold_pt"),
        "ratio_webdataset": worst("ours", "webdataset"),
        "bytes_ratio": found.pop("bytes_ratio"),
        "bytes_ratio_on_disk": found.pop("bytes_ratio_on_disk"),
        "requests_per_1000": found["requests_ours"],
        "requests_ratio": found["requests_objects"] / found["requests_ours"],
        "s3_ratio": worst("s3_ours", "s3_objects"),
    }
    rounded = {key: round(value, 3) for key, value in figures.items()}
    print(json.dumps({"benchmark": "loader"} | rounded | {key: round(value, 1) for key, value in found.items()}))


if __name__ == "__main__":
    main()
