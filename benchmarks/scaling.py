"""Measure two Dask workers against one, and a filter over a catalogue of 100,000 rows.

The recordings are equal EDF files of a minute of 32 channels at 500 Hz. Each side is a cluster of its own whose workers
have imported everything before the clock starts; rounds alternate, medians. `ratio` is wall time of one over that of
two: on a machine whose cores are busy with other work it says more about that work.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from edfio import Edf, EdfSignal

from emeg.ingest import IngestConfig, ingest, ingest_recording
from emeg.store import CatalogConfig, CatalogRow, Store, compact_catalog, query_catalog
from emeg.store.catalog import _parquet, _rows_table

RECORDINGS, ROUNDS, ROWS = 16, 3, 100_000
NAMES = "Fp1 Fp2 F3 F4 F7 F8 Fz C3 C4 Cz T7 T8 P3 P4 P7 P8 Pz O1 O2 Oz AF3 AF4 FC1 FC2 FC5 FC6 CP1 CP2 CP5 CP6 PO3 PO4"


def make(folder: Path) -> None:
    """Write the recordings."""
    rng = np.random.default_rng(0)
    signals = [
        EdfSignal(np.cumsum(rng.normal(size=60 * 500)) * 0.1, 500, label=f"EEG {name}", physical_dimension="uV")
        for name in NAMES.split()
    ]
    for number in range(RECORDINGS):
        place = folder / f"sub-{number:02d}" / "eeg"
        place.mkdir(parents=True)
        Edf(signals).write(place / f"sub-{number:02d}_task-rest_eeg.edf")


def seconds(archive: Path, root: Path, address: str) -> float:
    """Wall time of one ingest into a fresh store."""
    began = time.perf_counter()
    ingest(IngestConfig(archive=str(archive), root=str(root), dask=address))
    return time.perf_counter() - began


def scaling(scratch: Path) -> dict[str, float]:
    """One worker, two workers, in alternating rounds."""
    from distributed import Client, LocalCluster

    archive = scratch / "archive"
    make(archive)
    times: dict[int, list[float]] = {1: [], 2: []}
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(n_workers=1, **options) as one, LocalCluster(n_workers=2, **options) as two:
        clusters = {1: one.scheduler_address, 2: two.scheduler_address}
        for n, address in clusters.items():
            with Client(address, set_as_default=False) as client:
                client.run(lambda: ingest_recording.__name__)
            seconds(archive, scratch / f"warm-{n}", address)
        for round_ in range(ROUNDS):
            for n, address in clusters.items():
                times[n].append(seconds(archive, scratch / f"store-{n}-{round_}", address))
    medians = {n: statistics.median(values) for n, values in times.items()}
    return {
        "ratio": round(medians[1] / medians[2], 2),
        "seconds_1": round(medians[1], 2),
        "seconds_2": round(medians[2], 2),
        "load": round(os.getloadavg()[0], 1),
    }


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
    store.write_bytes(_parquet(_rows_table(rows)), "catalog", "compact-0.parquet")
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
