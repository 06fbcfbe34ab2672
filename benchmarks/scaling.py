"""Measure the speed-up of ingest with two Dask workers, and a filter over a catalogue of 100,000 rows.

The recordings are equal EDF files of one minute with 32 channels at 500 Hz. Each side starts its own cluster in each
round, and its workers ingest a few other recordings before the clock starts. Rounds alternate; figures are medians.
`ratio` is the wall time of one worker divided by that of two. On a busy machine it depends mostly on the other work.
`cores_ratio`, measured immediately afterwards, is the work of two independent processes divided by that of one
process in the same time. Client and scheduler share the cores with the workers on a machine with two cores; their CPU
seconds are reported separately.
"""

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from edfio import Edf, EdfSignal

from emeg.ingest import IngestConfig, ingest
from emeg.store import CatalogConfig, CatalogRow, Store, compact_catalog, query_catalog
from emeg.store.catalog.parquet import parquet_bytes
from emeg.store.catalog.tables import _rows_table

RECORDINGS, DASK_ROUNDS, ROUNDS, ROWS = 64, 3, 3, 100_000
NAMES = "Fp1 Fp2 F3 F4 F7 F8 Fz C3 C4 Cz T7 T8 P3 P4 P7 P8 Pz O1 O2 Oz AF3 AF4 FC1 FC2 FC5 FC6 CP1 CP2 CP5 CP6 PO3 PO4"


def make(folder: Path, n: int) -> None:
    """Write an archive of `n` recordings into `folder`."""
    rng = np.random.default_rng(0)
    signals = [
        EdfSignal(np.cumsum(rng.normal(size=60 * 500)) * 0.1, 500, label=f"EEG {name}", physical_dimension="uV")
        for name in NAMES.split()
    ]
    for number in range(n):
        place = folder / f"sub-{number:02d}" / "eeg"
        place.mkdir(parents=True)
        Edf(signals).write(place / f"sub-{number:02d}_task-rest_eeg.edf")


class Side:
    """Times of the ingests with one number of workers, and CPU seconds of the workers with their children."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.wall: list[float] = []
        self.workers: list[float] = []
        self.client: list[float] = []

    def round(self, scratch: Path) -> None:
        """Start a cluster, ingest a few recordings to warm it up, then measure the ingest of the archive."""
        from distributed import Client, LocalCluster

        options = {"n_workers": self.n, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
            name = f"{self.n}-{len(self.wall)}"
            for archive in ("warm", "archive"):
                config = IngestConfig(
                    archive=str(scratch / archive),
                    root=str(scratch / f"{archive}-{name}"),
                    dask=cluster.scheduler_address,
                )
                before = sum(client.run(cpu_seconds).values())
                began, cpu = time.perf_counter(), time.process_time()
                ingest(config)
                wall, own = time.perf_counter() - began, time.process_time() - cpu
                workers = sum(client.run(cpu_seconds).values()) - before
        self.wall.append(wall)
        self.client.append(own)
        self.workers.append(workers)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its running children."""
    import psutil

    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def spin(seconds: float) -> int:
    """Return the number of Fourier transforms computed in `seconds`."""
    rows, done = np.ones((32, 30_000), np.float32), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        np.fft.irfft(np.fft.rfft(rows))
        done += 1
    return done


def cores_ratio() -> float:
    """Measure the work of two independent processes, divided by that of one process in the same time."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(spin, [0.1, 0.1]))
        alone = pool.submit(spin, 3.0).result()
        return sum(pool.map(spin, [3.0, 3.0])) / alone


def scaling(scratch: Path) -> dict[str, float]:
    """Measure ingest with one worker and with two in alternating rounds."""
    load = os.getloadavg()[0]
    make(scratch / "warm", 8)
    make(scratch / "archive", RECORDINGS)
    sides = [Side(1), Side(2)]
    for _ in range(DASK_ROUNDS):
        for side in sides:
            side.round(scratch)
    rest = cores_ratio()
    walls = {side.n: statistics.median(side.wall) for side in sides}
    figures = {"ratio": round(walls[1] / walls[2], 2), "cores_ratio": round(rest, 2), "recordings": RECORDINGS}
    for side in sides:
        figures |= {
            f"seconds_{side.n}": round(walls[side.n], 2),
            f"worker_cpu_s_{side.n}": round(statistics.median(side.workers), 2),
            f"client_cpu_s_{side.n}": round(statistics.median(side.client), 2),
        }
    return figures | {"load_before": round(load, 1), "load": round(os.getloadavg()[0], 1)}


def question(scratch: Path) -> dict[str, float]:
    """Measure a filter over many catalogue rows, which are merged first as in an ingest."""
    store = Store.open(scratch / "catalogue", create=True)
    folder = scratch / "catalogue" / "catalog" / "recordings"
    folder.mkdir(parents=True)
    fields = {"dataset": "d", "modality": "meg", "source": "s", "n_channels": 3, "n_eeg": 0, "n_magnetometers": 3}
    fields |= {"n_gradiometers": 0, "layout": "f" * 16, "sfreq_source": 500.0, "pass_band_low": 0.1}
    fields |= {"pass_band_high": 96.0, "config_hash": "0" * 16, "version": "0"}
    rows = [
        CatalogRow.model_validate(
            {**fields, "recording": f"{n:016x}", "device": f"device{n % 50}", "duration_s": float(n % 2000)}
        )
        for n in range(ROWS)
    ]
    store.write_bytes(parquet_bytes(_rows_table(rows)), "catalog", "compact-0.parquet")
    for row in rows:
        (folder / f"{row.recording}.parquet").touch()
    compact_catalog(store)
    config = CatalogConfig(root=str(scratch / "catalogue"), where="device = 'device7' and duration_s > 1600")
    times, found = [], 0
    for _ in range(ROUNDS + 1):
        began, cpu = time.perf_counter(), time.process_time()
        found = len(query_catalog(config).rows)
        times.append((time.perf_counter() - began, time.process_time() - cpu))
    return {
        "query_s": round(statistics.median(wall for wall, _ in times[1:]), 3),
        "query_cpu_s": round(statistics.median(cpu for _, cpu in times[1:]), 3),
        "query_rows": found,
        "rows": ROWS,
    }


def main() -> None:
    """Measure, and print the result as one JSON object."""
    with tempfile.TemporaryDirectory() as scratch:
        result = question(Path(scratch)) if os.environ.get("EMEG_ONLY") != "dask" else {}
        if os.environ.get("EMEG_ONLY") != "query":
            result |= scaling(Path(scratch))
    print(json.dumps({"benchmark": "scaling", **result}))


if __name__ == "__main__":
    main()
