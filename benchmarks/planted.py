"""Plant four truths in simulated archives, and let gates and probes say which archive holds which.

``real``: the class changes a rhythm of every subject in the same way. ``subject``: classes are groups of subjects who
differ from each other only as any two subjects do. ``aperiodic``: the class changes the slope of the spectrum and
nothing else. ``none``: the class changes nothing.

An archive has 24 subjects with 40 windows of 2 s, 16 channels, 128 Hz. Each subject has a head, rhythms, gains and a
slope of their own. Features are log powers of bands; folds are by subject.

The rules were written before any archive was judged. A score is above chance if the one-sided t-test over subjects
against 0.5 has p < 0.001 and the mean is at least 0.55.

1. ``real``: the task is above chance, with permuted labels it is not; it is above chance without the aperiodic part,
   and after erasure of the subject.
2. ``aperiodic``: the task is above chance, with permuted labels it is not; it is above chance from the aperiodic part
   alone, and not without it.
3. ``subject``: the task is not above chance on unseen subjects, but is on later windows of known ones; the subject is
   told at five times its chance.
4. ``none``: the task is above chance neither on unseen nor on known subjects.

Anything else is ``undecided``. The last line is one JSON object: for each truth, how many seeds got its name.

An archive takes about 5 CPU seconds. Each verdict is written as it is reached (``--state``), so that a second call
judges what is missing; remove the file to judge everything again.
"""

import argparse
import json
import multiprocessing
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from emeg.data.tasks.folds import subject_folds
from emeg.evaluation.probes import Probed, run_probes
from emeg.evaluation.probes.run import Featurize, Rows, TaskScore
from emeg.evaluation.protocol.interfaces import Channel, Windows
from emeg.evaluation.rivals.spectral_features import BandPower
from emeg.sensors import SensorType

TRUTHS = ("real", "subject", "aperiodic", "none")
SFREQ = 128.0
N_SUBJECTS, N_WINDOWS, N_CHANNELS, N_SOURCES, N_SAMPLES = 24, 40, 16, 6, 256
N_FOLDS = 6
LEVEL, LEAST = 0.001, 0.55
IDENTITY = 5.0
RHYTHM = 0.3
"""Amplitude of alpha; background sources have about 0.25 (rms) with a slope of 1.1."""
SENSOR_NOISE = 0.002
Generator = np.random.Generator
FREQS = np.fft.rfftfreq(N_SAMPLES, 1 / SFREQ)


SCORES = (
    "intact",
    "permuted",
    "erased",
    "known_subjects",
    "without_aperiodic",
    "aperiodic_only",
    "subject",
    "subject_after_erasure",
)
"""Scores behind a verdict."""


class Judged(NamedTuple):
    """Verdict on one archive."""

    truth: str
    seed: int
    named: str
    """Truth that the rules find."""
    scores: dict[str, float | None]
    """`SCORES`."""
    cpu_s: float


class Person(NamedTuple):
    """Traits of a subject."""

    mixing: NDArray[np.float64]
    """Shape (channels, sources)."""
    alpha_hz: float
    alpha: NDArray[np.float64]
    """Strength of alpha in each source."""
    exponent: float


def draw_person(rng: Generator, common: NDArray[np.float64]) -> Person:
    """Return a subject who differs from others as people do."""
    mixing = (common + 0.3 * rng.normal(size=common.shape)) * rng.lognormal(0, 0.6, (N_CHANNELS, 1))
    alpha = 0.8 * rng.lognormal(0, 0.3, N_SOURCES)
    return Person(mixing, rng.uniform(9, 11), alpha, rng.normal(1.1, 0.15))


def draw_window(rng: Generator, person: Person, truth: str, label: int) -> NDArray[np.float64]:
    """Return one window, shape (channels, samples), V."""
    exponent = person.exponent + (0.2 * label if truth == "aperiodic" else 0.0)
    # slopes turn about the rhythm, so that its height above the background stays
    size = np.where(FREQS > 0, (np.maximum(FREQS, 0.5) / person.alpha_hz) ** (-exponent / 2), 0.0)
    phases = rng.normal(size=(N_SOURCES, len(FREQS))) + 1j * rng.normal(size=(N_SOURCES, len(FREQS)))
    sources = np.fft.irfft(size * phases, N_SAMPLES)
    strength = person.alpha * rng.lognormal(0, 0.2, N_SOURCES)
    if truth == "real":
        strength[label] *= 4.0
    time_s = np.arange(N_SAMPLES) / SFREQ
    phase = rng.uniform(0, 2 * np.pi, (N_SOURCES, 1))
    sources += RHYTHM * strength[:, None] * np.sin(2 * np.pi * person.alpha_hz * time_s + phase)
    noise = SENSOR_NOISE * rng.normal(size=(N_CHANNELS, N_SAMPLES))
    return np.asarray(1e-5 * (person.mixing @ sources + noise))


def make_windows(truth: str, seed: int) -> Windows:
    """Return the windows of an archive."""
    rng = np.random.default_rng([seed, TRUTHS.index(truth)])
    common = rng.normal(size=(N_CHANNELS, N_SOURCES))
    groups = rng.permutation(np.arange(N_SUBJECTS) % 2)
    signals, labels = [], []
    for subject in range(N_SUBJECTS):
        person = draw_person(rng, common)
        own = np.full(N_WINDOWS, groups[subject]) if truth == "subject" else rng.permutation(np.arange(N_WINDOWS) % 2)
        labels += own.tolist()
        signals += [draw_window(rng, person, truth, int(label)) for label in own]
    names = np.repeat([f"planted/{k:02d}" for k in range(N_SUBJECTS)], N_WINDOWS)
    same = np.full(len(names), "")
    return Windows(
        signal_BCN=np.array(signals, np.float32),
        features_BD=None,
        labels=np.array(labels, np.int64),
        subjects=names,
        sessions=same,
        datasets=np.full(len(names), "planted"),
        devices=np.full(len(names), "cap16"),
        recordings=names,
        starts=np.tile(np.arange(N_WINDOWS) * N_SAMPLES, N_SUBJECTS),
        channels=tuple(Channel(f"E{k}", SensorType.EEG, (0.0, 0.0, 0.09)) for k in range(N_CHANNELS)),
        sfreq=SFREQ,
    )


def featurize(windows: Windows) -> Featurize:
    """Return a function that computes log powers of bands."""

    def compute(signal_BCN: NDArray[np.float32], picks: NDArray[np.intp]) -> NDArray[np.float64]:
        return BandPower(windows.sfreq, (0,) * len(picks)).transform(signal_BCN)

    return compute


def subject_folds_of(windows: Windows) -> list[Rows]:
    """Return folds by subject as indices of windows."""
    folds = subject_folds(windows.labels, windows.subjects, N_FOLDS, 0)
    return [fold.map(lambda names: np.flatnonzero(np.isin(windows.subjects, names))) for fold in folds]


def is_above(score: TaskScore) -> bool:
    """Return whether a score is above chance by the rule."""
    values = np.array(list(score.subjects.values())) - 0.5
    if not len(values) or values.mean() < LEAST - 0.5:
        return False
    if np.ptp(values) == 0:
        return True
    return bool(ttest_1samp(values, 0.0, alternative="greater").pvalue < LEVEL)


def verdict(probed: Probed) -> str:
    """Return the truth that the rules find."""
    passes = is_above(probed.intact) and not is_above(probed.permuted)
    without, alone = (is_above(probed.conditions[name]) for name in ("without_aperiodic", "aperiodic_only"))
    identity = probed.identity["subject"]
    if passes and without and is_above(probed.erased):
        return "real"
    if passes and alone and not without:
        return "aperiodic"
    if not is_above(probed.intact) and is_above(probed.known_subjects):
        told = identity.accuracy is not None and identity.chance is not None
        return "subject" if told and (identity.accuracy or 0) > IDENTITY * (identity.chance or 0) else "undecided"
    if not is_above(probed.intact) and not is_above(probed.known_subjects):
        return "none"
    return "undecided"


def judge(truth: str, seed: int) -> Judged:
    """Make an archive, probe it, and return the verdict and the scores behind it."""
    begin = time.process_time()
    windows = make_windows(truth, seed)
    probed = run_probes(
        windows,
        featurize(windows),
        subject_folds_of(windows),
        conditions=("without_aperiodic", "aperiodic_only"),
        seed=seed,
    )
    values = (
        probed.intact.mean,
        probed.permuted.mean,
        probed.erased.mean,
        probed.known_subjects.mean,
        probed.conditions["without_aperiodic"].mean,
        probed.conditions["aperiodic_only"].mean,
        probed.identity["subject"].accuracy,
        probed.subject_after_erasure.accuracy,
    )
    scores = dict(zip(SCORES, values, strict=True))
    return Judged(truth, seed, verdict(probed), scores, round(time.process_time() - begin, 2))


def read_state(path: Path) -> dict[tuple[str, int], Judged]:
    """Return the verdicts of an earlier call; a line that was cut off counts as missing."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["truth"], row["seed"]] = Judged(**row)
    return found


def judge_missing(wanted: list[tuple[str, int]], path: Path, processes: int) -> dict[tuple[str, int], Judged]:
    """Judge the archives without a verdict, write each verdict as it is reached, and return all of them."""
    found = read_state(path)
    todo = [one for one in wanted if one not in found]
    if not todo:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with path.open("a") as file, ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = [pool.submit(judge, truth, seed) for truth, seed in todo]
        for future in as_completed(futures):
            judged = future.result()
            found[judged.truth, judged.seed] = judged
            file.write(json.dumps(judged._asdict()) + "\n")
            file.flush()
            print(f"{len(found)} of {len(wanted)}: {judged.truth} {judged.seed} is {judged.named}", flush=True)
    return found


def main() -> None:
    """Judge archives of each truth, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--state", type=Path, default=Path("work/planted.jsonl"), help="file with the verdicts so far")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    wanted = [(truth, seed) for truth in TRUTHS for seed in seeds]
    found = judge_missing(wanted, given.state, given.processes)
    own = {truth: [found[truth, seed] for seed in seeds] for truth in TRUTHS}
    named = {truth: Counter(one.named for one in every) for truth, every in own.items()}
    result = {
        "right": {truth: named[truth][truth] for truth in TRUTHS},
        "seeds": given.seeds,
        "first_seed": given.first_seed,
        "wrong": {truth: dict(counts) for truth, counts in named.items() if counts[truth] < given.seeds},
        "mean_scores": {
            truth: {name: round(float(np.mean([one.scores[name] or 0.0 for one in every])), 3) for name in SCORES}
            for truth, every in own.items()
        },
        "cpu_s": round(sum(one.cpu_s for every in own.values() for one in every), 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
