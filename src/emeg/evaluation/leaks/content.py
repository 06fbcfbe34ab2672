"""Checks of content: windows on two sides, overlapping windows, copies, and fits on test windows.

Shape letters: B batch, C channels, N samples, D features.
"""

import numpy as np
from numpy.typing import NDArray

from emeg.curation.fingerprints import find_copies
from emeg.evaluation.leaks.setup import Setup

COPY_CORRELATION = 0.98
"""Mean correlation over channels from which two windows hold the same signal."""
N_PROJECTIONS = 64
"""Random projections by which pairs of windows are screened."""
SCREEN = 0.8
"""Cosine of projections from which a pair is compared in full."""


def windows_on_two_sides(setup: Setup) -> list[str]:
    """List windows, by recording and first sample, that are on two sides of a fold."""
    found = []
    names, keys = _keys(setup)
    for number, fold in enumerate(setup.folds):
        for one, other, first, second in fold.pairs():
            shared = np.intersect1d(keys[first], keys[second])
            found += [
                f"fold {number + 1}: window at sample {key % _span(setup)} of {names[key // _span(setup)]} in {one} and"
                f" {other}"
                for key in shared.tolist()
            ]
    return found


def overlapping_windows(setup: Setup) -> list[str]:
    """List windows of different sides of a fold that share samples of a recording."""
    found = []
    _, keys = _keys(setup)
    for number, fold in enumerate(setup.folds):
        for one, other, first, second in fold.pairs():
            if not len(first) or not len(second):
                continue
            there = second[np.argsort(keys[second], kind="stable")]
            position = np.searchsorted(keys[there], keys[first])
            for step in (-1, 0, 1):
                near = np.clip(position + step, 0, len(there) - 1)
                distance = np.abs(keys[there[near]] - keys[first])
                is_near = (near == position + step) & (distance > 0) & (distance < setup.n_samples)
                found += [
                    f"fold {number + 1}: samples {setup.starts[i]} and {setup.starts[k]} of {setup.recordings[i]},"
                    f" windows of {setup.n_samples}, in {one} and {other}"
                    for i, k in zip(first[is_near].tolist(), there[near[is_near]].tolist(), strict=True)
                ]
    return found


def _span(setup: Setup) -> int:
    """Return a number of samples that is larger than any recording and a window together."""
    return int(setup.starts.max(initial=0)) + 2 * setup.n_samples


def _keys(setup: Setup) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the recordings, and for each window an integer: index of its recording · span + start.

    Windows of different recordings are at least two windows apart.
    """
    names, index = np.unique(setup.recordings, return_inverse=True)
    return names.tolist(), index.astype(np.int64) * _span(setup) + setup.starts


def copied_recordings(setup: Setup) -> list[str]:
    """List recordings with the same data on two sides, and tested recordings whose data the model was trained on."""
    if not setup.fingerprints:
        return []
    pairs = [(match.first, match.second) for match in find_copies(setup.fingerprints)]
    found = []
    for number, fold in enumerate(setup.folds):
        for one, other, first, second in fold.pairs():
            here, there = (set(setup.recordings[rows].tolist()) for rows in (first, second))
            for a, b in pairs:
                if (a in here and b in there) or (b in here and a in there):
                    found.append(f"fold {number + 1}: {_named(setup, a)} = {_named(setup, b)} in {one} and {other}")
    seen = {name for splits in setup.pretraining.values() for name, split in splits.items() if split != "held_out"}
    tested = set(setup.recordings[setup.tested].tolist())
    for a, b in pairs:
        for own, twin in ((a, b), (b, a)):
            if own in tested and twin not in tested and setup.owners.get(twin) in seen:
                found.append(f"{_named(setup, own)} = {_named(setup, twin)}, which the model was trained on")
    return found


def copied_windows(setup: Setup) -> list[str]:
    """List windows of different sides whose signals are the same up to the scale of each channel."""
    if setup.signal_BCN is None or not len(setup.signal_BCN):
        return []
    scaled = _scaled(setup.signal_BCN)
    generator = np.random.default_rng(0)
    projections = generator.standard_normal((scaled.shape[1], N_PROJECTIONS)).astype(np.float32)
    screened = scaled @ projections
    screened /= np.maximum(np.linalg.norm(screened, axis=1, keepdims=True), 1e-30)
    found: list[str] = []
    known: dict[tuple[int, int], bool] = {}
    for number, fold in enumerate(setup.folds):
        for one, other, first, second in fold.pairs():
            near = np.argwhere(screened[first] @ screened[second].T > SCREEN)
            for a, b in ((int(first[i]), int(second[j])) for i, j in near):
                if setup.recordings[a] == setup.recordings[b] and setup.starts[a] == setup.starts[b]:
                    continue
                if (a, b) not in known:
                    known[a, b] = bool(scaled[a] @ scaled[b] > COPY_CORRELATION)
                if known[a, b]:
                    found.append(
                        f"fold {number + 1}: sample {setup.starts[a]} of {setup.recordings[a]} and sample"
                        f" {setup.starts[b]} of {setup.recordings[b]} in {one} and {other}"
                    )
    return found


def fitted_on_test(setup: Setup) -> list[str]:
    """List preprocessing and models that were fitted on windows of a fold's test or validation side."""
    return _seen_by(setup, ("preprocessing", "model"))


def chosen_on_test(setup: Setup) -> list[str]:
    """List settings that were chosen on windows of a fold's test side."""
    return _seen_by(setup, ("setting",))


def _seen_by(setup: Setup, purposes: tuple[str, ...]) -> list[str]:
    found = []
    for record in setup.fits:
        if record.purpose not in purposes:
            continue
        fold = setup.folds[record.fold]
        closed = (
            {"test": fold.test} if record.purpose == "setting" else {"test": fold.test, "validation": fold.validation}
        )
        for side, rows in closed.items():
            seen = np.intersect1d(record.rows, rows)
            people = sorted(set(setup.subjects[seen].tolist()))
            if len(seen):
                found.append(
                    f"fold {record.fold + 1}: {record.what} used {len(seen)} {side} windows of {', '.join(people[:3])}"
                )
        if not setup.may_share_subjects:
            rest = np.setdiff1d(record.rows, np.concatenate([fold.test, fold.shown]))
            people = sorted(set(setup.subjects[rest].tolist()) & set(setup.subjects[fold.test].tolist()))
            if people:
                found.append(f"fold {record.fold + 1}: {record.what} used other windows of {', '.join(people[:3])}")
    return found


def _scaled(signal_BCN: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return windows as unit vectors whose product is the mean correlation over channels."""
    centred_BCN = signal_BCN - signal_BCN.mean(axis=-1, keepdims=True)
    spread = np.linalg.norm(centred_BCN, axis=-1, keepdims=True)
    unit_BCN = np.divide(centred_BCN, spread, out=np.zeros_like(centred_BCN), where=spread > 0)
    n_live = np.maximum((spread[..., 0] > 0).sum(axis=1), 1)
    scaled = unit_BCN.reshape(len(signal_BCN), -1) / np.sqrt(n_live)[:, None]
    return np.asarray(scaled, np.float32)


def _named(setup: Setup, recording: str) -> str:
    owner = setup.owners.get(recording, "")
    return f"{recording} ({owner})" if owner else recording
