"""The kernel against MNE-Python on real files, against sums of sines, and in edge cases."""

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import freqz
from tests.messages import refusal

from emeg.dsp.response import Band, design, plan_band
from emeg.dsp.standardise import plan_block, rate_fraction, standardise
from emeg.errors import RecordingError

EDGE_S = 20


@pytest.mark.parametrize(
    ("path", "mains"),
    [
        ("arithmetic/sub-00/eeg/sub-00_task-rest_eeg.edf", 50.0),
        ("motor-imagery/sub-001/eeg/sub-001_task-imagery_run-04_eeg.edf", 60.0),
        ("ssvep/sub-01/eeg/sub-01_task-ssvep_eeg.vhdr", 50.0),
        ("devices/edf-bci2000-128hz/test_edf_overlapping_annotations.edf", 60.0),
    ],
)
def test_equals_mne_notch_filter_resample_without_padding(shared, path, mains):
    raw = mne.io.read_raw(shared / "data" / path, preload=True, verbose="ERROR")
    raw.pick(range(0, len(raw.ch_names), 8))
    sfreq = raw.info["sfreq"]
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=raw.info["lowpass"], mains=mains)
    ours = standardise(raw.get_data().astype(np.float32), band, sfreq_in=sfreq, sfreq_out=256.0)
    raw.notch_filter(band.notches, verbose="ERROR").filter(band.low, band.high, verbose="ERROR")
    if sfreq != 256.0:
        raw.resample(256.0, npad=0, verbose="ERROR")
    inner = slice(EDGE_S * 256, -EDGE_S * 256)
    theirs = raw.get_data()[:, inner]
    assert ours.shape == raw.get_data().shape
    assert np.linalg.norm(ours[:, inner] - theirs) < 2e-5 * np.linalg.norm(theirs)
    assert min(np.corrcoef(a, b)[0, 1] for a, b in zip(ours[:, inner], theirs, strict=True)) > 0.999


@pytest.mark.parametrize("sfreq", [128.0, 160.0, 250.0, 256.0, 300.3074951171875, 512.0, 1017.25, 1200.0, 2048.0])
def test_sines_in_the_band_keep_amplitude_and_time_at_any_rate(sfreq):
    rng = np.random.default_rng(0)
    frequencies = rng.uniform(0.5, 0.85 * min(sfreq / 2.0, 100.0), 12)
    phases = rng.uniform(0.0, 2.0 * np.pi, 12)

    def signal(rate, n):
        t = np.arange(n) / rate
        return np.sin(2.0 * np.pi * frequencies[:, None] * t + phases[:, None]).sum(axis=0)

    n = round(70.0 * sfreq)
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=0.0)
    ours = standardise(signal(sfreq, n)[None].astype(np.float32) * 1e-13, band, sfreq_in=sfreq, sfreq_out=256.0)[0]
    expected = signal(256.0, len(ours)) * 1e-13
    inner = slice(EDGE_S * 256, -EDGE_S * 256)
    # Half a sample of delay would be an error of half and more; the designs' pass-band ripple is 2 in 1,000.
    assert np.linalg.norm((ours - expected)[inner]) < 4e-3 * np.linalg.norm(expected[inner])
    assert len(ours) == round(n * 256.0 / sfreq)


def test_an_impulse_stays_at_its_time():
    sfreq, at = 1017.25, 40_000
    impulse = np.zeros((1, 80_000), np.float32)
    impulse[0, at] = 1.0
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=0.0)
    ours = standardise(impulse, band, sfreq_in=sfreq, sfreq_out=256.0)[0].astype(np.float64)
    k = np.arange(len(ours))
    near = np.abs(k - at / sfreq * 256.0) < 8
    centre = np.sum((k * ours**2)[near]) / np.sum((ours**2)[near])
    assert abs(centre / 256.0 - at / sfreq) < 1e-4


def test_mains_and_its_harmonic_are_taken_out_and_40_hz_stays():
    t = np.arange(60 * 1000) / 1000.0
    lines = {f: np.sin(2.0 * np.pi * f * t) for f in (40.0, 50.0, 100.0)}
    band = plan_band(sfreq=1000.0, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=50.0)
    kept = {
        f: standardise(x[None].astype(np.float32), band, sfreq_in=1000.0, sfreq_out=256.0) for f, x in lines.items()
    }
    deviation = {f: y[0, 5120:-5120].std() for f, y in kept.items()}
    assert band.notches == (50.0, 100.0)
    assert deviation[40.0] == pytest.approx(np.sqrt(0.5), rel=5e-3)
    assert max(deviation[50.0], deviation[100.0]) < 5e-3


@pytest.mark.parametrize("n", [1, 2, 77, 300])
def test_short_recordings_stay_bounded_and_an_offset_vanishes(n):
    band = Band(0.1, 96.0, ())
    rng = np.random.default_rng(0)
    wave = 1e-5 * rng.standard_normal((2, n))
    ours = standardise((wave + 0.2).astype(np.float32), band, sfreq_in=250.0, sfreq_out=256.0)
    assert ours.shape == (2, max(1, round(n * 256 / 250)))
    assert np.abs(ours).max() < 2.0 * np.abs(wave).max() + 2e-7  # 0.2 V in float32 has steps of 15 nV


def test_a_channel_does_not_depend_on_the_others():
    signal = np.random.default_rng(0).standard_normal((5, 5000)).astype(np.float32)
    band = Band(0.1, 96.0, (50.0,))
    whole = standardise(signal, band, sfreq_in=500.0, sfreq_out=256.0)
    for channel in range(5):
        alone = standardise(signal[channel : channel + 1], band, sfreq_in=500.0, sfreq_out=256.0)[0]
        assert np.abs(alone - whole[channel]).max() < 1e-5 * whole[channel].std()


@pytest.mark.parametrize("sfreq", [256.0, 300.3, 1000.0, 1017.25])
def test_blocks_of_a_long_recording_are_the_one_pass(sfreq):
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.standard_normal((2, round(400 * sfreq))), axis=1).astype(np.float32)
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=50.0)
    one = standardise(signal, band, sfreq_in=sfreq, sfreq_out=256.0, block=10**9)
    blocks = standardise(signal, band, sfreq_in=sfreq, sfreq_out=256.0, block=round(70 * sfreq))
    assert blocks.shape == one.shape
    # the pass ends at half the new rate with a step, which sees what the stop band leaves: a part in 10,000
    assert np.abs(blocks - one).max() < 2e-4 * one.std()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    sfreq=st.one_of(st.sampled_from([160.0, 300.3, 1017.25]), st.floats(130.0, 1100.0)),
    seconds=st.floats(0.5, 150.0),
    block_s=st.floats(1.0, 90.0),
    seed=st.integers(0, 99),
)
def test_any_blocks_of_any_recording_are_the_one_pass(sfreq, seconds, block_s, seed):
    rng = np.random.default_rng(seed)
    signal = np.cumsum(rng.standard_normal((1, max(64, round(seconds * sfreq)))), axis=1).astype(np.float32)
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=50.0)
    one = standardise(signal, band, sfreq_in=sfreq, sfreq_out=256.0, block=10**9)
    blocks = standardise(signal, band, sfreq_in=sfreq, sfreq_out=256.0, block=round(block_s * sfreq))
    assert blocks.shape == one.shape
    assert np.abs(blocks - one).max() < 2e-4 * signal.std()


@pytest.mark.parametrize("sfreq", [300.3, 1017.25])
def test_the_measured_response_is_the_product_of_the_designs(sfreq):
    """Impulses through the kernel against scipy's response of the taps, all frequencies below the new Nyquist."""
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=50.0)
    places = round(60 * sfreq) + np.arange(16)
    clicks = np.zeros((16, round(120 * sfreq)), np.float32)
    clicks[np.arange(16), places] = 1.0
    out = standardise(clicks, band, sfreq_in=sfreq, sfreq_out=256.0).astype(np.float64)
    grid = np.fft.rfftfreq(out.shape[1], 1 / 256)
    turned = np.fft.rfft(out, axis=1) * np.exp(2j * np.pi * grid * (places / sfreq)[:, None]) * sfreq / 256.0
    expected = np.ones(len(grid))
    for taps in design(band, sfreq):
        expected *= np.abs(freqz(taps, worN=grid, fs=sfreq)[1])
    below = grid < 127.0
    # signs: ripples of the stop band may be negative
    assert np.abs(np.abs(turned.mean(axis=0)) - expected)[below].max() < 2e-4


@given(
    sfreq=st.one_of(st.sampled_from([128.0, 300.3074951171875, 1017.25, 2034.5101]), st.floats(50.0, 20_000.0)),
    n=st.integers(1, 10_000_000),
    half=st.integers(0, 500_000),
    block=st.integers(1, 10**7),
)
def test_plans_keep_sample_zero_and_the_rate(sfreq, n, half, block):
    ratio = rate_fraction(sfreq, 256.0, n)
    plan = plan_block(n, ratio, half, block)
    assert abs(float(ratio) * sfreq / 256.0 - 1.0) * n * 256.0 / sfreq < 0.003
    assert plan.length_in * ratio == plan.length_out
    assert plan.front * ratio == plan.front_out
    assert plan.step_in * ratio == plan.step_out
    assert plan.front >= half
    assert plan.length_in - plan.front - plan.step_in >= half
    assert plan.step_in > 0


@pytest.mark.parametrize(
    ("sfreq", "lowpass", "mains", "high", "notches"),
    [
        (1000.0, 0.0, 60.0, 96.0, (60.0,)),
        (128.0, 0.0, 60.0, 57.6, (60.0,)),
        (160.0, 0.0, 50.0, 72.0, (50.0,)),
        (500.0, 45.0, 50.0, 45.0, (50.0,)),
        (250.0, 0.0, 0.0, 96.0, ()),
        (100.0, 0.0, 50.0, 45.0, ()),
    ],
)
def test_the_band_ends_at_rate_or_lowpass(sfreq, lowpass, mains, high, notches):
    band = plan_band(sfreq=sfreq, l_freq=0.1, h_freq=96.0, lowpass=lowpass, mains=mains)
    assert (band.low, band.high, band.notches) == (0.1, pytest.approx(high), notches)


def test_a_rate_without_a_band_is_refused():
    with refusal(RecordingError, "0.1 Hz", "0.09 Hz", action="low-pass"):
        plan_band(sfreq=0.2, l_freq=0.1, h_freq=96.0, lowpass=0.0, mains=0.0)
