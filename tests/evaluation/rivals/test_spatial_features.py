import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.rivals.spatial_features import CspFeatures, TangentFeatures, XdawnFeatures, band_pass

TYPES = (0,) * 6


def test_a_pattern_of_csp_finds_the_channel_that_differs(made):
    data = made("rhythm")
    features = CspFeatures(128.0, TYPES, ((8.0, 12.0),), 2).fit(data.signal, data.labels)
    components, csp = features.fitted_[0]
    weights = np.abs(csp.filters_[:2] @ components.filters_)
    assert set(weights.argmax(axis=1).tolist()) == {0, 1}
    assert features.transform(data.signal).shape == (120, 2)


def test_csp_survives_an_average_reference_and_flat_channels(made):
    data = made("rhythm")
    poor = data.signal - data.signal.mean(axis=1, keepdims=True)
    poor[:, 5] = 0.0
    found = CspFeatures(128.0, TYPES, n_components=4).fit(poor, data.labels).transform(poor)
    assert np.isfinite(found).all()


def test_csp_of_one_class_is_refused(made):
    data = made("rhythm")
    with refusal(UserError, "CSP", action="folds"):
        CspFeatures(128.0, TYPES).fit(data.signal, np.zeros(120, int))


def test_tangent_features_are_those_of_each_band(made):
    pytest.importorskip("pyriemann")
    signal = made("rhythm").signal
    n_pairs = 6 * 7 // 2
    for bands, n_bands in (("classical", 5), ("broad", 1), ("narrow", 43)):
        found = TangentFeatures(128.0, TYPES, bands).fit(signal[:60]).transform(signal[60:])
        assert found.shape == (60, n_pairs * n_bands)


def test_xdawn_reduces_to_its_filters(made):
    pytest.importorskip("pyriemann")
    data = made("evoked")
    found = XdawnFeatures(128.0, TYPES, n_filters=2).fit(data.signal, data.labels).transform(data.signal)
    # per class: 2 filters, for the evoked response and for the window
    n = 2 * 2 * 2
    assert found.shape == (120, n * (n + 1) // 2)


def test_the_filter_keeps_its_band_without_delay():
    time = np.arange(512) / 128.0
    inside, outside = np.sin(2 * np.pi * 10 * time), np.sin(2 * np.pi * 40 * time)
    found = band_pass((inside + outside)[None, None], 128.0, (8.0, 12.0))[0, 0]
    assert found[128:384] == pytest.approx(inside[128:384], abs=0.03)
