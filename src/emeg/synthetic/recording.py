"""Simulate a recording: sources through the leadfield, with sensor noise, drift, mains and bad channels.

Shape letters: C channels, S sources, N samples.
"""

from dataclasses import dataclass

import mne
import numpy as np
from numpy.typing import NDArray

from emeg.synthetic.activity import Activity
from emeg.synthetic.devices import OPM, VECTORVIEW_MAGNETOMETER, VECTORVIEW_PLANAR, Device, reference_rows
from emeg.synthetic.randomness import power_law

FloatArray = NDArray[np.float64]

_PLANAR_BASELINE_M = 0.0168
_AXIAL_BASELINE_M = 0.05
_SWAY_FIELD = (0.15e-12, 0.3e-12)  # rms of each component; more in the lighter shields that OPMs stand in
_SWAY_GRADIENT = 1e-12


@dataclass(frozen=True)
class BadChannels:
    """Channels simulated as bad."""

    flat: tuple[str, ...] = ()
    noisy: tuple[str, ...] = ()


def draw_bad_channels(names: tuple[str, ...], probability: float, rng: np.random.Generator) -> BadChannels:
    """Draw flat and noisy channels: 1 % of all, at least one of each kind that occurs."""
    count = max(round(0.01 * len(names)), 1)
    chosen = [names[row] for row in rng.permutation(len(names))[: 2 * count]]
    flat = chosen[:count] if rng.random() < probability else []
    noisy = chosen[count:] if rng.random() < probability else []
    return BadChannels(tuple(sorted(flat)), tuple(sorted(noisy)))


def record(
    device: Device, info: mne.Info, gain_CS: FloatArray, activity: Activity, bad: BadChannels, rng: np.random.Generator
) -> mne.io.RawArray:
    """Simulate the recording of an activity.

    Parameters
    ----------
    info : mne.Info
        From `describe_sensors`, reference electrodes included.
    gain_CS : float64, shape (channels, sources)
        Leadfield without the reference electrodes, V, T or T/m for 1 A·m.

    Returns
    -------
    mne.io.RawArray
        V, T or T/m, without the reference electrodes.
    """
    kept = np.setdiff1d(np.arange(len(info["ch_names"])), reference_rows(info))
    info = mne.pick_info(info, kept, verbose="error")
    signal_CN = gain_CS @ activity.sample(device.sfreq)
    surroundings = _field_drift_and_mains if device.datatype == "meg" else _electrode_drift_and_mains
    signal_CN += surroundings(device, info, signal_CN.shape[1], rng)
    density = np.array([device.noise_density[int(channel["coil_type"])] for channel in info["chs"]])
    noise = rng.standard_normal(signal_CN.shape, dtype=np.float32)
    signal_CN += density[:, None] * np.sqrt(device.sfreq / 2.0) * noise
    _break_channels(signal_CN, info, bad, rng)
    with info._unlock():
        info["line_freq"] = device.mains_hz
    return mne.io.RawArray(signal_CN, info, verbose="error")


def _electrode_drift_and_mains(device: Device, info: mne.Info, n_samples: int, rng: np.random.Generator) -> FloatArray:
    """Draw half-cell potentials that drift by tens of µV within a minute, and a few µV of mains."""
    n_channels = len(info["ch_names"])
    drift = 15e-6 * _slow(1, n_samples, device.sfreq, rng) + 10e-6 * _slow(n_channels, n_samples, device.sfreq, rng)
    size = 2e-6 * rng.lognormal(0.0, 0.4, n_channels)
    return drift + _mains(device, size, rng.normal(0.0, 0.3, n_channels), n_samples, rng)


def _field_drift_and_mains(device: Device, info: mne.Info, n_samples: int, rng: np.random.Generator) -> FloatArray:
    """Draw the field of distant sources inside a shielded room, and its gradient, as each coil measures them.

    Below 0.1 Hz they drift; up to about 10 Hz lifts, traffic and vibration leave a fraction of a brain's field.
    """
    uniform, gradient = _coil_patterns(info)
    rms_field, rms_gradient = (2e-12, 1e-11) if OPM in device.noise_density else (1e-12, 5e-12)
    slow = uniform @ (rms_field * _slow(3, n_samples, device.sfreq, rng))
    slow += gradient @ (rms_gradient * _slow(5, n_samples, device.sfreq, rng))
    slow += uniform @ (_SWAY_FIELD[OPM in device.noise_density] * _sway(3, n_samples, device.sfreq, rng))
    slow += gradient @ (_SWAY_GRADIENT * _sway(5, n_samples, device.sfreq, rng))
    hum = uniform @ rng.normal(0.0, 0.4e-12, 3) + gradient @ rng.normal(0.0, 2e-12, 5)
    return slow + _mains(device, hum, rng.normal(0.0, 0.1, len(hum)), n_samples, rng)


def _coil_patterns(info: mne.Info) -> tuple[FloatArray, FloatArray]:
    """Return the response of each coil to three uniform fields (C, 3) and five uniform gradients (C, 5)."""
    loc = np.array([channel["loc"] for channel in info["chs"]])
    position, first_axis, normal = loc[:, :3], loc[:, 3:6], loc[:, 9:12]
    coils = np.array([int(channel["coil_type"]) for channel in info["chs"]])
    is_magnetometer = np.isin(coils, (VECTORVIEW_MAGNETOMETER, OPM))[:, None]
    is_planar = (coils == VECTORVIEW_PLANAR)[:, None]
    # a field without sources or curl has a symmetric gradient without trace: five numbers
    tensors = np.zeros((5, 3, 3))
    for tensor, (i, j) in zip(tensors[:3], ((0, 1), (0, 2), (1, 2)), strict=True):
        tensor[i, j] = tensor[j, i] = 1.0
    tensors[3] = np.diag([1.0, -1.0, 0.0])
    tensors[4] = np.diag([-0.5, -0.5, 1.0])
    at_place = np.einsum("ci,gij,cj->cg", normal, tensors, position)
    along_first = np.einsum("ci,gij,cj->cg", normal, tensors, first_axis)
    along_normal = np.einsum("ci,gij,cj->cg", normal, tensors, normal) * _AXIAL_BASELINE_M
    gradient = np.where(is_magnetometer, at_place, np.where(is_planar, along_first, along_normal))
    # gradiometers are balanced to about one part in a thousand
    imbalance = np.where(is_planar, 1e-3 / _PLANAR_BASELINE_M, 1e-3)
    return normal * np.where(is_magnetometer, 1.0, imbalance), gradient


def _slow(n_signals: int, n_samples: int, sfreq: float, rng: np.random.Generator) -> FloatArray:
    """Draw drift (signals, samples) of unit rms: a trend and waves below 0.1 Hz that weaken with frequency."""
    time = np.arange(n_samples) / sfreq
    duration = n_samples / sfreq
    drift = rng.standard_normal((n_signals, 1)) * (2.0 * time / duration - 1.0)
    for cycles in range(1, max(int(0.08 * duration), 1) + 1):
        wave = np.exp(2j * np.pi * cycles * time / duration)
        coefficient = rng.standard_normal((n_signals, 2)) @ np.array([1.0, 1.0j]) / cycles
        drift += (coefficient[:, None] * wave).real
    return np.asarray(drift / np.sqrt((drift**2).mean()))


def _sway(n_signals: int, n_samples: int, sfreq: float, rng: np.random.Generator) -> FloatArray:
    """Draw a disturbance (signals, samples) of unit rms below 15 Hz."""
    return power_law(n_signals, n_samples, 2.0, rng, rate=sfreq, highest_hz=15.0)


def _mains(device: Device, size: FloatArray, phase: FloatArray, n_samples: int, rng: np.random.Generator) -> FloatArray:
    """Return mains (C, N) of amplitude `size` per channel, with harmonics up to the seventh below half the rate."""
    time = np.arange(n_samples) / device.sfreq
    start = rng.uniform(0.0, 2.0 * np.pi)
    total = np.zeros((len(size), n_samples))
    for harmonic in (1, 2, 3, 5, 7):
        if harmonic * device.mains_hz < 0.48 * device.sfreq:
            turn = 2.0 * np.pi * harmonic * device.mains_hz * time + harmonic * start
            # cos(a + b) as two products: two cosines per harmonic, not one per channel
            total += np.outer(size * np.cos(harmonic * phase), np.cos(turn)) / harmonic**2
            total -= np.outer(size * np.sin(harmonic * phase), np.sin(turn)) / harmonic**2
    return total


def _break_channels(signal_CN: FloatArray, info: mne.Info, bad: BadChannels, rng: np.random.Generator) -> None:
    """Make the bad channels constant, or fill them with white noise far above others of their type."""
    names = info["ch_names"]
    coils = np.array([int(channel["coil_type"]) for channel in info["chs"]])
    rms = signal_CN.std(axis=1)
    for name in bad.noisy:
        row = names.index(name)
        usual = float(np.median(rms[coils == coils[row]]))
        signal_CN[row] += rng.uniform(8.0, 15.0) * usual * rng.standard_normal(signal_CN.shape[1])
    for name in bad.flat:
        signal_CN[names.index(name)] = 0.0
