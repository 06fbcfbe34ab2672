"""Measure the size of stored recordings relative to float32, and the rounding noise relative to the spectrum.

A few recordings of each real archive are ingested. The signal that ingest writes is also kept as float32 and compared
with what is read back. Reported are the bytes of the whole recording divided by those of float32, and the ratio of
spectrum to noise in the worst channel and 1-Hz bin, in dB (Welch's method, from 1 Hz to the end of the pass band,
without 2 Hz on both sides of notches and without flat channels).
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import welch

from emeg.ingest import IngestConfig, recording
from emeg.ingest.listing.sources import list_archive
from emeg.ingest.transfer.checksums import identify
from emeg.store import Store, open_recording, write_recording
from emeg.store.recordings.quantise import KeptBand

ARCHIVES = {"oddball": 3, "ssvep": 3, "arithmetic": 3, "motor-imagery": 2}


def written(data: Path, folder: Path) -> Iterator[tuple[str, Store, str, np.ndarray]]:
    """Ingest recordings; yield archive, store, recording and the float32 signal that was passed to the store."""
    kept: list[np.ndarray] = []

    def keeping(store: Store, name: str, signal: Any, **others: Any) -> float:  # noqa: ANN401 - passed on
        kept.append(np.concatenate([signal] if isinstance(signal, np.ndarray) else [b.copy() for b in signal], axis=1))
        return write_recording(store, name, kept[-1], **others)

    recording.write_recording = keeping
    for archive, count in ARCHIVES.items():
        config = IngestConfig(archive=str(data / archive), root=str(folder / archive), workers=0)
        store = Store.open(config.root, create=True)
        for source in identify(store, list_archive(config).sources[:count], 1):
            outcome = recording.ingest_recording(source, config)
            if outcome.state == "ready":
                yield archive, store, outcome.recording, kept.pop()


def worst_bin_db(signal: np.ndarray, stored: np.ndarray, band: KeptBand) -> float:
    """Return the ratio of spectrum to noise in the worst channel and bin, in dB."""
    length = round(band.sfreq)
    frequencies, power = welch(signal.astype(np.float64), band.sfreq, nperseg=length)
    _, noise = welch(stored.astype(np.float64) - signal, band.sfreq, nperseg=length)
    alive = np.ptp(signal, axis=1) > 0
    return float((10 * np.log10(power / noise))[alive][:, band.counts(frequencies)].min())


def main() -> None:
    """Measure, and print the result as one JSON object."""
    data = Path(__file__).parents[2] / "shared" / "data"
    if not data.is_dir():
        sys.exit(f"{data}: no real recordings")
    result: dict[str, Any] = {"benchmark": "store"}
    total = on_disk = 0
    worst = np.inf
    with tempfile.TemporaryDirectory() as scratch:
        per: dict[str, list[int]] = {archive: [0, 0] for archive in ARCHIVES}
        margins: dict[str, float] = dict.fromkeys(ARCHIVES, np.inf)
        for archive, store, name, signal in written(data, Path(scratch)):
            opened = open_recording(store, name)
            told = opened.attributes
            band = KeptBand(told.sfreq, *told.pass_band, told.notches)
            margins[archive] = min(margins[archive], worst_bin_db(signal, opened.read(0, opened.n_samples), band))
            folder = store.location("recordings", f"{name}.zarr").local_path()
            per[archive][0] += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            per[archive][1] += signal.nbytes
    for archive, (size, raw) in per.items():
        if raw:
            result[f"bytes_ratio_{archive.replace('-', '_')}"] = round(size / raw, 3)
            result[f"worst_bin_db_{archive.replace('-', '_')}"] = round(margins[archive], 1)
            total, on_disk, worst = total + raw, on_disk + size, min(worst, margins[archive])
    result |= {"bytes_ratio": round(on_disk / total, 3), "noise_db_max": round(-worst, 1)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
