import numpy as np
import pytest

from emeg.evaluation.probes import probe_identity

N_SUBJECTS, N_WINDOWS = 8, 40


@pytest.fixture
def where():
    subjects = np.repeat([f"d/{k}" for k in range(N_SUBJECTS)], N_WINDOWS)
    starts = np.tile(np.arange(N_WINDOWS) * 100, N_SUBJECTS)
    return {"subjects": subjects, "recordings": subjects, "starts": starts}


def test_a_subject_in_the_features_is_found_and_noise_is_not(where):
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(N_SUBJECTS * N_WINDOWS, 12))
    offsets = np.repeat(generator.normal(size=(N_SUBJECTS, 12)), N_WINDOWS, axis=0)
    found = probe_identity("subject", noise + 2 * offsets, where["subjects"], **where)
    assert found.accuracy > 0.9
    assert found.chance == pytest.approx(1 / N_SUBJECTS)
    nothing = probe_identity("subject", noise, where["subjects"], **where)
    assert nothing.accuracy == pytest.approx(nothing.chance, abs=0.08)


def test_a_probe_for_subjects_is_tested_later_in_the_recording(where):
    # features that drift slowly are alike in neighbouring windows only
    drift = np.concatenate([np.linspace(0, 1, N_WINDOWS) + k % 2 for k in range(N_SUBJECTS)])[:, None]
    found = probe_identity("subject", drift, where["subjects"], **where)
    assert found.n_windows == N_SUBJECTS * (N_WINDOWS - N_WINDOWS // 2 - N_WINDOWS // 10)


def test_a_device_is_probed_on_subjects_that_are_new(where):
    generator = np.random.default_rng(0)
    subject = np.repeat(np.arange(N_SUBJECTS), N_WINDOWS)
    devices = np.where(subject % 2 == 0, "x", "y")
    # every subject is recognisable, but nothing is common to those of a device
    of_subject = np.eye(N_SUBJECTS)[subject] + 0.1 * generator.normal(size=(len(subject), N_SUBJECTS))
    assert probe_identity("device", of_subject, devices, **where).accuracy < 0.7
    of_device = of_subject + 3.0 * (subject % 2)[:, None]
    assert probe_identity("device", of_device, devices, **where).accuracy > 0.95


def test_what_does_not_vary_has_no_accuracy_and_a_reason(where):
    features = np.zeros((N_SUBJECTS * N_WINDOWS, 2))
    one = probe_identity("dataset", features, np.array(["d"] * len(features)), **where)
    assert one.accuracy is None
    assert "single value" in one.note
    devices = np.where(where["subjects"] == "d/0", "x", "y")
    assert "one subject" in probe_identity("device", features, devices, **where).note
