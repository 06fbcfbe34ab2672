"""Activity has the spectra and the events that were requested."""

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt, welch

from emeg.synthetic.activity import HIGHEST_HZ, draw_activity
from emeg.synthetic.design import imagery_run, short_run
from emeg.synthetic.devices import DEVICES, describe_sensors
from emeg.synthetic.leadfield import leadfield
from emeg.synthetic.people import draw_person
from emeg.synthetic.randomness import generator
from emeg.synthetic.recording import BadChannels, record
from emeg.synthetic.sources import N_BACKGROUND, place_sources

PEOPLE = [draw_person(index, n_subjects=12, seed=3) for index in range(6)]


def activity_of(person, design):
    sources = place_sources(person, seed=3)
    return sources, draw_activity(person, sources, design, seed=3, run="test")


def rest(duration_s=60):
    return short_run("rest", duration_s=duration_s, rng=generator(0))


def test_the_background_falls_by_its_exponent():
    for person in PEOPLE[:4]:
        _, activity = activity_of(person, rest())
        frequency, power = welch(activity.sample(500.0)[:N_BACKGROUND], 500.0, nperseg=2000)
        band = (frequency > 5) & (frequency < 60)
        slope = np.polyfit(np.log(frequency[band]), np.log(power[:, band].mean(axis=0)), 1)[0]
        assert slope == pytest.approx(-person.exponent, abs=0.2)


def test_rhythms_peak_where_the_person_has_them():
    for person in PEOPLE:
        sources, activity = activity_of(person, rest())
        moments = activity.sample(250.0)
        for name, expected in (
            ("alpha-left", person.alpha_hz),
            ("mu-left", person.mu_left_hz),
            ("mu-right", person.mu_right_hz),
        ):
            frequency, power = welch(moments[sources.index(name)], 250.0, nperseg=1000)
            assert frequency[power.argmax()] == pytest.approx(expected, abs=0.8)
    slowed = [person.alpha_hz for person in PEOPLE if person.group == "slowed"]
    control = [person.alpha_hz for person in PEOPLE if person.group == "control"]
    assert max(slowed) + 0.5 < min(control)


def test_devices_of_different_rates_sample_one_signal():
    _, activity = activity_of(PEOPLE[0], rest(20))
    slow, fast = activity.sample(250.0), activity.sample(1000.0)
    np.testing.assert_allclose(fast[:, ::4], slow, atol=1e-12 * np.abs(fast).max())
    frequency, power = welch(fast, 1000.0, nperseg=4000)
    assert power[:, frequency > HIGHEST_HZ + 2].sum() < 1e-6 * power.sum()


def test_imagery_weakens_mu_by_the_persons_share_on_the_other_side():
    measured, expected = [], []
    for person in PEOPLE:
        design = imagery_run(n_trials=40, imagery_s=4.0, rest_s=1.2, rng=generator(0, person.label))
        sources, activity = activity_of(person, design)
        power = activity.sample(250.0) ** 2
        for side in ("left", "right"):
            trace = power[sources.index(f"mu-{side}")]
            mean = {
                kind: np.mean(
                    [
                        trace[round((c.onset_s + 1.2) * 250) : round((c.onset_s + 4) * 250)].mean()
                        for c in design.cues
                        if c.trial_type == kind
                    ]
                )
                for kind in ("left_imagery", "right_imagery")
            }
            crossed, same = ("right_imagery", "left_imagery") if side == "left" else ("left_imagery", "right_imagery")
            measured.append(1 - mean[crossed] / mean[same])
            expected.append(1 - (1 - person.contralateral_drop) / (1 - person.ipsilateral_drop))
    assert np.mean(measured) == pytest.approx(np.mean(expected), abs=0.1)
    assert np.min(measured) > 0.1


def test_desynchronisation_is_lateralised_over_c3_and_c4():
    differences = []
    for person in PEOPLE:
        design = imagery_run(n_trials=24, imagery_s=4.0, rest_s=1.2, rng=generator(1, person.label))
        sources, activity = activity_of(person, design)
        device = DEVICES["biosemi64"]
        info = describe_sensors(device, person, seed=3)
        raw = record(
            device, info, leadfield(info, person, sources), activity, BadChannels(), generator(2, person.label)
        )
        signal = raw.get_data() - raw.get_data().mean(axis=0)
        pair = signal[[raw.ch_names.index(name) for name in ("C3", "C4")]]
        ratio = {"left_imagery": [], "right_imagery": []}
        for cue in design.cues:
            window = pair[:, round((cue.onset_s + 0.8) * 512) : round((cue.onset_s + 4.0) * 512)]
            frequency, power = welch(window, 512.0, nperseg=1024)
            mu = power[:, (frequency > person.mu_left_hz - 1.5) & (frequency < person.mu_left_hz + 1.5)].mean(axis=1)
            ratio[cue.trial_type].append(np.log(mu[1] / mu[0]))  # right over left hemisphere
        differences.append(np.mean(ratio["left_imagery"]) - np.mean(ratio["right_imagery"]))
    # left imagery: less mu on the right
    assert np.mean(differences) < -0.25
    # in some people the background over C3 or C4 outweighs mu, as in life
    assert np.mean(np.array(differences) < 0) >= 0.8


def test_tones_are_answered_after_100_ms():
    person = PEOPLE[0]
    design = short_run("tones", duration_s=120, rng=generator(4))
    sources, activity = activity_of(person, design)
    device = DEVICES["ctf275"]
    info = describe_sensors(device, person, seed=3)
    signal = leadfield(info, person, sources) @ activity.sample(device.sfreq)
    signal = sosfiltfilt(butter(2, (3, 20), "bandpass", fs=device.sfreq, output="sos"), signal)
    cut = np.array([signal[:, (start := round(cue.onset_s * 600)) - 60 : start + 240] for cue in design.cues])
    average = cut - cut[:, :, :60].mean(axis=2, keepdims=True)
    strength = average.mean(axis=0).std(axis=0)
    lag_ms = (np.arange(300) - 60) / 0.6
    assert 85 < lag_ms[strength.argmax()] < 130
    assert strength.max() > 2.5 * strength[:60].mean()


def test_blinks_appear_at_a_frontal_channel():
    person = PEOPLE[0]
    sources, activity = activity_of(person, rest(90))
    assert 3 <= len(activity.blinks_s) <= 40
    info = describe_sensors(DEVICES["standard19"], person, seed=3)
    signal = leadfield(info, person, sources) @ activity.sample(250.0)
    brow = signal[info["ch_names"].index("Fp1")] - signal.mean(axis=0)
    peaks = [brow[round((at + 0.1) * 250)] - brow[round(at * 250)] for at in activity.blinks_s]
    assert 50e-6 < np.mean(peaks) < 300e-6


def test_amplitudes_are_those_of_people():
    """Rms about 10-50 µV, 0.2-2 pT (axial, cryogenic) and 0.4-4 pT (on the scalp), most of it below 15 Hz."""
    limits = {"biosemi64": (10e-6, 50e-6), "ctf275": (0.2e-12, 2e-12), "opm64": (0.4e-12, 4e-12)}
    for person in PEOPLE[:4]:
        sources, activity = activity_of(person, rest(30))
        for name, (low, high) in limits.items():
            device = DEVICES[name]
            signal = leadfield(describe_sensors(device, person, seed=3), person, sources) @ activity.sample(
                device.sfreq
            )
            signal -= signal.mean(axis=0)
            assert low < np.median(signal.std(axis=1)) < high
            frequency, power = welch(signal, device.sfreq, nperseg=int(4 * device.sfreq))
            assert power[:, frequency < 15].sum() > 0.8 * power.sum()


def test_random_designs_are_balanced_and_whole():
    for seed in range(5):
        design = imagery_run(n_trials=9, imagery_s=2.0, rest_s=1.0, rng=generator(seed))
        kinds = [cue.trial_type for cue in design.cues]
        assert abs(kinds.count("left_imagery") - kinds.count("right_imagery")) == 1
        gaps = np.diff([cue.onset_s for cue in design.cues]) - 2.0
        assert gaps.min() >= 0.699
        assert gaps.max() <= 1.301
        assert design.cues[-1].onset_s + 2.0 <= design.duration_s
