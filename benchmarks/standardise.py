"""Measure how many times faster one pass of the standardising kernel is than MNE's notch, resample and filter.

Both sides run in one process and one thread on the same signal: 64 and 306 channels, 10 minutes, 1 kHz, mains 50 Hz.
Times are CPU seconds (user and system), medians of alternating rounds. The kernel is compared with MNE's defaults
(`ratio`) and with MNE's fastest setting that shifts no time, ``npad=0`` (`ratio_npad0`); each is the smaller one of
the two sizes. The kernel reads and returns float32 and MNE float64: the type that each has in memory after reading a
file.

* `correlation_min`: lowest correlation of any channel with MNE's ``npad=0`` result, on files of ``../shared/data`` of
  at least one minute, in the pass band, without 20 s at both ends and without 2 Hz around notches;
* `shift_samples`: largest distance of a click's peak from its true position, in samples of 256 Hz;
* `event_onset_samples`: largest difference between a stored onset and the source's onset in real files, in samples of
  256 Hz; `event_clock_samples`: the same against the source's sample numbers;
* `event_signal_samples`: largest delay of the stored signal after the source's around the events of a file, in
  samples of 256 Hz (see `benchmarks/_event_latencies.py`).
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
from benchmarks._event_latencies import latencies
from threadpoolctl import threadpool_limits

from emeg.dsp.response import Band, plan_band
from emeg.dsp.standardise import standardise

SIZES, SECONDS, RATE, ROUNDS = (64, 306), 600, 1000.0, 3
DATA = Path("../shared/data")
EDGE_S, EDGE_HZ = 20, 2.0


def cpu_seconds(sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median CPU seconds of each side; the sides alternate."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, work in sides.items():
            began = time.process_time()
            work()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def mne_way(raw: mne.io.BaseRaw, band: Band, npad: str | int) -> mne.io.BaseRaw:
    """Apply MNE's notch filter, resampling and band-pass filter one after the other."""
    if band.notches:
        raw.notch_filter(band.notches, picks="all", verbose="ERROR")
    raw.resample(256.0, npad=npad, method="fft", verbose="ERROR")
    return raw.filter(band.low, band.high, picks="all", verbose="ERROR")


def speed(channels: int) -> dict[str, float]:
    """Return the CPU seconds of the kernel and of MNE with both settings, for one number of channels."""
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.standard_normal((channels, round(SECONDS * RATE)), np.float32), axis=1) * np.float32(1e-7)
    info = mne.create_info(channels, RATE, "eeg")
    band = plan_band(sfreq=RATE, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=50.0)

    def theirs(npad: str | int) -> object:
        return mne_way(mne.io.RawArray(signal.astype(np.float64), info, verbose="ERROR"), band, npad)

    return cpu_seconds(
        {
            "ours": lambda: standardise(signal, band, sfreq_in=RATE, sfreq_out=256.0),
            "default": lambda: theirs("auto"),
            "npad0": lambda: theirs(0),
        }
    )


def in_band(signal: np.ndarray, band: Band) -> np.ndarray:
    """Return the spectrum of the inner part in the pass band, without frequencies near notches."""
    inner = signal[:, EDGE_S * 256 : -EDGE_S * 256]
    spectrum = np.fft.rfft(inner * np.hanning(inner.shape[1]), axis=1)
    rates = np.fft.rfftfreq(inner.shape[1], 1 / 256)
    kept = (rates >= band.low) & (rates <= band.high)
    for notch in band.notches:
        kept &= np.abs(rates - notch) > EDGE_HZ
    return spectrum[:, kept]


def worst_correlation() -> tuple[float, int]:
    """Return the smallest correlation of any channel that has a signal, and the number of files compared."""
    worst, n_files = 1.0, 0
    files = [path for kind in ("*.edf", "*.bdf", "*.vhdr", "*.set", "*.fif") for path in DATA.rglob(kind)]
    for path in sorted(files):
        if "broken" in path.parts:
            continue
        raw = mne.io.read_raw(path, verbose="ERROR")
        if raw.times[-1] < 60.0 or not len(mne.pick_types(raw.info, meg=True, eeg=True, exclude=())):
            continue
        raw.pick(mne.pick_types(raw.info, meg=True, eeg=True, exclude=())).load_data(verbose="ERROR")
        sfreq = float(raw.info["sfreq"])
        lowpass = float(raw.info["lowpass"])
        band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=lowpass, mains=50.0)
        source = raw.get_data()
        ours = standardise(source.astype(np.float32), band, sfreq_in=sfreq, sfreq_out=256.0)
        a = in_band(ours, band)
        b = in_band(mne_way(raw, band, 0).get_data(), band)
        live = np.ptp(source, axis=1) > 0
        product = np.real(np.sum(a * b.conj(), axis=1))[live]
        norm = np.linalg.norm(a, axis=1)[live] * np.linalg.norm(b, axis=1)[live]
        worst, n_files = min(worst, float((product / norm).min())), n_files + 1
    return worst, n_files


def shift() -> float:
    """Return the largest distance of a click's peak from its true position over several rates, in samples of 256 Hz."""
    largest = 0.0
    for rate in (250.0, 300.3, 512.0, 1000.0, 1017.25, 2048.0):
        band = plan_band(sfreq=rate, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=0.0)
        signal = np.zeros((1, round(rate * 90)), np.float32)
        click = round(rate * 41.3)
        signal[0, click] = 1.0
        out = standardise(signal, band, sfreq_in=rate, sfreq_out=256.0)[0]
        peak = int(np.argmax(out))
        # position of the peak between samples, by a parabola through three of them
        before, top, after = out[peak - 1 : peak + 2]
        place = peak + 0.5 * (before - after) / (before - 2 * top + after)
        largest = max(largest, abs(float(place) - click / rate * 256.0))
    return largest


def main() -> None:
    """Measure, and print the result as one JSON object."""
    figures: dict[str, float] = {}
    with threadpool_limits(1):
        times = {channels: speed(channels) for channels in SIZES}
        figures["ratio"] = round(min(t["default"] / t["ours"] for t in times.values()), 2)
        figures["ratio_npad0"] = round(min(t["npad0"] / t["ours"] for t in times.values()), 2)
        for channels, t in times.items():
            figures |= {f"cpu_s_{name}_{channels}": round(value, 2) for name, value in t.items()}
        figures["shift_samples"] = round(shift(), 4)
        if DATA.is_dir():
            worst, n_files = worst_correlation()
            figures |= {"correlation_min": round(worst, 7), "n_files": n_files} | latencies(DATA)
        else:
            print(f"{DATA} is absent: correlation_min is not measured", file=sys.stderr)
    print(json.dumps({"benchmark": "standardise", **figures}))


if __name__ == "__main__":
    main()
