"""Windows of simulated tasks, as split rules read them."""

from types import SimpleNamespace

import numpy as np


def table(rows, *, n_samples=256, targets=None):
    """Build windows from (subject, session, device, recording, start in s, label)."""
    subjects, sessions, devices, recordings, starts, labels = zip(*rows, strict=True)
    return SimpleNamespace(
        subjects=np.array(subjects),
        sessions=np.array(sessions),
        devices=np.array(devices),
        recordings=np.array(recordings),
        sources=np.array([f"{r}.edf" for r in recordings]),
        starts=(np.array(starts) * 256).astype(np.int64),
        labels=np.array(labels, np.int64),
        targets=None if targets is None else np.array(targets, float),
        n_samples=n_samples,
        sfreq=256.0,
    )


def people(n, *, diagnosis=False, n_windows=8, sessions=("",), devices=("x",)):
    """Every person has windows of one second in each session and device; with a diagnosis one label a person."""
    return table(
        [
            (f"d/{p:02d}", s, d, f"r{p:02d}{s}{d}", k, p % 2 if diagnosis else k % 2)
            for p in range(n)
            for s in sessions
            for d in devices
            for k in range(n_windows)
        ]
    )


def sides_of(windows, row, side):
    return set(windows.subjects[row == side].tolist())
