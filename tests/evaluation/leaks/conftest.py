"""A small evaluation without a leak: four subjects, one recording each, three folds by subject."""

from dataclasses import replace

import numpy as np
import pytest

from emeg.evaluation.leaks import FitRecord, Setup
from emeg.evaluation.leaks.setup import Sides


@pytest.fixture
def setup() -> Setup:
    """Return 4 subjects with 6 windows of 10 samples each, apart by 10 samples; classes alternate in no fixed order."""
    generator = np.random.default_rng(0)
    subjects = np.repeat(["d/a", "d/b", "d/c", "d/e"], 6)
    rows = np.arange(24).reshape(4, 6)
    empty = np.empty(0, np.int64)
    folds = tuple(
        Sides(np.sort(np.concatenate([rows[k % 4], rows[(k + 1) % 4]])), rows[(k + 2) % 4], rows[(k + 3) % 4], empty)
        for k in range(3)
    )
    return Setup(
        rule="cross_subject",
        folds=folds,
        labels=np.array([0, 1, 0, 1, 1, 0] * 2 + [1, 0, 1, 0, 0, 1] * 2),
        subjects=subjects,
        recordings=np.array([f"r{name[-1]}" for name in subjects]),
        starts=np.tile(np.arange(6) * 20, 4),
        n_samples=10,
        datasets=np.array(["d"] * 24),
        devices=np.array(["x"] * 24),
        layouts=np.array(["l"] * 24),
        signal_BCN=generator.normal(size=(24, 3, 10)).astype(np.float32),
        channel_names=("Fz", "Cz", "Pz"),
        fits=tuple(FitRecord("scaler", "preprocessing", k, fold.train) for k, fold in enumerate(folds)),
    )


@pytest.fixture
def moved(setup):
    """Return a function that changes sides of the first fold."""

    def change(**sides):
        return replace(setup, folds=(setup.folds[0]._replace(**sides), *setup.folds[1:]))

    return change
