"""Simulate source activity: 1/f background, rhythms in bursts, evoked responses, desynchronisation, blinks.

Activity is stored as the Fourier series of its run, so that devices of different rates sample the same signal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emeg.synthetic.design import Cue, Design
from emeg.synthetic.people import Person
from emeg.synthetic.randomness import generator, power_law
from emeg.synthetic.sources import N_BACKGROUND, Sources

FloatArray = NDArray[np.float64]

RATE = 500.0
"""Rate at which activity is drawn, Hz."""

HIGHEST_HZ = 100.0
"""Highest frequency of the activity, Hz, below half of the slowest sampling rate (250 Hz)."""

# Moments in A·m (rms, or peak where named so). With the leadfields here they give occipital alpha of some 15 µV and
# half a picotesla, a background of about 10 µV, and blinks of 100 µV at the brow.
_BACKGROUND = 45e-9
_ALPHA = 90e-9
_MU = 50e-9
_THETA = 30e-9
_TONE_PEAK = 60e-9
_BLINK_PEAK = 350e-9

_N_NETWORKS = 8
_NETWORK_ANGLE = 0.5  # rad: cortex a few centimetres apart acts together
_LOCAL_SHARE = 0.25  # of the background's rms, independent from dipole to dipole


@dataclass(frozen=True, eq=False)
class Activity:
    """Moments of S dipoles over one run.

    Attributes
    ----------
    series : complex128 (S, F)
        Fourier coefficients at multiples of 1 / `duration_s`, for samples scaled by 1/N: independent of any rate.
    duration_s : int
    blinks_s : tuple of float
        Times of blinks, s.
    """

    series: NDArray[np.complex128]
    duration_s: int
    blinks_s: tuple[float, ...]

    def sample(self, sfreq: float) -> FloatArray:
        """Return moments (S, N) in A·m at a sampling rate of more than twice `HIGHEST_HZ`."""
        n_samples = round(self.duration_s * sfreq)
        return np.asarray(np.fft.irfft(self.series, n_samples, axis=1) * n_samples)


def draw_activity(person: Person, sources: Sources, design: Design, *, seed: int, run: str) -> Activity:
    """Draw the activity of one run; `run` is its name, so that runs of one subject differ."""
    n_samples = round(design.duration_s * RATE)
    moments = np.zeros((len(sources.names), n_samples))
    moments[:N_BACKGROUND] = _background(
        person,
        _network_weights(sources, generator(seed, "networks")),
        n_samples,
        generator(seed, person.label, run, "background"),
    )
    _add_alpha(moments, person, sources, generator(seed, person.label, run, "alpha"))
    _add_theta(moments, person, sources, generator(seed, person.label, run, "theta"))
    _add_mu(moments, person, sources, design.cues, generator(seed, person.label, run, "mu"))
    _add_evoked(moments, sources, design.cues, generator(seed, person.label, run, "evoked"))
    blinks = _add_blinks(moments, person, sources, generator(seed, person.label, run, "blinks"))
    series = np.fft.rfft(moments, axis=1)[:, : round(HIGHEST_HZ * design.duration_s) + 1] / n_samples
    frequency = np.arange(series.shape[1]) / design.duration_s
    return Activity(series * np.clip((HIGHEST_HZ - frequency) / 10.0, 0.0, 1.0), design.duration_s, blinks)


def _network_weights(sources: Sources, rng: np.random.Generator) -> FloatArray:
    """Draw the weight of each background dipole in each network (background, networks).

    Networks are patches of cortex with common activity; the same generator gives all subjects the same networks.
    """
    directions = sources.positions[:N_BACKGROUND] - sources.positions[:N_BACKGROUND].mean(axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centres = directions[rng.choice(N_BACKGROUND, _N_NETWORKS, replace=False)]
    angles = np.arccos(np.clip(directions @ centres.T, -1.0, 1.0))
    return np.asarray(np.exp(-0.5 * (angles / _NETWORK_ANGLE) ** 2) * rng.lognormal(0.0, 0.4, _N_NETWORKS))


def _background(person: Person, weights: FloatArray, n_samples: int, rng: np.random.Generator) -> FloatArray:
    weights = weights * rng.lognormal(0.0, 0.2, _N_NETWORKS)
    weights /= np.sqrt((weights**2).sum(axis=1).mean())
    shared = weights @ power_law(_N_NETWORKS, n_samples, person.exponent, rng, rate=RATE, highest_hz=HIGHEST_HZ)
    local = power_law(
        N_BACKGROUND, n_samples, person.exponent - 0.3, rng, rate=RATE, highest_hz=HIGHEST_HZ
    )  # small patches are faster
    mixed = np.sqrt(1 - _LOCAL_SHARE**2) * shared + _LOCAL_SHARE * local
    return np.asarray(_BACKGROUND * person.background_gain * mixed)


def _add_alpha(moments: FloatArray, person: Person, sources: Sources, rng: np.random.Generator) -> None:
    n_samples = moments.shape[1]
    envelope, phase = _bursts(n_samples, 2.0, 1.2, rng), _phase(person.alpha_hz, n_samples, rng)
    for name in ("alpha-left", "alpha-right", "alpha-midline", "alpha-parietal"):
        # a travelling rhythm: a common phase with a lag, while half of the bursts are specific to each source
        own = 0.5 * envelope + 0.5 * _bursts(n_samples, 1.5, 1.5, rng)
        lag = rng.uniform(-0.8, 0.8)
        moments[sources.index(name)] += _ALPHA * person.alpha_gain * own * np.cos(phase + lag) * rng.uniform(0.7, 1.2)


def _add_theta(moments: FloatArray, person: Person, sources: Sources, rng: np.random.Generator) -> None:
    n_samples = moments.shape[1]
    rhythm = _bursts(n_samples, 1.0, 3.0, rng) * np.cos(_phase(person.theta_hz, n_samples, rng))
    moments[sources.index("theta-midline")] += _THETA * rhythm


def _add_mu(
    moments: FloatArray, person: Person, sources: Sources, cues: tuple[Cue, ...], rng: np.random.Generator
) -> None:
    n_samples = moments.shape[1]
    for side, frequency in (("left", person.mu_left_hz), ("right", person.mu_right_hz)):
        envelope = _bursts(n_samples, 0.5, 0.15, rng)
        phase = _phase(frequency, n_samples, rng)
        arch = np.cos(phase) + 0.25 * np.cos(2.0 * phase + 0.6)  # mu is arch-shaped: a second harmonic in the beta band
        moments[sources.index(f"mu-{side}")] += _MU * person.mu_gain * envelope * arch
    _desynchronise(moments, person, sources, cues, rng)


def _desynchronise(
    moments: FloatArray, person: Person, sources: Sources, cues: tuple[Cue, ...], rng: np.random.Generator
) -> None:
    """Reduce mu during imagery, contralateral to the hand more than ipsilateral."""
    time = np.arange(moments.shape[1]) / RATE
    for cue in (cue for cue in cues if cue.trial_type != "tone"):
        effort = np.clip(rng.normal(1.0, 0.25), 0.2, 1.2)  # effort varies from trial to trial
        delay = rng.uniform(0.3, 0.6)
        window = _ramp(time - cue.onset_s - delay) - _ramp(time - cue.onset_s - cue.duration_s - 0.2)
        crossed = "right" if cue.trial_type == "left_imagery" else "left"
        for side in ("left", "right"):
            drop = person.contralateral_drop if side == crossed else person.ipsilateral_drop
            power = 1.0 - window * min(drop * effort, 0.95)
            moments[sources.index(f"mu-{side}")] *= np.sqrt(power)


def _add_evoked(moments: FloatArray, sources: Sources, cues: tuple[Cue, ...], rng: np.random.Generator) -> None:
    """Add the response to each tone in both auditory cortices: P50, N100, P200."""
    lag = np.arange(round(0.6 * RATE)) / RATE
    shape = (
        -0.3 * np.exp(-0.5 * ((lag - 0.055) / 0.012) ** 2)
        + 1.0 * np.exp(-0.5 * ((lag - 0.105) / 0.022) ** 2)
        - 0.6 * np.exp(-0.5 * ((lag - 0.190) / 0.035) ** 2)
    )
    for cue in (cue for cue in cues if cue.trial_type == "tone"):
        start = round(cue.onset_s * RATE)
        for name in ("auditory-left", "auditory-right"):
            response = -_TONE_PEAK * rng.normal(1.0, 0.25) * shape  # N100 points down and inwards
            stretch = moments[sources.index(name), start : start + len(lag)]
            stretch += response[: len(stretch)]


def _add_blinks(moments: FloatArray, person: Person, sources: Sources, rng: np.random.Generator) -> tuple[float, ...]:
    lag = np.arange(round(0.5 * RATE)) / RATE
    shape = (lag / 0.1) ** 2 * np.exp(2.0 * (1.0 - lag / 0.1)) * np.clip((0.5 - lag) / 0.1, 0.0, 1.0)
    duration = moments.shape[1] / RATE
    onsets, onset = [], 0.0
    while (onset := onset + 0.8 + rng.exponential(60.0 / person.blinks_per_minute)) < duration - 0.6:
        start = round(onset * RATE)
        strength = _BLINK_PEAK * rng.normal(1.0, 0.2)
        for name in ("eye-left", "eye-right"):
            moments[sources.index(name), start : start + len(lag)] += strength * shape
        onsets.append(round(onset, 3))
    return tuple(onsets)


def _bursts(n_samples: int, on_s: float, off_s: float, rng: np.random.Generator) -> FloatArray:
    """Draw an envelope of bursts with exponential lengths and lognormal heights; mean square 2 (for a cosine)."""
    envelope = np.zeros(n_samples)
    start = -rng.exponential(off_s) * RATE
    while start < n_samples:
        stop = start + max(rng.exponential(on_s), 0.3) * RATE
        envelope[max(int(start), 0) : max(int(stop), 0)] = rng.lognormal(0.0, 0.35)
        start = stop + rng.exponential(off_s) * RATE
    width = round(0.25 * RATE)
    kernel = np.hanning(width + 2)[1:-1]
    smooth = np.convolve(envelope, kernel / kernel.sum(), mode="same")
    # scaled by the mean of the process, not of this draw: a run with few bursts stays weak
    expected = np.exp(2 * 0.35**2) * on_s / (on_s + off_s)
    return np.asarray(smooth * np.sqrt(2.0 / expected))


def _phase(frequency: float, n_samples: int, rng: np.random.Generator) -> FloatArray:
    """Draw the phase of a rhythm with a frequency that drifts by about 0.4 Hz within seconds."""
    wander = 0.4 * power_law(1, n_samples, 2.0, rng, rate=RATE, highest_hz=HIGHEST_HZ)[0]
    return np.asarray(rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.cumsum(frequency + wander) / RATE)


def _ramp(time: FloatArray, rise_s: float = 0.4) -> FloatArray:
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(time / rise_s, 0.0, 1.0)))
