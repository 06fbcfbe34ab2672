"""Plant leaks in set-ups of evaluations, and count those that the leak checks find, and false alarms without leaks.

A set-up has 8 to 20 subjects with one or two recordings of 20 to 40 windows, classes within subjects or by subject, and
a split by subjects or by time. A leak counts as found if the check that is meant for it fails; a clean set-up counts as
a false alarm if any check fails. Fitting procedures, with and without a leak, are tested as a black box.

The last line is one JSON object with ``found``, ``planted``, ``false_alarms`` and ``clean``.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from emeg.curation.fingerprints import fingerprint
from emeg.evaluation.leaks import FitRecord, Procedure, Setup, check_isolation, run_checks
from emeg.evaluation.leaks.isolation import Outcome
from emeg.evaluation.leaks.setup import Sides

SFREQ = 64.0
N_SAMPLES = 64
N_CHANNELS = 4
PENALTIES = (0.01, 1.0, 100.0)
N = 200
Generator = np.random.Generator


def pink(rng: Generator, *shape: int) -> NDArray[np.float32]:
    """Return 1/f noise with a standard deviation of 10 µV."""
    freqs = np.fft.rfftfreq(shape[-1], 1 / SFREQ)
    size = np.where(freqs > 0, np.maximum(freqs, 0.3) ** -0.5, 0.0)
    spectrum = size * (rng.normal(size=(*shape[:-1], len(freqs))) + 1j * rng.normal(size=(*shape[:-1], len(freqs))))
    made = np.fft.irfft(spectrum, shape[-1])
    return (1e-5 * made / made.std()).astype(np.float32)


def track(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the fingerprint of a recording."""
    return fingerprint([signal], sfreq=SFREQ)


def clean_setup(rng: Generator, *, rule: str = "", by_subject: bool | None = None, n_least: int = 8) -> Setup:
    """Return a set-up without a leak, of a kind drawn at random."""
    rule = rule or str(rng.choice(["cross_subject", "leave_one_subject_out", "within_subject_blocks", "few_shot"]))
    within = rule == "within_subject_blocks"
    by_subject = bool(rng.integers(2)) and not within and rule != "few_shot" if by_subject is None else by_subject
    n_subjects = int(rng.integers(n_least, 21))
    n_recordings = 1 if within else int(rng.integers(1, 3))
    n_windows = int(rng.integers(20, 41))
    columns: dict[str, list[Any]] = {name: [] for name in ("labels", "subjects", "recordings", "starts", "devices")}
    signals, tracks, owners = [], {}, {}
    classes = rng.permutation(np.arange(n_subjects) % 2)
    devices = rng.choice(["cap32", "cap64"], n_subjects)
    for person in range(n_subjects):
        for run in range(n_recordings):
            name = f"r{person:02d}{run}"
            whole = pink(rng, N_CHANNELS, (n_windows + 20) * N_SAMPLES)
            starts = np.sort(rng.choice(n_windows + 20, n_windows, replace=False)) * N_SAMPLES
            labels = np.full(n_windows, classes[person]) if by_subject else rng.permutation(np.arange(n_windows) % 2)
            signals += [whole[:, start : start + N_SAMPLES] for start in starts]
            columns["labels"] += labels.tolist()
            columns["subjects"] += [f"d/{person:02d}"] * n_windows
            columns["recordings"] += [name] * n_windows
            columns["starts"] += starts.tolist()
            columns["devices"] += [str(devices[person])] * n_windows
            tracks[name], owners[name] = track(whole), f"d/{person:02d}"
    arrays = {name: np.array(values) for name, values in columns.items()}
    order = rng.permutation(len(signals)) if rng.integers(2) else np.arange(len(signals))
    arrays = {name: values[order] for name, values in arrays.items()}
    folds = split(rng, rule, arrays)
    held_out = dict.fromkeys(np.unique(arrays["subjects"]).tolist(), "held_out")
    others = {f"p/{k:02d}": str(rng.choice(["train", "validation"])) for k in range(10)}
    return Setup(
        rule=rule,
        folds=folds,
        n_samples=N_SAMPLES,
        datasets=np.array(["d"] * len(order)),
        layouts=arrays["devices"],
        signal_BCN=np.stack(signals)[order],
        channel_names=tuple(f"E{k}" for k in range(N_CHANNELS)),
        fingerprints=tracks,
        owners=owners,
        pretraining={"corpus": held_out | others},
        pretraining_datasets={"imported": ("ds000117", "openneuro:ds004504", "sleep-edf")},
        dataset_ids={"d": "physionet-mi"},
        fits=tuple(FitRecord("scaler", "preprocessing", k, fold.train) for k, fold in enumerate(folds))
        + tuple(FitRecord("penalty", "setting", k, fold.validation) for k, fold in enumerate(folds)),
        **arrays,
    )


def split(rng: Generator, rule: str, arrays: dict[str, NDArray[Any]]) -> tuple[Sides, ...]:
    """Return three folds by a rule; those by time have a gap of one block."""
    subjects = rng.permutation(np.unique(arrays["subjects"]))
    empty = np.empty(0, np.int64)
    made = []
    for number in range(3):
        if rule == "within_subject_blocks":
            block = np.zeros(len(arrays["starts"]), int)
            for name in subjects:
                own = np.flatnonzero(arrays["subjects"] == name)
                block[own[np.argsort(arrays["starts"][own])]] = np.arange(len(own)) * 5 // len(own)
            sides = [np.flatnonzero(np.isin(block, part)) for part in ([0, 1, 2], [3], [4])]
            made.append(Sides(*sides, empty))
            continue
        rolled = np.roll(subjects, 2 * number)
        train, validation, test = (
            np.flatnonzero(np.isin(arrays["subjects"], part)) for part in (rolled[4:], rolled[2:4], rolled[:2])
        )
        shown = empty
        if rule == "few_shot":
            shown = np.sort(rng.choice(test, 6, replace=False))
            test = np.setdiff1d(test, shown)
        made.append(Sides(train, validation, test, shown))
    return tuple(made)


def with_fold(setup: Setup, number: int, **sides: NDArray[np.int64]) -> Setup:
    """Return the set-up with other sides in one fold."""
    folds = list(setup.folds)
    folds[number] = folds[number]._replace(**sides)
    return replace(setup, folds=tuple(folds))


def across(rng: Generator, *, by_subject: bool | None = None, n_least: int = 8) -> Setup:
    """Return a clean set-up split by subjects."""
    rule = str(rng.choice(["cross_subject", "leave_one_subject_out"]))
    return clean_setup(rng, rule=rule, by_subject=by_subject, n_least=n_least)


def same_window(rng: Generator) -> Setup:
    """Put one to five test windows into training as well."""
    setup = clean_setup(rng)
    k = int(rng.integers(3))
    moved = rng.choice(setup.folds[k].test, int(rng.integers(1, 6)), replace=False)
    return with_fold(setup, k, train=np.union1d(setup.folds[k].train, moved))


def overlap(rng: Generator) -> Setup:
    """Move a training window in a split by time so that it shares samples with a test window."""
    setup = clean_setup(rng, rule="within_subject_blocks")
    fold = setup.folds[0]
    a = int(rng.choice(fold.train))
    mates = fold.test[setup.recordings[fold.test] == setup.recordings[a]]
    starts = setup.starts.copy()
    starts[a] = starts[int(rng.choice(mates))] + int(rng.integers(1, N_SAMPLES)) * int(rng.choice([-1, 1]))
    return replace(setup, starts=starts)


def subject_twice(rng: Generator) -> Setup:
    """Leave some windows of a test subject in training or validation."""
    setup = across(rng)
    k, side = int(rng.integers(3)), str(rng.choice(["train", "validation"]))
    test = setup.folds[k].test
    own = test[setup.subjects[test] == rng.choice(setup.subjects[test])]
    moved = rng.choice(own, max(len(own) // int(rng.integers(2, 9)), 1), replace=False)
    rest = {"test": np.setdiff1d(test, moved), side: np.union1d(getattr(setup.folds[k], side), moved)}
    return with_fold(setup, k, **rest)


def family(rng: Generator) -> Setup:
    """Give a test subject and a training subject one group: a person of two datasets, or twins."""
    setup = across(rng)
    fold = setup.folds[int(rng.integers(3))]
    pair = [str(rng.choice(setup.subjects[rows])) for rows in (fold.test, fold.train)]
    return replace(setup, groups=dict.fromkeys(pair, "family 1"))


def renamed_copy(rng: Generator) -> Setup:
    """Give a training subject the recording of a test subject: rescaled, cut and with other channels in front."""
    setup = across(rng)
    fold = setup.folds[int(rng.integers(3))]
    a, b = (str(rng.choice(setup.recordings[rows])) for rows in (fold.test, fold.train))
    original = pink(rng, N_CHANNELS, 60 * N_SAMPLES)
    cut = int(rng.integers(1, 12)) * N_SAMPLES
    copy = original[rng.permutation(N_CHANNELS), cut:] * rng.uniform(0.3, 3.0, (N_CHANNELS, 1)).astype(np.float32)
    return replace(setup, fingerprints={**setup.fingerprints, a: track(original), b: track(copy)})


def copied_window(rng: Generator) -> Setup:
    """Copy the signal of a test window to a training window, rescaled and with a little noise."""
    setup = clean_setup(rng)
    fold = setup.folds[0]
    a, b = int(rng.choice(fold.train)), int(rng.choice(fold.test))
    signal = setup.signal_BCN.copy()
    noise = 0.05 * pink(rng, N_CHANNELS, N_SAMPLES)
    signal[a] = (signal[b] + noise) * np.float32(rng.uniform(0.2, 5.0))
    return replace(setup, signal_BCN=signal)


def fitted_everywhere(rng: Generator) -> Setup:
    """Fit preprocessing on the windows of all subjects, or of some test subjects."""
    setup = across(rng)
    k = int(rng.integers(3))
    fold = setup.folds[k]
    rows = np.arange(len(setup.labels)) if rng.integers(2) else np.union1d(fold.train, rng.choice(fold.test, 3))
    return replace(setup, fits=(*setup.fits, FitRecord("spatial filter", "preprocessing", k, rows)))


def chosen_on_test(rng: Generator) -> Setup:
    """Choose a setting on validation and test windows."""
    setup = across(rng)
    k = int(rng.integers(3))
    fold = setup.folds[k]
    record = FitRecord("learning rate", "setting", k, np.union1d(fold.validation, rng.choice(fold.test, 5)))
    return replace(setup, fits=(*setup.fits, record))


def pretrained_subject(rng: Generator) -> Setup:
    """Train the model on a test subject, under the same name or another name of the person."""
    setup = across(rng)
    subject = str(rng.choice(setup.subjects[setup.folds[0].test]))
    splits = dict(setup.pretraining["corpus"])
    groups = {}
    if rng.integers(2):
        splits[subject] = str(rng.choice(["train", "validation"]))
    else:
        groups = {subject: "one person", "p/03": "one person"}
    return replace(setup, pretraining={"corpus": splits}, groups=groups)


def declared_dataset(rng: Generator) -> Setup:
    """Import weights whose card declares the tested dataset, or one with the same subjects, in some spelling."""
    setup = clean_setup(rng)
    own, declared = [
        ("physionet-mi", "physionet-mi"),
        ("ds004504", "openneuro:ds004504@1.0.8"),
        ("ds003645", "DS000117"),  # the same subjects by the registry
        ("tuab", "https://isip.piconepress.com/projects/tuab"),
    ][int(rng.integers(4))]
    return replace(setup, dataset_ids={"d": own}, pretraining_datasets={"imported": ("sleep-edf", declared)})


def trigger_channel(rng: Generator) -> Setup:
    """Replace a channel by a trigger line that holds the class."""
    setup = clean_setup(rng)
    signal = setup.signal_BCN.copy()
    channel = int(rng.integers(N_CHANNELS))
    codes = rng.choice([1.0, 2.0, 5.0, 8.0, 40.0], 2, replace=False) * 10.0 ** rng.integers(-6, 1)
    signal[:, channel] = codes[setup.labels][:, None]
    signal[:, channel] += rng.normal(size=signal[:, channel].shape) * 1e-3 * np.abs(np.diff(codes))
    return replace(setup, signal_BCN=signal)


def device_by_class(rng: Generator) -> Setup:
    """Record the subjects of one class with another device."""
    setup = across(rng, by_subject=True, n_least=16)
    devices = np.array(["cap32", "cap64"])[setup.labels]
    return replace(setup, devices=devices, layouts=devices)


def split_blocks(rng: Generator) -> Setup:
    """Divide the blocks of a block design between training and test."""
    setup = clean_setup(rng, rule="within_subject_blocks")
    labels = setup.labels.copy()
    for name in np.unique(setup.recordings):
        own = np.flatnonzero(setup.recordings == name)
        labels[own[np.argsort(setup.starts[own])]] = (np.arange(len(own)) // int(rng.integers(4, 7))) % 2
    sides = rng.permuted(np.arange(len(labels)) % 5)
    parts = [np.flatnonzero(np.isin(sides, part)) for part in ([0, 1, 2], [3], [4])]
    return with_fold(replace(setup, labels=labels), 0, **dict(zip(("train", "validation", "test"), parts, strict=True)))


def fixed_order(rng: Generator) -> Setup:
    """Put all windows of one class before the other, in every recording."""
    setup = across(rng, by_subject=False)
    labels = setup.labels.copy()
    for name in np.unique(setup.recordings):
        own = np.flatnonzero(setup.recordings == name)
        labels[own[np.argsort(setup.starts[own])]] = np.arange(len(own)) >= len(own) // 2
    return replace(setup, labels=labels.astype(np.int64))


KINDS: dict[str, tuple[str, Callable[[Generator], Setup]]] = {
    "same window on two sides": ("windows_disjoint", same_window),
    "overlapping windows": ("windows_overlap", overlap),
    "subject on two sides": ("subjects_apart", subject_twice),
    "person or family under two names": ("people_apart", family),
    "copied recording under another name": ("recordings_copied", renamed_copy),
    "copied window": ("windows_copied", copied_window),
    "preprocessing fitted on test subjects": ("fitted_on_test", fitted_everywhere),
    "setting chosen on test subjects": ("chosen_on_test", chosen_on_test),
    "test subject in pretraining": ("pretraining_subjects", pretrained_subject),
    "test dataset declared by imported weights": ("pretraining_datasets", declared_dataset),
    "trigger channel": ("label_in_channel", trigger_channel),
    "device gives the class away": ("label_in_conditions", device_by_class),
    "blocks divided": ("blocks_apart", split_blocks),
    "fixed order of classes": ("label_in_order", fixed_order),
}
"""Kind of leak: the check that must find it, and what plants it."""
PROCEDURES = ("scaler on all windows", "setting on test labels", "scaled by the test batch", "test labels in training")


def procedure(kind: str, train: NDArray[Any], validation: NDArray[Any], test: NDArray[Any]) -> Procedure:
    """Return a fitting procedure with a leak of a kind, or without one for an empty text."""

    def run(features: NDArray[Any], labels: NDArray[Any]) -> Outcome:
        scaler = StandardScaler().fit(features if kind == PROCEDURES[0] else features[train])
        scaled = scaler.transform(features)
        if kind == PROCEDURES[2]:
            scaled[test] = StandardScaler().fit_transform(features[test])
        rows = np.union1d(train, test) if kind == PROCEDURES[3] else train
        judged = test if kind == PROCEDURES[1] else validation
        models = [LogisticRegression(C=c, max_iter=500).fit(scaled[rows], labels[rows]) for c in PENALTIES]
        probabilities = [model.predict_proba(scaled)[:, 1] for model in models]
        losses = [float(np.mean((p[judged] - labels[judged]) ** 2)) for p in probabilities]
        best = int(np.argmin(losses))
        # the loss is part of the setting's record, so that a choice by test labels shows whichever setting wins
        return Outcome(probabilities[best][test], f"C={PENALTIES[best]} at {losses[best]:.6f}")

    return run


def isolated(rng: Generator, kind: str) -> bool:
    """Return whether a fitting procedure passes the test as a black box."""
    labels = rng.permutation(np.arange(90) % 2)
    features = rng.normal(size=(90, 5)) + 0.5 * labels[:, None]
    train, validation, test = np.split(rng.permutation(90), [50, 70])
    return check_isolation(procedure(kind, train, validation, test), features, labels, test).passed


def main() -> None:
    """Plant, check, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, default=N, help="planted leaks, and clean set-ups")
    given = parser.parse_args()
    begin = time.process_time()
    kinds = [*KINDS, *PROCEDURES]
    found: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    for i in range(given.number):
        kind = kinds[i % len(kinds)]
        rng = np.random.default_rng([given.seed, 0, i])
        planted[kind] += 1
        if kind in KINDS:
            check, plant = KINDS[kind]
            failed = {one.name for one in run_checks(plant(rng)) if not one.passed}
            found[kind] += check in failed
        else:
            found[kind] += not isolated(rng, kind)
        rng = np.random.default_rng([given.seed, 1, i])
        if i % 8 == 7:
            alarms["isolation"] += not isolated(rng, "")
        else:
            alarms.update(one.name for one in run_checks(clean_setup(rng)) if not one.passed)
    alarms = +alarms
    result = {
        "found": sum(found.values()),
        "planted": given.number,
        "false_alarms": sum(alarms.values()),
        "clean": given.number,
        "kinds": len(kinds),
        "missed": {kind: planted[kind] - found[kind] for kind in kinds if planted[kind] > found[kind]},
        "alarms": dict(alarms),
        "seed": given.seed,
        "cpu_s": round(time.process_time() - begin, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
