import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from emeg.evaluation.rivals.frequency_tags import CcaFeatures, canonical_correlation, sines


def test_the_correlation_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(200, 4)), generator.normal(size=(200, 3))
    b[:, 0] += a[:, 1]
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    x, y = CCA(n_components=1, max_iter=5000, tol=1e-12).fit_transform(a, b)
    found = canonical_correlation(np.linalg.qr(a)[0], np.linalg.qr(b)[0])
    assert found == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1], abs=1e-6)


def test_the_frequency_of_each_class_is_found_in_the_training_windows(made):
    data = made("flicker")
    features = CcaFeatures(128.0).fit(data.signal, data.labels)
    assert features.freqs_ == pytest.approx((9.0, 13.5), abs=0.25)
    found = features.transform(data.signal)
    assert np.mean(found.argmax(axis=1) == data.labels) > 0.9


def test_harmonics_beyond_half_the_rate_are_left_out():
    basis = sines(30.0, 3, 256, 128.0)
    assert basis.shape == (256, 4)
    assert basis.T @ basis == pytest.approx(np.eye(4), abs=1e-9)
