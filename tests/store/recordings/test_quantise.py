"""Rounding to int16 stays far below the signal, and the files are small."""

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import welch

from emeg.store.recordings.quantise import LARGEST, KeptBand, dequantise, noise_scale, quantisation_scales, quantise

SFREQ = 256.0
BAND = KeptBand(SFREQ, 0.1, 96.0)

signals = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.floats(-(2.0**96), 2.0**96, width=32, allow_nan=False, allow_infinity=False),
)


@settings(max_examples=300, deadline=None)
@given(signals, st.sampled_from([1.0, 2.0**-20, 2.0**-43, 2.0**-60]))
def test_error_is_at_most_half_a_step(signal: np.ndarray, unit: float) -> None:
    signal = (signal * np.float32(unit)).astype(np.float32)
    step = quantisation_scales(signal).scale
    codes = quantise(signal, step)
    stored = dequantise(codes, step[:, None], [0, signal.shape[1]])
    assert (step > 0).all()
    assert np.abs(codes.astype(int)).max() <= LARGEST
    assert np.array_equal(stored.astype(np.float64), codes.astype(np.float64) * step[:, None])
    assert (np.abs(signal.astype(np.float64) - stored) <= step[:, None].astype(np.float64) / 2).all()


@settings(max_examples=200, deadline=None)
@given(signals)
def test_what_is_stored_is_stored_exactly(signal: np.ndarray) -> None:
    step = quantisation_scales(signal).scale
    stored = dequantise(quantise(signal, step), step[:, None], [0, signal.shape[1]])
    assert np.array_equal(dequantise(quantise(stored, step), step[:, None], [0, signal.shape[1]]), stored)


def coloured_noise(slope: float, *, rms: float, n_channels: int = 4, n: int = 2560 * 6, seed: int = 0) -> np.ndarray:
    """Noise whose power falls with f**-slope from 0.5 to 96 Hz and is absent beyond, as after standardising."""
    frequencies = np.fft.rfftfreq(n, 1 / SFREQ)
    inside = (frequencies >= 0.5) & (frequencies <= 96)
    amplitude = np.zeros_like(frequencies)
    amplitude[inside] = frequencies[inside] ** (-slope / 2)
    rng = np.random.default_rng(seed)
    phases = rng.normal(size=(n_channels, len(frequencies))) + 1j * rng.normal(size=(n_channels, len(frequencies)))
    signal = np.fft.irfft(amplitude * phases, n, axis=1)
    return (signal * rms / signal.std()).astype(np.float32)


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("rms", [1e-5, 3.3e-13, 4.7e-12])
@pytest.mark.parametrize("artefact", [False, True])
def test_rounding_noise_is_20_db_under_every_bin(slope: float, rms: float, artefact: bool) -> None:
    signal = coloured_noise(slope, rms=rms)
    if artefact:  # a movement of thirty times the signal for a second
        signal[:, 3000:3256] += np.float32(30 * rms) * np.hanning(256).astype(np.float32)
    chunks = np.split(signal, 6, axis=1)
    steps = [quantisation_scales(chunk, BAND).scale for chunk in chunks]
    error = np.concatenate([quantise(c, s) * s[:, None] - c for c, s in zip(chunks, steps, strict=True)], axis=1)
    frequency, power = welch(signal.astype(np.float64), SFREQ, nperseg=256)
    _, noise = welch(error.astype(np.float64), SFREQ, nperseg=256)
    ratio_db = 10 * np.log10(power / noise)[:, (frequency >= 1) & (frequency <= 95)]
    assert ratio_db.min() > 20


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_an_artefact_does_not_coarsen_the_step(slope: float) -> None:
    signal = coloured_noise(slope, rms=1e-5, n=2560)
    jump = signal.copy()
    jump[:, 1000:1100] += 2e-4
    assert (quantisation_scales(jump, BAND).scale <= 2 * quantisation_scales(signal, BAND).scale).all()


def test_noise_scale_is_that_of_the_second_difference() -> None:
    white = np.random.default_rng(1).normal(0, 2e-6, size=(3, 100_000)).astype(np.float32)
    assert noise_scale(white) == pytest.approx(np.full(3, np.sqrt(6) * 2e-6), rel=0.02)


def test_step_follows_noise_where_the_peak_would_not_compress() -> None:
    signal = coloured_noise(1.0, rms=1e-5, n_channels=16, n=2560)
    by_noise = quantise(signal, quantisation_scales(signal, BAND).scale)
    by_peak = np.rint(signal / (np.abs(signal).max(axis=1, keepdims=True) / LARGEST)).astype(np.int16)
    codec = numcodecs.Blosc("zstd", 5, numcodecs.Blosc.SHUFFLE)
    assert len(codec.encode(by_noise)) < 0.8 * len(codec.encode(by_peak))


def test_silence_is_exact() -> None:
    step = quantisation_scales(np.zeros((2, 2560), np.float32)).scale
    assert (step > 0).all()
    assert not quantise(np.zeros((2, 2560), np.float32), step).any()


def test_the_step_is_no_finer_than_it_must_be() -> None:
    """Within the factor of two that a power of two costs, and the error of the estimate."""
    signal = coloured_noise(1.0, rms=1e-5, n=2560)
    step = 4 * quantisation_scales(signal, BAND).scale
    error = quantise(signal, step) * step[:, None] - signal
    frequency, power = welch(signal.astype(np.float64), SFREQ, nperseg=256, average="median")
    _, noise = welch(error.astype(np.float64), SFREQ, nperseg=256, average="median")
    assert (10 * np.log10(power / noise)[:, (frequency >= 1) & (frequency <= 95)].min(axis=1) < 20).all()


def test_a_notch_and_what_lies_beyond_the_band_do_not_count() -> None:
    signal = coloured_noise(0.0, rms=1e-5, n=2560)
    spectrum = np.fft.rfft(signal, axis=1)
    frequencies = np.fft.rfftfreq(2560, 1 / SFREQ)
    spectrum[:, (np.abs(frequencies - 50) < 1) | (frequencies > 60)] *= 1e-3
    holed = np.fft.irfft(spectrum, axis=1).astype(np.float32)
    told = quantisation_scales(holed, KeptBand(SFREQ, 0.1, 60.0, (50.0,))).scale
    assert (told >= 8 * quantisation_scales(holed, BAND).scale).all()


def test_where_sixteen_bits_do_not_span_peak_and_noise_the_peak_wins_with_a_note() -> None:
    signal = coloured_noise(0.0, rms=1e-9, n=2560)
    assert not quantisation_scales(signal, BAND).raised.any()
    signal[:2, 100] = 1e-2
    step, raised = quantisation_scales(signal, BAND)
    assert raised.tolist() == [True, True, False, False]
    assert np.abs(quantise(signal, step) * step[:, None] - signal).max() <= step.max() / 2
