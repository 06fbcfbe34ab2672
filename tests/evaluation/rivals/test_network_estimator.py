import numpy as np
import pytest
import torch
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.rivals.network_estimator import NetworkEstimator
from emeg.evaluation.rivals.networks import ScratchBuilder


def estimator(**options):
    given = {"sfreq": 128.0, "sensor_types": (0,) * 6, "n_classes": 2, "steps": 12, "seed": 3}
    return NetworkEstimator(ScratchBuilder("shallow", 0.5), **given | options)


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_generator_alone(made):
    data = made("rhythm")
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = estimator().fit(data.signal, data.labels).predict_proba(data.signal)
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(estimator().fit(data.signal, data.labels).predict_proba(data.signal), first)
    assert not np.array_equal(estimator(seed=4).fit(data.signal, data.labels).predict_proba(data.signal), first)


def test_units_of_a_sensor_type_do_not_matter(made):
    data = made("rhythm")
    types = (0, 0, 0, 1, 1, 1)
    scaled = data.signal.astype(np.float64)
    scaled[:, 3:] *= 1e-7
    a = estimator(sensor_types=types).fit(data.signal, data.labels).predict_proba(data.signal)
    b = estimator(sensor_types=types).fit(scaled, data.labels).predict_proba(scaled)
    assert b == pytest.approx(a, abs=1e-3)


def test_windows_of_another_rate_are_resampled(made):
    data = made("rhythm")
    twice = np.repeat(data.signal, 2, axis=-1)
    found = estimator(sfreq=256.0, steps=4).fit(twice, data.labels)
    assert found._input(twice[:2]).shape == (2, 6, 256)


def test_a_published_unit_is_used_as_it_is(made):
    data = made("rhythm")
    found = estimator(scale=1e-6, steps=4).fit(data.signal, data.labels)
    assert found._input(data.signal[:1]).numpy() == pytest.approx(data.signal[:1] * 1e6, rel=1e-5)


def test_one_window_is_refused(made):
    with refusal(UserError, "1 training", action="folds"):
        estimator().fit(made("rhythm").signal[:1], np.array([0]))
