"""Search for copies among 200 distinct recordings and 200 planted copies of them.

Distinct recordings: up to 40 of ``../shared/data`` (some from one device, some of the same subjects in two tasks) and
synthetic ones of 70 s. A synthetic recording has 1/f sources with bursts, mixed into 16 channels. Every ten share the
mixing, the alpha rhythm and the times of evoked responses, like one subject in one task.

Planted copies: one of each distinct recording, changed in one of seven ways in turn: rescaled per channel, resampled to
200 Hz, rounded to int16 as by another format, cut (38 s from 11.3 s on), with reordered channels, byte-identical, or
with all changes at once. Every recording passes through the standardising kernel, as in an ingest. Each of the 200 also
has a copy of 22 s with all changes (`found_short`, which does not count in the other figures).

``--seed N`` draws other synthetic recordings and changes, and assigns other changes to the real recordings. The
detection rules were chosen on seed 0.

* `found_share`: share of the planted pairs that were found;
* `false_pairs`: number of other pairs that were reported;
* `seconds`: CPU time of fingerprints and comparison;
* `growth`: CPU time of comparing 2,000 recordings of 5 min (noise in the fingerprint's band), divided by that of 200.
  Linear cost gives 10; comparing every pair gives 100.
"""

import argparse
import json
import time
from pathlib import Path

import mne
import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from emeg.curation.fingerprints import find_copies, fingerprint
from emeg.dsp.response import plan_band
from emeg.dsp.standardise import standardise

N, N_REAL, RATE, SECONDS, SHORT_S = 200, 40, 250, 70, 22.0
DATA = Path("../shared/data")
KINDS = ("identical", "rescaled", "resampled", "re-exported", "cut", "reordered", "all")

Signal = NDArray[np.float64]


def synthetic(number: int) -> Signal:
    """Create a synthetic recording; ten consecutive numbers share a subject and task, each seed has 1,000 numbers."""
    rng, person = (
        np.random.default_rng(number),
        np.random.default_rng((1000 + number // 10) if number < 1000 else [7, number // 10]),
    )
    n = SECONDS * RATE
    spectrum = np.fft.rfft(rng.standard_normal((8, n)), axis=1) / np.sqrt(np.maximum(np.arange(n // 2 + 1), 5))
    sources = np.fft.irfft(spectrum, n, axis=1)
    sources /= sources.std(axis=1, keepdims=True)
    time_s = np.arange(n) / RATE
    wax = np.convolve(rng.standard_normal(n), np.hanning(RATE), "same")
    sources[0] += 2.0 * np.sin(2 * np.pi * person.uniform(8, 12) * time_s + rng.uniform(0, 6)) * wax / wax.std()
    sources[1] += 1.5 * np.exp(-(((time_s % 1.5) - 0.3) ** 2) / 0.005)
    return 1e-5 * (person.standard_normal((16, 8)) @ sources + 0.3 * rng.standard_normal((16, n)))


def real() -> list[tuple[Signal, float]]:
    """Read up to 90 s of the EEG channels of real recordings of at least one minute; return signals and rates."""
    found: list[tuple[Signal, float]] = []
    for path in sorted(DATA.glob("*/sub-*/**/*_eeg.*")):
        if path.suffix not in {".edf", ".bdf", ".set", ".vhdr"} or len(found) == N_REAL:
            continue
        raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
        if raw.times[-1] >= 60:
            rate = float(raw.info["sfreq"])
            found.append((raw.get_data(picks="eeg", stop=round(90 * rate), verbose="ERROR"), rate))
    return found


def planted(signal: Signal, rate: float, kind: str, seed: int) -> tuple[Signal, float]:
    """Return a changed copy of a signal, and its sampling rate."""
    rng = np.random.default_rng(seed)
    copy = signal.copy()
    if kind in {"rescaled", "all", "short"}:
        copy *= 10.0 ** rng.uniform(-1, 1, (len(copy), 1))
    if kind in {"reordered", "all", "short"}:
        copy = copy[rng.permutation(len(copy))]
    if kind in {"cut", "all", "short"}:
        length = SHORT_S if kind == "short" else 38.0
        copy = copy[:, round(11.3 * rate) : round((11.3 + length) * rate)]
    if kind in {"resampled", "all", "short"}:
        copy, rate = resample_poly(copy, 4, 5, axis=1), rate * 0.8
    if kind in {"re-exported", "all", "short"}:
        step = np.abs(copy).max(axis=1, keepdims=True) / 32000
        copy = np.round(copy / step) * step
    return copy, rate


def track(signal: Signal, rate: float) -> NDArray[np.float32]:
    """Standardise a signal and compute its fingerprint."""
    band = plan_band(sfreq=rate, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=50.0)
    return fingerprint([standardise(signal.astype(np.float32), band, sfreq_in=rate, sfreq_out=256.0)], sfreq=256.0)


def growth() -> float:
    """Return the factor in CPU time for ten times as many recordings."""
    rng = np.random.default_rng(0)
    shape = np.hanning(7)
    tracks = [np.convolve(rng.standard_normal(300 * 16), shape, "same").astype(np.float32) for _ in range(2000)]
    seconds = []
    for n in (200, 2000):
        begin = time.process_time()
        find_copies({f"{i:04}": tracks[i] for i in range(n)})
        seconds.append(time.process_time() - begin)
    return seconds[1] / seconds[0]


def main() -> None:
    """Measure, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    sources = real()
    n_real = len(sources)
    sources += [(synthetic(1000 * seed + i), float(RATE)) for i in range(N - n_real)]
    begin = time.process_time()
    tracks = {f"{i:03}": track(*source) for i, source in enumerate(sources)}
    for i, (signal, rate) in enumerate(sources):
        kind = KINDS[(i + seed) % len(KINDS)]
        tracks[f"{i:03}-{kind}"] = track(*planted(signal, rate, kind, 1000 * seed + i))
        tracks[f"{i:03}-short"] = track(*planted(signal, rate, "short", 1000 * seed + i))
    compared = time.process_time()
    found = {(match.first, match.second): match for match in find_copies(tracks)}
    end = time.process_time()
    wanted = {(name[:3], name) for name in tracks if "-" in name and not name.endswith("-short")}
    short = {(name[:3], name) for name in tracks if name.endswith("-short")}
    false = [pair for pair in found if pair[0][:3] != pair[1][:3]]
    result: dict[str, object] = {
        "found_share": len(wanted & found.keys()) / len(wanted),
        "false_pairs": len(false),
        "seconds": round(end - begin, 1),
        "seconds_comparison": round(end - compared, 2),
        "growth": round(growth(), 1),
        "seed": seed,
        "n_planted": len(wanted),
        "n_real": n_real,
        "correlation_min": min((found[pair].correlation for pair in wanted & found.keys()), default=0.0),
        "correlation_false_max": max((found[pair].correlation for pair in false), default=0.0),
        "found_short": len(short & found.keys()) / len(short),
    }
    for kind in KINDS:
        mine = {pair for pair in wanted if pair[1].endswith(f"-{kind}")}
        result[f"found_{kind}"] = len(mine & found.keys()) / len(mine)
    result["false_example"] = " ".join(map(" = ".join, false[:3]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
