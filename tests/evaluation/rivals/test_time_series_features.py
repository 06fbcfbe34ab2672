import numpy as np
import pytest

from emeg.evaluation.rivals.time_series_features import Catch22Features

pycatch22 = pytest.importorskip("pycatch22")


def test_the_features_are_those_of_the_library_and_one_for_the_size(made):
    signal = made("rhythm").signal[:3]
    found = Catch22Features().transform(signal).reshape(3, 6, 23)
    one = signal[1, 2].astype(float)
    assert found[1, 2, :22] == pytest.approx(pycatch22.catch22_all((one / one.std()).tolist())["values"])
    assert found[1, 2, 22] == pytest.approx(np.log(one.std()))


def test_many_channels_are_thinned_and_flat_ones_are_survived():
    signal = np.random.default_rng(0).normal(size=(2, 40, 128))
    signal[:, 0] = 0.0
    found = Catch22Features(max_channels=4).transform(signal)
    assert found.shape == (2, 4 * 23)
    assert np.isfinite(found).all()
