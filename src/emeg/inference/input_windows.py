"""Convert Epochs, Raw, or arrays with an info to windows at the model's rate, in V, T and T/m.

Shape letters: B batch, C channels, N samples.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.dsp.response import Band, plan_band
from emeg.dsp.standardise import standardise
from emeg.errors import UserError
from emeg.sensors import PickedSensors, Sensors, SensorType, check_geometry, sensors_from_info
from emeg.sensors.layout import INTRACRANIAL_TYPES

if TYPE_CHECKING:
    import mne

logger = logging.getLogger(__name__)

SFREQ = 256.0
L_FREQ, H_FREQ = 0.1, 96.0
"""Rate and pass band that the networks are trained on (arXiv 2505.18185, section on data)."""

Unit = Literal["V", "mV", "uV", "nV"]
"""Units of EEG in arrays."""
UNIT_FACTORS: dict[Unit, float] = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "nV": 1e-9}
"""Volts in each unit."""


NETWORK_WINDOW_S = 2.0
"""Length of one window of the tokenizer, s; shorter windows are padded with zeros up to it."""
SHORTEST_WINDOW_S = 0.25
"""Shortest window that is embedded, s: of a shorter one more than seven eighths would be zeros."""


class _Amplitude(NamedTuple):
    """Range of the typical standard deviation of a sensor type; outside it the signal is in another unit."""

    kind: str
    unit: str
    smallest: float
    largest: float
    others: str


_AMPLITUDES = {
    int(SensorType.EEG): _Amplitude("EEG", "V", 1e-8, 5e-3, "1e-6 if in µV"),
    int(SensorType.MAGNETOMETER): _Amplitude("magnetometers", "T", 1e-16, 1e-7, "1e-15 if in fT"),
    int(SensorType.GRADIOMETER): _Amplitude("gradiometers", "T/m", 1e-15, 1e-6, "1e-13 if in fT/cm"),
    **{int(kind): _Amplitude(kind.name, "V", 1e-8, 5e-2, "1e-6 if in µV") for kind in INTRACRANIAL_TYPES},
}
"""From below the noise of any amplifier or sensor to above the artefacts of a usable recording."""


class SignalWindows(NamedTuple):
    """Windows of one set of sensors."""

    signal: NDArray[np.float32]
    """(window, channel, sample), V, T or T/m, at 256 Hz."""
    sensors: Sensors


def windows_of(
    data: Any,  # noqa: ANN401 - mne.Epochs, mne.io.Raw or an array
    *,
    info: "mne.Info | None" = None,
    montage: str | None = None,
    window_s: float = 10.0,
    unit: Unit = "V",
) -> SignalWindows:
    """Convert data to the model's rate and sensors.

    A Raw is filtered as ingest does it (0.1-96 Hz, notches where ``info["line_freq"]`` is set) and cut into windows
    without overlap; the remainder at the end is left out. Epochs and arrays are usually filtered already, and too short
    for 0.1 Hz: they are only resampled, with the low-pass that this requires. Channels of ``info["bads"]`` and
    those without a known position are left out.

    Parameters
    ----------
    data : mne.Epochs, mne.io.Raw, sequence of mne.Epochs, or array of shape (window, channel, sample)
        An array needs `info`; its MEG is in T or T/m, its EEG in `unit`. scikit-learn's cross-validation makes a
        sequence of Epochs from Epochs.
    info : mne.Info, optional
        Channels and rate of an array.
    montage : str, optional
        One of MNE's montages, for electrode names that the standard set does not know.
    window_s : float
        Length of the windows of a Raw, s.
    unit : {"V", "mV", "uV", "nV"}
        Unit of EEG in an array.

    Raises
    ------
    UserError
        The data are of none of these kinds, are empty, shorter than `SHORTEST_WINDOW_S`, not finite, in another unit,
        or have no usable channel.
    RecordingError
        The sensor positions do not fit a head.
    """
    import mne

    if isinstance(data, mne.io.BaseRaw):
        _check_length(window_s, "window_s")
        picked = usable_sensors(data.info, montage)
        signal_CN = np.asarray(data.get_data(picks=picked.picks, verbose="ERROR"), np.float32)
        return SignalWindows(_cut(_filtered(_checked(signal_CN, picked), data.info), window_s), picked.sensors)
    factor = 1.0
    if isinstance(data, mne.BaseEpochs):
        info, values = data.info, data.get_data(copy=False, verbose="ERROR")
    elif isinstance(data, Sequence) and data and all(isinstance(part, mne.BaseEpochs) for part in data):
        info, values = _joined(data)
    else:
        values, factor = np.asarray(data), UNIT_FACTORS[unit]
        _check_array(values, info)
    assert info is not None  # _check_array refused an array without one
    if values.shape[-1]:
        _check_length(values.shape[-1] / float(info["sfreq"]), "X")
    picked = usable_sensors(info, montage)
    signal_BCN = np.asarray(values[:, picked.picks], np.float32)
    if factor != 1.0:
        signal_BCN = signal_BCN * np.where(picked.sensors.is_meg, 1.0, factor).astype(np.float32)[:, None]
    return SignalWindows(resample_windows(_checked(signal_BCN, picked), float(info["sfreq"])), picked.sensors)


def _joined(parts: "Sequence[mne.BaseEpochs]") -> "tuple[mne.Info, NDArray[np.float64]]":
    """Return the info and the windows of Epochs that have the same channels in the same order and the same length."""
    info = parts[0].info
    shapes = {(tuple(part.ch_names), len(part.times), float(part.info["sfreq"])) for part in parts}
    if len(shapes) > 1:
        raise UserError("X holds Epochs of different channels, lengths or rates; pass Epochs of one recording set-up")
    return info, np.concatenate([part.get_data(copy=False, verbose="ERROR") for part in parts])


def _check_length(length_s: float, name: str) -> None:
    """Refuse windows that would be little but padding; warn of those that are padded."""
    if length_s < SHORTEST_WINDOW_S:
        raise UserError(
            f"{name}: windows of {length_s:.3g} s; the network reads {NETWORK_WINDOW_S:g} s at once, and windows of at"
            f" least {SHORTEST_WINDOW_S:g} s are accepted. Give longer windows"
        )
    if length_s < NETWORK_WINDOW_S - 0.5 / SFREQ:
        logger.warning(
            "%s: windows of %.3g s are padded with zeros to the %g s that the network reads at once",
            name,
            length_s,
            NETWORK_WINDOW_S,
        )


def _check_array(values: NDArray[Any], info: "mne.Info | None") -> None:
    if values.ndim != 3 or values.dtype.kind not in "fiu":
        raise UserError(
            f"X is {values.dtype} of shape {values.shape}; pass mne.Epochs, mne.io.Raw or numbers (window, channel,"
            " sample)"
        )
    if info is None:
        raise UserError("X is an array: give its channels and rate as info=, an mne.Info")
    if values.shape[1] != len(info["ch_names"]):
        raise UserError(
            f"X has {values.shape[1]} channels, info has {len(info['ch_names'])}; pass the info of these channels"
        )


def usable_sensors(info: "mne.Info", montage: str | None = None) -> PickedSensors:
    """Select the sensors with a position that are not marked bad.

    Intracranial electrodes are selected if there is neither EEG nor MEG; their positions must be in MNI coordinates.

    Raises
    ------
    UserError
        There is none; the message gives the reasons.
    RecordingError
        The sensors cannot sit on a head.
    """
    kinds = set(info.get_channel_types(unique=True))
    intracranial = bool(kinds & {"seeg", "ecog", "dbs"}) and not kinds & {"eeg", "mag", "grad"}
    picked = sensors_from_info(info, montage=montage, intracranial=intracranial)
    good = np.array([name not in set(info["bads"]) for name in picked.sensors.names], bool)
    dropped = {name: reason for name, reason in picked.dropped.items() if "neither EEG nor MEG" not in reason}
    if dropped:
        counts = "; ".join(f"{n} channels: {reason}" for reason, n in Counter(dropped.values()).most_common(3))
        logger.info("left out %s", counts)
    if not good.any():
        reasons = "; ".join(sorted(set(picked.dropped.values()))) or "all are marked bad"
        raise UserError(
            f"no usable channel among {len(info['ch_names'])} ({reasons}); set a montage on the data, or give montage="
        )
    sensors = picked.sensors.take(good)
    check_geometry(sensors)
    return picked._replace(sensors=sensors, picks=picked.picks[good])


def _checked(signal: NDArray[np.float32], picked: PickedSensors) -> NDArray[np.float32]:
    if signal.size == 0:
        raise UserError(f"X holds no sample: shape {signal.shape}; pass windows with samples")
    if not np.isfinite(signal).all():
        channel = int(np.nonzero(~np.isfinite(signal).all(axis=-1))[-1][0])
        raise UserError(
            f"channel {picked.sensors.names[channel]!r} holds NaN or infinite values: interpolate or drop it"
        )
    check_amplitude(signal, picked.sensors.types)
    return signal


def check_amplitude(
    signal: NDArray[np.float32], types: NDArray[np.integer[Any]], *, advice: str = "or set unit="
) -> None:
    """Check that the signals of each sensor type are in V, T or T/m.

    Parameters
    ----------
    signal : float32, shape (..., channels, samples)
        V, T or T/m.
    types : int, shape (channels,)
        Codes of `SensorType`.
    advice : str
        What else the user can do about EEG; `unit` does not concern MEG.

    Raises
    ------
    UserError
        The median over channels of the standard deviation is far outside what sensors of that type record.
    """
    spread = signal.std(axis=-1, dtype=np.float64)
    for code, expected in _AMPLITUDES.items():
        own = spread[..., np.asarray(types) == code]
        own = own[own > 0]
        typical = float(np.median(own)) if own.size else None
        if typical is not None and not expected.smallest <= typical <= expected.largest:
            other = f", {advice}" if code == SensorType.EEG else ""
            raise UserError(
                f"{expected.kind} of {typical:.3g} {expected.unit}: X must be in {expected.unit}; multiply by"
                f" {expected.others}{other}"
            )


def _filtered(signal_CN: NDArray[np.float32], info: "mne.Info") -> NDArray[np.float32]:
    sfreq = float(info["sfreq"])
    lowpass = float(info["lowpass"] or 0.0)
    band = plan_band(sfreq=sfreq, l_freq=L_FREQ, h_freq=H_FREQ, lowpass=lowpass, mains=float(info["line_freq"] or 0.0))
    return standardise(signal_CN, band, sfreq_in=sfreq, sfreq_out=SFREQ)


def resample_windows(signal_BCN: NDArray[np.float32], sfreq: float) -> NDArray[np.float32]:
    """Resample windows to 256 Hz with no other filter than the low-pass that this needs.

    Parameters
    ----------
    signal_BCN : float32, shape (batch, channels, samples)
        Any unit.
    sfreq : float
        Rate, Hz.

    Returns
    -------
    float32, shape (batch, channels, samples at 256 Hz)
    """
    if sfreq == SFREQ:
        return signal_BCN
    # 0 Hz is no lower edge: only each channel's mean is removed
    band = Band(0.0, plan_band(sfreq=sfreq, l_freq=L_FREQ, h_freq=H_FREQ, lowpass=0.0, mains=0.0).high)
    flat = signal_BCN.reshape(-1, signal_BCN.shape[-1])
    return standardise(flat, band, sfreq_in=sfreq, sfreq_out=SFREQ).reshape(*signal_BCN.shape[:2], -1)


def _cut(signal_CN: NDArray[np.float32], window_s: float) -> NDArray[np.float32]:
    size = round(window_s * SFREQ)
    n = signal_CN.shape[1] // size
    if n == 0:
        raise UserError(
            f"the recording of {signal_CN.shape[1] / SFREQ:.1f} s is shorter than window_s={window_s:g};"
            " choose a shorter window_s"
        )
    return signal_CN[:, : n * size].reshape(len(signal_CN), n, size).swapaxes(0, 1)
