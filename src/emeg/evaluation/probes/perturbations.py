"""Changes of windows that take one kind of information away, to see what a task needs.

Shape letters: B batch, C channels, N samples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq

from emeg.evaluation.classical.spectra import CLASSICAL_BANDS
from emeg.evaluation.rivals.spectral_features import fit_aperiodic

Signal = NDArray[np.float32]
KEPT_SENSORS = 0.4
"""Share of sensors that stay when sensors are dropped."""


class Perturbed(NamedTuple):
    """Changed windows and the channels that are left."""

    signal_BCN: Signal  # noqa: N815
    """V, T or T/m."""
    picks: NDArray[np.intp]
    """Indices of the channels, whose positions and types go with the rows of the signal."""


class Perturbation(NamedTuple):
    """A change of windows."""

    title: str
    apply: Callable[[Signal, float, np.random.Generator], Signal]
    """Function of signal, sampling rate in Hz and generator."""


def without_aperiodic(signal_BCN: Signal, sfreq: float, generator: np.random.Generator) -> Signal:
    """Divide each channel of a window by the amplitude of its fitted aperiodic part, so that rhythms stay.

    Parameters
    ----------
    signal_BCN : float32, shape (windows, channels, samples)
        V, T or T/m.
    sfreq : float
        Sampling rate, Hz.
    generator : numpy.random.Generator
        Not used.

    Returns
    -------
    float32, shape (windows, channels, samples)
        Dimensionless, with a mean power of 1 over all windows.
    """
    coefficients, freqs = _spectrum(signal_BCN, sfreq)
    power = _aperiodic_power(coefficients, freqs)
    flat = np.divide(coefficients, np.sqrt(power), out=np.zeros_like(coefficients), where=power > 0)
    flat[..., 0] = 0.0
    made = irfft(flat, signal_BCN.shape[-1], axis=-1)
    return np.asarray(made / max(float(made.std()), 1e-300), np.float32)


def aperiodic_only(signal_BCN: Signal, sfreq: float, generator: np.random.Generator) -> Signal:
    """Replace each channel of a window by noise with the spectrum of its fitted aperiodic part.

    Parameters
    ----------
    signal_BCN : float32, shape (windows, channels, samples)
        V, T or T/m.
    sfreq : float
        Sampling rate, Hz.
    generator : numpy.random.Generator
        Source of the phases.
    """
    coefficients, freqs = _spectrum(signal_BCN, sfreq)
    amplitude = np.sqrt(_aperiodic_power(coefficients, freqs))
    amplitude[..., 0] = 0.0
    turned = amplitude * np.exp(2j * np.pi * generator.random(amplitude.shape))
    return np.asarray(irfft(turned, signal_BCN.shape[-1], axis=-1), np.float32)


def phase_randomised(signal_BCN: Signal, sfreq: float, generator: np.random.Generator) -> Signal:
    """Turn the phase of each frequency at random, alike in all channels of a window.

    Power and correlation between channels stay; evoked responses and their shape go.

    Parameters
    ----------
    signal_BCN : float32, shape (windows, channels, samples)
        V, T or T/m.
    sfreq : float
        Sampling rate, Hz; not used.
    generator : numpy.random.Generator
        Source of the phases.
    """
    coefficients = rfft(np.asarray(signal_BCN, np.float64), axis=-1)
    turn = np.exp(2j * np.pi * generator.random((len(signal_BCN), 1, coefficients.shape[-1])))
    turn[..., 0] = 1.0
    if signal_BCN.shape[-1] % 2 == 0:
        turn[..., -1] = 1.0
    return np.asarray(irfft(coefficients * turn, signal_BCN.shape[-1], axis=-1), np.float32)


def sensors_shuffled(signal_BCN: Signal, sfreq: float, generator: np.random.Generator) -> Signal:
    """Exchange the channels of each window at random; positions and types stay in their order.

    Parameters
    ----------
    signal_BCN : float32, shape (windows, channels, samples)
        V, T or T/m.
    sfreq : float
        Sampling rate, Hz; not used.
    generator : numpy.random.Generator
        Source of the order.
    """
    order = generator.permuted(np.tile(np.arange(signal_BCN.shape[1]), (len(signal_BCN), 1)), axis=1)
    return np.take_along_axis(signal_BCN, order[..., None], axis=1)


def without_band(low: float, high: float) -> Callable[[Signal, float, np.random.Generator], Signal]:
    """Return a function that removes the frequencies from `low` up to `high` Hz."""

    def remove(signal_BCN: Signal, sfreq: float, generator: np.random.Generator) -> Signal:
        coefficients = rfft(np.asarray(signal_BCN, np.float64), axis=-1)
        freqs = rfftfreq(signal_BCN.shape[-1], 1.0 / sfreq)
        coefficients[..., (freqs >= low) & (freqs < high)] = 0.0
        return np.asarray(irfft(coefficients, signal_BCN.shape[-1], axis=-1), np.float32)

    return remove


def drop_sensors(n_channels: int, seed: int) -> NDArray[np.intp]:
    """Return the channels that stay when sensors are dropped at random: `KEPT_SENSORS` of them, at least one."""
    n_kept = max(round(KEPT_SENSORS * n_channels), 1)
    return np.sort(np.random.default_rng([seed, 3]).choice(n_channels, n_kept, replace=False))


PERTURBATIONS: dict[str, Perturbation] = {
    "without_aperiodic": Perturbation("Aperiodic part removed", without_aperiodic),
    "aperiodic_only": Perturbation("Aperiodic part alone", aperiodic_only),
    "phase_randomised": Perturbation("Phases randomised", phase_randomised),
    **{
        f"without_{name}": Perturbation(f"Without {name} ({low:g} to {high:g} Hz)", without_band(low, high))
        for name, (low, high) in CLASSICAL_BANDS.items()
    },
    "sensors_shuffled": Perturbation("Sensors shuffled", sensors_shuffled),
    "sensors_dropped": Perturbation(f"{KEPT_SENSORS:.0%} of the sensors", lambda signal, _, __: signal),
}
"""Changes by name. For ``sensors_dropped``, `perturb` leaves channels out."""


def perturb(name: str, signal_BCN: Signal, sfreq: float, *, seed: int = 0) -> Perturbed:
    """Change windows by one of `PERTURBATIONS`.

    Parameters
    ----------
    name : str
    signal_BCN : float32, shape (windows, channels, samples)
        V, T or T/m.
    sfreq : float
        Sampling rate, Hz.
    seed : int
        Seed of random changes.
    """
    picks = np.arange(signal_BCN.shape[1])
    if name == "sensors_dropped":
        picks = drop_sensors(signal_BCN.shape[1], seed)
    changed = PERTURBATIONS[name].apply(signal_BCN, sfreq, np.random.default_rng([seed, 5]))
    return Perturbed(changed[:, picks], picks)


def _spectrum(signal_BCN: Signal, sfreq: float) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    coefficients: NDArray[Any] = rfft(np.asarray(signal_BCN, np.float64), axis=-1)
    return np.asarray(coefficients, np.complex128), rfftfreq(signal_BCN.shape[-1], 1.0 / sfreq)


def _aperiodic_power(coefficients: NDArray[np.complex128], freqs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power of the fitted aperiodic part at every frequency; at 0 Hz that of the lowest above."""
    fitted = fit_aperiodic(np.square(np.abs(coefficients)), freqs)
    return fitted.power(np.maximum(freqs, freqs[1]))
