"""Measure two Dask workers against one, and a filter over a catalogue of 100,000 rows.

The recordings are equal EDF files of a minute of 32 channels at 500 Hz. Each side is a cluster of its own, started for
the round, whose workers have ingested a few others before the clock starts; rounds alternate, medians. `ratio` is wall
time of one over that of two: on a machine whose cores are busy with other work it says more about that work.
`cores_ratio` is what two processes with nothing in common do in the time in which one does 1, right after; client and
scheduler, whose CPU seconds are reported separately, have no core of their own where there are but two.
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
    """Write the recordings."""
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
    """One or two workers: what their ingests took, and the CPU seconds of the workers with their children."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.wall: list[float] = []
        self.workers: list[float] = []
        self.client: list[float] = []

    def round(self, scratch: Path) -> None:
        """Ingest a few recordings and then, measured, the archive, on a cluster that is alone on the machine."""
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
    """CPU seconds of this process and its living children."""
    import psutil

    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def spin(seconds: float) -> int:
    """Count transforms done in a while: work that nobody else has a part in."""
    rows, done = np.ones((32, 30_000), np.float32), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        np.fft.irfft(np.fft.rfft(rows))
        done += 1
    return done


def cores_ratio() -> float:
    """Measure what two processes with nothing in common do in the time in which one does 1, just now."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(spin, [0.1, 0.1]))
        alone = pool.submit(spin, 3.0).result()
        return sum(pool.map(spin, [3.0, 3.0])) / alone


def scaling(scratch: Path) -> dict[str, float]:
    """One worker, two workers, in alternating rounds."""
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
    """Time a filter over many rows, merged beforehand, as ingest does."""
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
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch:
        result = question(Path(scratch)) if os.environ.get("EMEG_ONLY") != "dask" else {}
        if os.environ.get("EMEG_ONLY") != "query":
            result |= scaling(Path(scratch))
    print(json.dumps({"benchmark": "scaling", **result}))


if __name__ == "__main__":
    main()
