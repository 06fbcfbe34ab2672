"""Quality measures and bad channels of real recordings compared with pyprep's on the same standardised signal.

The expectations were written down before the first run; docs/decisions/0015-quality.md has all numbers.
"""

import warnings
from dataclasses import dataclass

import mne
import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.ingest.conftest import ingested

from emeg.ingest.signal.bad_channels import find_bad_channels, flat_channels
from emeg.store import BadReason, Measures, Recording

SEGMENT_S = 10.0
ARCHIVES = ("motor-imagery", "arithmetic", "ssvep")


@dataclass
class Side:
    """One recording in emeg and in pyprep: tables (channel, window) of the windows that both have."""

    recording: Recording
    measures: Measures
    signal: np.ndarray
    theirs: dict[str, np.ndarray]
    bad: dict[str, list[str]]

    def ours(self, name: str) -> np.ndarray:
        return self.measures.of(name)[:, : self.theirs["correlation"].shape[1]]


def noisy_channels(signal, names, sfreq=256.0):
    """pyprep's judgement: windows of ten seconds for the measures, its own defaults for the lists of bad channels."""
    from pyprep import NoisyChannels

    info = mne.create_info(list(names), sfreq, "eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyprep divides by spreads of zero where recordings end below 50 Hz
        judge = NoisyChannels(mne.io.RawArray(signal.astype(np.float64), info, verbose="ERROR"), ransac=False)
        judge.find_bad_by_correlation(correlation_secs=SEGMENT_S)
        windows = {
            "correlation": judge._extra_info["bad_by_correlation"]["max_correlations"],
            "deviation": judge._extra_info["bad_by_deviation"]["channel_amplitudes"].T,
            "high_frequency": judge._extra_info["bad_by_hf_noise"]["noise_levels"].T,
        }
        judge.find_bad_by_deviation()
        judge.find_bad_by_hfnoise()
        judge.find_bad_by_correlation()
    lists = {
        "flat": judge.bad_by_flat,
        "deviation": judge.bad_by_deviation,
        "high_frequency": judge.bad_by_hf_noise,
        "correlation": judge.bad_by_correlation,
        "dropout": judge.bad_by_dropout,
    }
    return windows, lists


@pytest.fixture(scope="module")
def sides(shared, tmp_path_factory):
    found = []
    for archive in ARCHIVES:
        root = tmp_path_factory.mktemp(archive)
        made = ingested(shared / "data" / archive, root, standardise={"bad_channels": "mark"})
        for name in (name for name in made.rows if name[-2:] in {"01", "03", "08"}):
            recording = made.recording(name)
            signal = recording.read(0, recording.n_samples)
            assert recording.measures is not None
            found.append(Side(recording, recording.measures, signal, *noisy_channels(signal, recording.sensors.names)))
    assert len(found) >= 5
    return found


def pooled(sides, name):
    measured = [side for side in sides if np.isfinite(side.ours(name)).all()]
    pairs = [(side.ours(name).ravel(), side.theirs[name].ravel()) for side in measured]
    return pairs, np.concatenate([ours for ours, _ in pairs]), np.concatenate([theirs for _, theirs in pairs])


def test_correlations_of_windows_are_those_of_pyprep(sides):
    """The same definition: 98th percentile over the other channels, up to 50 Hz; windows of emeg are weighted."""
    _, ours, theirs = pooled(sides, "correlation")
    assert np.corrcoef(ours, theirs)[0, 1] >= 0.9
    assert np.median(np.abs(ours - theirs)) <= 0.05


def test_high_frequencies_rank_channels_as_pyprep_does(sides):
    """Power above 50 Hz over that below, against median distances: another measure of spread for the same two bands."""
    pairs, _, _ = pooled(sides, "high_frequency")
    assert len(pairs) >= 2
    assert np.median([spearmanr(ours, theirs).statistic for ours, theirs in pairs]) >= 0.9


def test_deviations_rank_channels_as_pyprep_does(sides):
    """Standard deviation from 0.1 Hz, against quartiles from 1 Hz: emeg includes artefacts and drifts."""
    pairs, _, _ = pooled(sides, "deviation")
    assert np.median([spearmanr(ours, theirs).statistic for ours, theirs in pairs]) >= 0.8


def test_what_we_call_bad_pyprep_calls_bad(sides):
    agreed, total = 0, 0
    for side in sides:
        ours = {side.recording.sensors.names[c] for c in np.flatnonzero((side.recording.bad & 3).all(axis=1))}
        theirs = set().union(*side.bad.values())
        assert ours <= theirs, side.recording
        agreed += len(side.signal) - len(ours ^ theirs)
        total += len(side.signal)
    assert agreed / total >= 0.9


def test_segments_without_anything_in_common_are_so_for_pyprep(sides):
    for side in sides:
        marked = (side.recording.bad[:, ::10] & BadReason.UNCORRELATED) != 0
        window = side.theirs["correlation"] < 0.4
        assert not (marked[:, : window.shape[1]] & ~window).any()


def test_both_find_faults_planted_in_a_real_recording(sides):
    side = max(sides, key=lambda side: len(side.signal))
    signal, names = side.signal.copy(), side.recording.sensors.names
    rng = np.random.default_rng(0)
    signal[5] = 0.0
    signal[15] *= 30.0
    hiss = np.diff(rng.standard_normal(signal.shape[1] + 1))
    signal[25] += (20 * np.median(signal.std(axis=1)) * hiss).astype(np.float32)
    other = rng.standard_normal(signal.shape[1] + 255)
    signal[35] = 2e-5 * np.convolve(other, np.ones(256) / 16, mode="valid")
    planted = {names[c] for c in (5, 15, 25, 35)}
    sensors = side.recording.sensors
    flat = flat_channels(signal, signal, sensors)
    ours = {names[c] for c in find_bad_channels(signal, sensors, sfreq=256.0, flat_C=flat).indices}
    theirs = set().union(*noisy_channels(signal, names)[1].values())
    assert planted <= ours
    assert planted <= theirs
