from dataclasses import replace

import numpy as np

from emeg.evaluation.leaks import FitRecord
from emeg.evaluation.leaks.content import (
    chosen_on_test,
    copied_recordings,
    copied_windows,
    fitted_on_test,
    overlapping_windows,
    windows_on_two_sides,
)


def test_a_window_counts_by_recording_and_start_not_by_index(setup):
    recordings, starts = setup.recordings.copy(), setup.starts.copy()
    a, b = setup.folds[0].train[0], setup.folds[0].test[0]
    recordings[a], starts[a] = recordings[b], starts[b]
    found = windows_on_two_sides(replace(setup, recordings=recordings, starts=starts))
    assert found[0] == "fold 1: window at sample 0 of re in train and test"


def test_windows_overlap_if_they_share_a_sample(setup):
    within = replace(setup, rule="within_subject_blocks", recordings=np.array(["r"] * 24), starts=np.arange(24) * 10)
    assert overlapping_windows(within) == []
    starts = within.starts.copy()
    starts[setup.folds[0].test[0]] -= 1
    assert "samples" in overlapping_windows(replace(within, starts=starts))[0]


def test_a_window_with_the_same_signal_is_found_whatever_its_scale(setup):
    signal = setup.signal_BCN.copy()
    a, b = setup.folds[0].train[3], setup.folds[0].test[1]
    signal[a] = signal[b] * np.array([[2.0], [0.5], [7.0]], np.float32)
    assert copied_windows(setup) == []
    found = copied_windows(replace(setup, signal_BCN=signal))
    assert any(str(setup.recordings[a]) in text and str(setup.recordings[b]) in text for text in found)
    assert copied_windows(replace(setup, signal_BCN=None)) == []


def test_a_recording_that_the_model_was_trained_on_is_found_under_its_other_name(setup):
    generator = np.random.default_rng(0)
    tracks = {name: np.convolve(generator.normal(size=900), np.hanning(7), "same") for name in ("ra", "rb", "x")}
    tracks["y"] = tracks["rb"][100:700]
    tracks = {name: track.astype(np.float32) for name, track in tracks.items()}
    owners = {"x": "p/1", "y": "p/2", "ra": "d/a", "rb": "d/b"}
    held = replace(setup, fingerprints=tracks, owners=owners, pretraining={"c": {"p/1": "train", "p/2": "held_out"}})
    assert copied_recordings(held) == []
    seen = replace(held, pretraining={"c": {"p/2": "train"}})
    assert copied_recordings(seen) == ["rb (d/b) = y (p/2), which the model was trained on"]


def test_fits_may_use_training_windows_and_choices_validation_windows(setup):
    fold = setup.folds[1]
    fine = (FitRecord("c", "setting", 1, fold.validation), FitRecord("m", "model", 1, fold.train))
    assert fitted_on_test(replace(setup, fits=fine)) == chosen_on_test(replace(setup, fits=fine)) == []
    wrong = (FitRecord("c", "setting", 1, fold.test), FitRecord("pca", "preprocessing", 1, fold.validation))
    assert "fold 2: c used 6 test windows of d/a" in chosen_on_test(replace(setup, fits=wrong))[0]
    assert "pca used 6 validation windows" in fitted_on_test(replace(setup, fits=wrong))[0]
