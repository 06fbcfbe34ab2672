"""The causal front end: independent of packet sizes and of future samples, and accurate in its pass band."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.errors import UserError
from emeg.inference.causal import CausalFilter, CausalResampler, causal_sections

SIGNAL = np.random.default_rng(0).normal(size=(2, 1200))


def in_chunks(step, cuts):
    edges = [0, *sorted(cuts), SIGNAL.shape[1]]
    return np.concatenate([step(SIGNAL[:, a:b]) for a, b in itertools.pairwise(edges)], axis=1)


@given(cuts=st.sets(st.integers(1, 1199), max_size=20), sfreq=st.sampled_from([250.0, 256.0, 300.3, 512.0, 1000.0]))
@settings(max_examples=40, deadline=None)
def test_chunks_give_what_the_whole_gives(cuts, sfreq):
    def front():
        filtering, resampling = CausalFilter(causal_sections(sfreq, 50.0)), CausalResampler(sfreq)
        return lambda x: resampling.push(filtering.push(x))

    whole, parts = front()(SIGNAL), in_chunks(front(), cuts)
    assert whole.shape == parts.shape
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sfreq", [250.0, 512.0, 300.3])
def test_the_future_changes_nothing(sfreq):
    resampler = CausalResampler(sfreq)
    early = resampler.push(SIGNAL[:, :600])
    other = SIGNAL.copy()
    other[:, 600:] = 9.0
    assert np.array_equal(CausalResampler(sfreq).push(other)[:, : early.shape[1]], early)
    assert early.shape[1] >= int((600 / sfreq - resampler.lookahead_s) * 256) - 1


@pytest.mark.parametrize("sfreq", [250.0, 300.3, 1000.0])
@pytest.mark.parametrize("rate", [3.0, 20.0, 60.0])
def test_resampling_keeps_a_sine_where_it_is(sfreq, rate):
    times = np.arange(4000) / sfreq
    out = CausalResampler(sfreq).push(np.sin(2 * np.pi * rate * times)[None])[0]
    expected = np.sin(2 * np.pi * rate * np.arange(len(out)) / 256.0)
    np.testing.assert_allclose(out[50:], expected[50:], atol=5e-3)


def test_pass_band_is_kept_mains_and_offset_are_not():
    sfreq = 1000.0
    times = np.arange(40_000) / sfreq

    def gain(rate):
        out = CausalFilter(causal_sections(sfreq, 50.0)).push(np.cos(2 * np.pi * rate * times)[None])[0, 30_000:]
        return np.sqrt(2) * out.std()

    for rate in (1.0, 10.0, 40.0, 70.0):
        assert gain(rate) == pytest.approx(1.0, abs=0.08)
    assert gain(50.0) < 0.02
    assert gain(200.0) < 0.02
    offset = CausalFilter(causal_sections(sfreq, 0.0)).push(np.full((1, 1000), 0.3))
    np.testing.assert_allclose(offset, 0.0, atol=1e-9)


def test_a_rate_too_low_is_refused():
    with refusal(UserError, "40 Hz", action="64 Hz"):
        causal_sections(40.0, 50.0)
