"""Quality measures of planted faults against their values in closed form."""

import itertools

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.test_recording import SFREQ as SOURCE_SFREQ
from tests.ingest.test_recording import bids, run, signal

from emeg.curation import count_quality
from emeg.dsp.response import Band
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.signal.constant_stretches import (
    clipped_seconds,
    clipped_stretches,
    constant_seconds,
    find_constant,
)
from emeg.ingest.signal.measures import SourceLook, bad_segments, measure
from emeg.sensors import sensors_from_info
from emeg.store import BadReason

SFREQ = 256.0


@pytest.fixture(scope="module")
def sensors():
    names = [
        "Fp1",
        "Fp2",
        "F7",
        "F3",
        "Fz",
        "F4",
        "F8",
        "T7",
        "C3",
        "Cz",
        "C4",
        "T8",
        "P7",
        "P3",
        "Pz",
        "P4",
        "P8",
        "O1",
        "O2",
    ]
    return sensors_from_info(mne.create_info(names, SFREQ, "eeg")).sensors


def noise(n_channels, seconds, sfreq=SFREQ, seed=0):
    return np.random.default_rng(seed).standard_normal((n_channels, round(seconds * sfreq))).astype(np.float32)


def source(rows, sfreq, mains=0.0):
    seconds = -(-round(rows.shape[1] / sfreq * SFREQ) // round(SFREQ))
    seen = SourceLook(*rows.shape, seconds, sfreq=sfreq, mains=mains)
    for first in range(0, len(rows), 4):
        seen.measure(first, rows[first : first + 4])
    return dict(zip(("flat", "clipped", "mains"), seen.values, strict=True)), seen


def measured(standardised, sensors, flat=None, high=96.0):
    with ChannelRows(*standardised.shape, in_memory_bytes=2**30) as values:
        values.put(0, 0, standardised)
        _, seen = source(standardised, SFREQ)
        flat_C = np.zeros(len(sensors), bool) if flat is None else flat
        return measure(values, sensors, flat_C, seen, Band(0.1, high), sfreq=SFREQ)


@pytest.mark.parametrize("sfreq", [250.0, 300.3, 1017.25])
def test_shares_of_flat_and_clipped_samples_are_those_planted(sfreq):
    rows = noise(3, 35, sfreq)
    a, b = round(12 * sfreq), round(14.5 * sfreq)
    rows[0, a:b] = 0.25
    rows[1] = np.clip(rows[1], -1.0, None)
    shares, seen = source(rows, sfreq)
    assert shares["flat"].shape == (3, 4)
    assert shares["flat"][0] == pytest.approx([0.0, 0.25, 0.0, 0.0], abs=2 / (10 * sfreq))
    assert not shares["flat"][1:].any()
    at_limit = rows[1] == -1.0
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], at_limit, [0]]))))[::2]
    expected = runs[runs >= 4].sum() / len(rows[1])
    assert expected > 0
    weights = np.diff([0, 10, 20, 30, 35]) / 35
    assert shares["clipped"][1] @ weights == pytest.approx(expected, rel=0.01)
    assert not shares["clipped"][0].any()
    still = BadReason.FLAT * (np.isin(np.arange(35), [12, 13]))
    assert np.array_equal(seen.bad[0], still)


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=120), st.integers(2, 9))
def test_constant_stretches_and_their_seconds_are_those_of_a_plain_loop(values, per_second):
    row = np.array(values, np.float32)
    starts = [0, *(i for i in range(1, len(row)) if row[i] != row[i - 1])]
    plain = [(a, b) for a, b in zip(starts, [*starts[1:], len(row)], strict=True) if b - a >= 3]
    constant = find_constant(row)
    assert list(zip(constant.starts.tolist(), constant.stops.tolist(), strict=True)) == plain
    bounds = np.array([*range(0, len(row), per_second), len(row)])
    inside = np.array([any(a <= i < b for a, b in plain) for i in range(len(row))], bool)
    pieces = [inside[a:b] for a, b in itertools.pairwise(bounds)]
    assert constant.covered(bounds).tolist() == [piece.sum() for piece in pieces]
    still = [any(a <= x and y <= b for a, b in plain) for x, y in itertools.pairwise(bounds)]
    assert constant_seconds(constant, bounds).tolist() == still
    extremes = {row.min(), row.max()}
    clipped = [(a, b) for a, b in plain if b - a >= 4 and row[a] in extremes and len(extremes) == 2]
    found = clipped_stretches(constant, row)
    assert list(zip(found.starts.tolist(), found.stops.tolist(), strict=True)) == clipped
    ends = {i // per_second for a, b in clipped for i in range(a + 3, b)}
    assert set(np.flatnonzero(clipped_seconds(found, bounds))) == ends


@pytest.mark.parametrize(("sfreq", "harmonics"), [(1000.0, 1), (1000.0, 3), (200.0, 1)])
def test_the_mains_ratio_is_that_of_the_powers_planted(sfreq, harmonics):
    """A sine of amplitude A has A²/2 within the 2 Hz of its line, white noise of variance v has 2v/sfreq in each Hz."""
    amplitude = 0.8
    rows = noise(4, 120, sfreq)
    time = np.arange(rows.shape[1]) / sfreq
    for harmonic in range(1, harmonics + 1):
        rows[:2] += (amplitude * np.sin(2 * np.pi * 50.0 * harmonic * time)).astype(np.float32)
    ratio = source(rows, sfreq, mains=50.0)[0]["mains"]
    counted = 5 if sfreq == 1000.0 else 1  # a line at 100 Hz is at the Nyquist frequency of 200 Hz
    density = 2.0 / sfreq
    expected = 1.0 + harmonics * amplitude**2 / 2 / 2.0 / density / counted
    assert np.median(ratio[:2]) == pytest.approx(expected, rel=0.1)
    assert np.median(ratio[2:]) == pytest.approx(1.0, rel=0.1)
    assert np.isnan(source(rows, sfreq)[0]["mains"]).all()


def test_white_noise_has_the_ratio_of_its_bandwidths(sensors):
    """Equal power everywhere: 78 Hz above 50 Hz and 49 Hz of 1-50 Hz."""
    measures = measured(1e-5 * noise(19, 60), sensors)
    assert measures.of("high_frequency").mean() == pytest.approx(np.sqrt(78 / 49), rel=0.01)
    assert np.allclose(measures.of("deviation"), 1e-5, rtol=0.05)
    assert np.isnan(measured(1e-5 * noise(19, 20), sensors, high=45.0).of("high_frequency")).all()


@pytest.mark.parametrize("scale", [1e-6, 1e-15])
def test_deviations_are_numpys_to_three_digits(sensors, scale):
    rows = scale * noise(19, 25)
    deviation = measured(rows, sensors).of("deviation")
    for segment, stretch in enumerate((rows[:, :2560], rows[:, 2560:5120], rows[:, 5120:])):
        assert np.allclose(deviation[:, segment], stretch.std(axis=1, dtype=float), rtol=3e-4, atol=0)
    assert not (np.ascontiguousarray(deviation).view(np.uint32) & 0xFFF).any()  # zeros pack well


def test_correlations_are_those_of_a_common_part(sensors):
    """Channels s + k·n have correlation 1/(1 + k²) with each other."""
    rows = noise(1, 300) + 0.5 * noise(19, 300, seed=1)
    measures = measured(1e-5 * rows, sensors)
    assert np.median(measures.of("correlation")) == pytest.approx(0.8, abs=0.03)
    assert np.median(measures.of("neighbours")) == pytest.approx(0.8, abs=0.04)


def test_the_gate_is_checked_segment_by_segment(sensors):
    rows = 1e-5 * noise(19, 30)
    rows[3, 10 * 256 : 20 * 256] *= 1e3
    rows[5, 20 * 256 :] *= 1e-3
    measures = measured(rows, sensors)
    assert np.argwhere(measures.of("in_gate") == 0).tolist() == [[3, 1], [5, 2]]
    bad = bad_segments(measures, sensors, np.zeros(19, bool))
    assert np.argwhere(bad & BadReason.BEYOND_GATE).tolist() == [[3, 1], [5, 2]]


@pytest.fixture(scope="module")
def head(sensors):
    """Channels that share signal with their neighbours, 60 s; white to 10 Hz, so that chance correlations are few."""
    distance = np.linalg.norm(sensors.positions[:, None] - sensors.positions[None], axis=2)
    spread = np.linalg.cholesky(np.exp(-((distance / 0.09) ** 2)) + 0.02 * np.eye(19))
    spectrum = np.fft.rfft(noise(19, 60), axis=1)
    spectrum /= np.maximum(np.arange(spectrum.shape[1]) / 60.0, 10.0)
    rows = spread @ np.fft.irfft(spectrum, axis=1)
    return (1e-5 * rows / rows.std()).astype(np.float32)


def test_channels_that_changed_places_are_found_where_they_did(head, sensors):
    rows = head.copy()
    swapped = [sensors.names.index("Fp1"), sensors.names.index("O2")]
    stretch = slice(20 * 256, 40 * 256)
    rows[swapped, stretch] = rows[swapped[::-1], stretch]
    clean, found = (bad_segments(measured(x, sensors), sensors, np.zeros(19, bool)) for x in (head, rows))
    assert not clean.any()
    expected = np.zeros((19, 6), np.uint8)
    expected[swapped, 2:4] = BadReason.UNCORRELATED
    assert np.array_equal(found, expected)


def test_noise_in_one_channel_is_found_where_it_is(head, sensors):
    rows = head.copy()
    hiss = np.diff(noise(1, 10, seed=3)[0], prepend=0.0)
    rows[7, 30 * 256 : 40 * 256] += 2e-5 * hiss.astype(np.float32)
    found = bad_segments(measured(rows, sensors), sensors, np.zeros(19, bool))
    assert np.argwhere(found & BadReason.NOISY).tolist() == [[7, 3]]


def test_an_order_of_channels_changes_no_measure(head, sensors):
    order = np.random.default_rng(5).permutation(19)
    straight, shuffled = measured(head, sensors), measured(head[order], sensors.take(order.tolist()))
    assert np.allclose(straight.values[:, order], shuffled.values, rtol=1e-3, equal_nan=True)


def test_flat_channels_are_correlated_with_nothing(head, sensors):
    flat = np.arange(19) == 4
    rows = head.copy()
    rows[4] = 0.0
    measures = measured(rows, sensors, flat)
    assert np.isnan(measures.of("correlation")[4]).all()
    assert np.isfinite(measures.of("correlation")[~flat]).all()
    assert not bad_segments(measures, sensors, flat).any()


def test_measures_and_marks_reach_the_store_and_nothing_is_cut(tmp_path):
    data = signal(seconds=25)
    hum = 4e-6 * np.sin(2 * np.pi * 50.0 * np.arange(data.shape[1]) / SOURCE_SFREQ)
    data += hum
    data[2, round(5 * SOURCE_SFREQ) : round(7 * SOURCE_SFREQ)] = 0.0
    bids(tmp_path, data, extension="fif", eeg='{"PowerLineFrequency": 50}')
    made = run(tmp_path)
    row, recording = made.rows["sub-01"], made.recording("sub-01")
    assert recording.n_samples == 25 * 256
    measures = recording.measures
    assert measures is not None
    assert measures.values.shape == (8, 10, 3)
    assert measures.of("flat")[2] == pytest.approx([0.2, 0.0, 0.0], abs=1e-3)
    density = 2 * 1.49e-10 / SOURCE_SFREQ
    expected = 1 + (4e-6) ** 2 / 2 / 2 / density / 2  # 100 Hz is counted too, and has no hum
    assert row.mains_ratio == pytest.approx(expected, rel=0.2)
    assert row.flat_s == 2.0
    assert row.bad_share == pytest.approx(np.mean(recording.bad != 0))
    flat = [stretch for stretch in recording.bad_stretches if stretch.reason == "flat"]
    assert [(s.onset_s, s.duration_s, s.channels) for s in flat] == [(5.0, 2.0, (recording.sensors.names[2],))]


def test_a_recording_shorter_than_a_segment_has_one(tmp_path):
    bids(tmp_path, signal(seconds=3.2))
    made = run(tmp_path)
    measures = made.recording("sub-01").measures
    assert measures is not None
    assert measures.values.shape[2] == 1
    assert np.isfinite(measures.of("deviation")).all()
    assert np.isnan(measures.of("neighbours")).all()
    assert made.rows["sub-01"].neighbour_correlation is None


def test_counts_are_those_of_rows_and_marks(tmp_path):
    data = signal(seconds=25)
    data[2, round(5 * SOURCE_SFREQ) : round(7 * SOURCE_SFREQ)] = 0.0
    bids(tmp_path, data, extension="fif")
    broken = tmp_path / "archive/sub-02/eeg/sub-02_task-rest_eeg.edf"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"0" * 300)
    made = run(tmp_path)
    counts = {count.what: count for count in count_quality(str(made.store.root), made.result.dataset)}
    bad = made.recording("sub-01").bad
    assert (counts["ready"].recordings, counts["ready"].channel_hours) == (1, round(10 * 25 / 3600, 4))
    assert counts["flat"].recordings == 1
    assert counts["flat"].share == pytest.approx(2 / 250)
    assert counts["marked"].share == pytest.approx(np.count_nonzero(bad) / 250)
    assert counts["clipped"].recordings == counts["bad channels"].recordings == 0
    stage = made.refused["sub-02"].stage
    assert counts[f"quarantined: {stage}"].recordings == 1


def test_a_damaged_channel_of_any_size_is_marked_and_the_others_are_judged(tmp_path):
    """1e24 V, whose squares single precision cannot hold."""
    data = signal(seconds=25)
    data[3] *= 1e30
    bids(tmp_path, data, extension="fif")
    made = run(tmp_path)
    recording = made.recording("sub-01")
    others = [c for c in range(len(recording.bad)) if c != 3]
    assert np.isfinite(recording.measures.values[:, others][3:]).all()
    assert (recording.bad[3] != 0).all()
