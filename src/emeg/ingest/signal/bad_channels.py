"""Check that a signal has a brain's amplitude in its unit, and find the channels that cannot be used.

All measures are taken of the standardised signal (0.1-96 Hz, 256 Hz), by sensor type, and are deterministic.

Shape letters: C channels, N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.ingest.channel_rows import ChannelRows
from emeg.ingest.signal.pieces import Span, divide, piece_deviations
from emeg.sensors import Sensors, SensorType
from emeg.store import BadReason

FIRST_OPM_COIL = 8000
"""FIFF coil ids of optically pumped magnetometers are 8001 to 8999."""


Signal = NDArray[np.float32] | ChannelRows
"""Table (channel, sample), which functions read one channel after another."""


class Gate(NamedTuple):
    """Plausible range of a type's median standard deviation, in the unit of the type."""

    label: str
    unit: str
    low: float
    high: float
    typical: float
    alike: bool = True
    """Whether neighbours record much the same, so that a channel without correlation is bad."""


EEG_GATE = Gate("EEG", "V", 2e-7, 1e-3, 1e-5)
"""Scalp EEG of 0.1-96 Hz has 2 to 100 µV; amplifier tests, infants and open electrodes reach hundreds."""
SQUID_GATE = Gate("magnetometers", "T", 5e-15, 1e-10, 3e-13)
"""SQUID magnetometers: 50 fT in an empty room to tens of pT beside moving iron; their own noise is 5 fT at least."""
OPM_GATE = Gate("optically pumped magnetometers", "T", 2e-14, 5e-9, 1e-11)
"""OPMs measure the room's field too, some nT when the head moves."""
PLANAR_GATE = Gate("gradiometers", "T/m", 1e-13, 2e-9, 5e-12)
AXIAL_GATE = Gate("axial gradiometers", "T", 5e-15, 1e-10, 2e-13)
SEEG_GATE = Gate("SEEG", "V", 5e-7, 5e-3, 5e-5, alike=False)
ECOG_GATE = Gate("ECOG", "V", 5e-7, 5e-3, 5e-5, alike=False)
DBS_GATE = Gate("DBS", "V", 2e-7, 5e-3, 1e-5, alike=False)
"""Contacts in cortex have 20 to 300 µV, with epileptic discharges of mV; in white matter and deep nuclei some µV. Two
contacts at 5 mm may lie in different tissue."""

MIN_CHANNELS = 8
"""Least number of channels of a type for a comparison among them."""
MIN_SECONDS = 4
"""Least duration for estimates of noise and correlation, s."""

FLAT_SHARE = 1e-3
"""Share of the type's median deviation below which a channel is flat (broken lead, sensor off, SSS remnant)."""
OUTLIER_Z = 6.0
OUTLIER_MAD_FLOOR = 0.25
"""Smallest spread of the logarithm of the deviation that is assumed: even caps have channels that differ by 28 %."""
HIGH_FREQUENCY_HZ = 30.0
CORRELATION_MIN = 0.3
"""Healthy channels of real caps and helmets reach 0.5 to 0.97 with a neighbour; unrelated 1/f signals reach 0.2 by
chance within ten seconds."""
N_NEIGHBOURS = 6
CORRELATION_WINDOW_S = 10
NOISY_SECOND = 8.0
"""Multiple of the channel's median deviation from which a second is marked as noisy."""
SAME_SIGNAL_CORRELATION = 0.99


@dataclass(frozen=True)
class BadChannels:
    """Reasons by channel, uint8 of `BadReason` bits, shape (C,), and words for the catalogue."""

    reasons: NDArray[np.uint8]
    notes: tuple[str, ...]

    @property
    def indices(self) -> NDArray[np.intp]:
        """Channels with a reason."""
        return np.flatnonzero(self.reasons)


def refuse_nan(signal_CN: Signal, sensors: Sensors) -> None:
    """Refuse a recording with NaN or infinity in a channel that would be used.

    Raises
    ------
    RecordingError
        With the number of samples and the first channel.
    """
    broken_C = np.array([int(np.count_nonzero(~np.isfinite(row))) for row in signal_CN])
    if broken_C.any():
        first = sensors.names[int(np.flatnonzero(broken_C)[0])]
        raise RecordingError(
            f"{int(broken_C.sum())} samples in {int(np.count_nonzero(broken_C))} of {len(broken_C)} channels are NaN or"
            f" infinite, first in {first!r}",
            stage="signal",
            next_action="repair the file, or mark the channels in channels.tsv as MISC",
        )


def refuse_amplitude(
    signal_CN: Signal, sensors: Sensors, flat_C: NDArray[np.bool_], spans: Sequence[Span] = ()
) -> None:
    """Refuse a recording whose amplitude shows that its unit is wrong.

    Parameters
    ----------
    signal_CN : float32, shape (C, N)
        Standardised.
    sensors : Sensors
    flat_C : bool, shape (C,)
        Channels that are left out.
    spans : sequence of Span
        Samples that were recorded; all of them by default.

    Raises
    ------
    RecordingError
        Every channel is flat, or the median standard deviation of a type lies outside its gate.
    """
    deviation_C = _deviation(signal_CN, spans)
    if flat_C.all():
        raise RecordingError(
            f"all {len(flat_C)} channels are flat: the recording holds no signal",
            stage="signal",
            next_action="check that the amplifier was connected",
        )
    for gate, members_C in gates(sensors):
        live_C = members_C & ~flat_C
        if live_C.any():
            _check_gate(gate, float(np.median(deviation_C[live_C])), int(live_C.sum()))


def _check_gate(gate: Gate, median: float, n: int) -> None:
    if gate.low <= median <= gate.high:
        return
    if not np.isfinite(median):
        raise RecordingError(
            f"numbers of {n} {gate.label} channels are too large for single precision to hold when filtered, so the"
            f" file's unit or its numbers are wrong",
            stage="signal",
            next_action="state the true unit in the file or convert it",
        )
    thousands = round(np.log10(max(median, 1e-300) / gate.typical) / 3.0)
    factor = f" by a factor near 1{',000' * abs(thousands)}" if thousands else ""
    side = "small" if median < gate.low else "large"
    raise RecordingError(
        f"the median standard deviation of {n} {gate.label} channels is {_with_unit(median, gate.unit)}, plausible are"
        f" {_with_unit(gate.low, gate.unit)} to {_with_unit(gate.high, gate.unit)}: numbers too {side}{factor}, so the"
        f" file's unit is probably wrong",
        stage="signal",
        next_action="state the true unit in the file or convert it",
    )


def _with_unit(value: float, unit: str) -> str:
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def gates(sensors: Sensors) -> list[tuple[Gate, NDArray[np.bool_]]]:
    """Return every gate, and which sensors it is for, bool, shape (channels,)."""
    opm_C = (sensors.coils > FIRST_OPM_COIL) & (sensors.coils < FIRST_OPM_COIL + 1000)
    magnetometer_C = sensors.types == SensorType.MAGNETOMETER
    gradiometer_C = sensors.types == SensorType.GRADIOMETER
    planar_C = np.array([unit == "T/m" for unit in sensors.units], np.bool_)
    return [
        (EEG_GATE, sensors.types == SensorType.EEG),
        (SQUID_GATE, magnetometer_C & ~opm_C),
        (OPM_GATE, magnetometer_C & opm_C),
        (PLANAR_GATE, gradiometer_C & planar_C),
        (AXIAL_GATE, gradiometer_C & ~planar_C),
        (SEEG_GATE, sensors.types == SensorType.SEEG),
        (ECOG_GATE, sensors.types == SensorType.ECOG),
        (DBS_GATE, sensors.types == SensorType.DBS),
    ]


def _deviation(signal_CN: Signal, spans: Sequence[Span]) -> NDArray[np.float64]:
    # Row by row: squares of teslas underflow float32, and a whole copy in float64 would double the memory.
    with np.errstate(over="ignore", invalid="ignore"):  # infinite where single precision ran over: refused as such
        return np.array([_recorded(row, spans).astype(np.float64).std() for row in signal_CN])


def _recorded(row_N: NDArray[np.float32], spans: Sequence[Span]) -> NDArray[np.float32]:
    """Return the samples of a channel without those that fill pauses."""
    if sum(span.stop - span.start for span in spans) in {0, len(row_N)}:
        return row_N
    return np.concatenate([row_N[span.start : span.stop] for span in spans])


def flat_channels(
    source_CN: Signal, signal_CN: Signal, sensors: Sensors, spans: Sequence[Span] = ()
) -> NDArray[np.bool_]:
    """Find channels without a signal: constant in the source, or far below their type's median.

    Parameters
    ----------
    source_CN, signal_CN : float32, shape (channels, samples)
        Before and after standardising, in V, T or T/m.
    sensors : Sensors
    spans : sequence of Span
        Samples of `signal_CN` that were recorded; all of them by default.

    Returns
    -------
    bool, shape (channels,)
    """
    flat_C = np.array([bool(np.ptp(row) == 0.0) for row in source_CN])
    deviation_C = _deviation(signal_CN, spans)
    for _, members_C in gates(sensors):
        live_C = members_C & ~flat_C
        if live_C.any():
            flat_C |= members_C & (deviation_C < FLAT_SHARE * np.median(deviation_C[live_C]))
    return flat_C


def find_bad_channels(
    signal_CN: NDArray[np.float32],
    sensors: Sensors,
    *,
    sfreq: float,
    flat_C: NDArray[np.bool_],
    marked: frozenset[str] = frozenset(),
) -> BadChannels:
    """Find the channels that cannot be used, each among those of its type.

    A channel is bad if it is flat or marked, if its deviation or its share of power above 30 Hz is far from that of its
    type (robust z of the logarithm), or if it does not correlate with any of its neighbours although others do. The
    last three need at least `MIN_CHANNELS` of a type and `MIN_SECONDS`; correlation does not judge intracranial
    electrodes.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        Standardised, in V, T or T/m.
    sensors : Sensors
    sfreq : float
        Hz.
    flat_C : bool, shape (channels,)
        Channels without a signal.
    marked : frozenset of str
        Channels that the file or its tables call bad.

    References
    ----------
    The measures follow Bigdely-Shamlo et al. 2015 (PREP, Frontiers in Neuroinformatics 9:16), in a simple form.
    """
    reasons_C = np.where(flat_C, int(BadReason.FLAT), 0).astype(np.uint8)
    notes: list[str] = []
    reasons_C[[name in marked for name in sensors.names]] |= int(BadReason.MARKED)
    seconds = signal_CN.shape[1] / sfreq
    for gate, members_C in gates(sensors):
        live = np.flatnonzero(members_C & ~flat_C)
        if len(live) < MIN_CHANNELS or seconds < MIN_SECONDS:
            continue
        measures = _measures(signal_CN[live], sensors.positions[live] if gate.alike else None, sfreq)
        for what, bad in measures.items():
            reasons_C[live[bad]] |= int(BadReason.NOISY)
            notes += [f"{sensors.names[i]}: {what} unlike the other {gate.label} channels" for i in live[bad]]
    return BadChannels(reasons_C, tuple(notes))


def _measures(
    signal_CN: NDArray[np.float32], positions_C3: NDArray[np.float64] | None, sfreq: float
) -> dict[str, NDArray[np.bool_]]:
    deviation_C = np.median(_by_window(signal_CN, round(sfreq)), axis=1)
    amplitude_C = np.abs(robust_z(np.log(np.maximum(deviation_C, 1e-300)))) > OUTLIER_Z
    noise_C = robust_z(np.log(_high_frequency_share(signal_CN, sfreq))) > OUTLIER_Z
    if positions_C3 is None:
        return {"amplitude": amplitude_C, "high frequencies": noise_C}
    correlation_C = _neighbour_correlation(signal_CN, positions_C3, sfreq)
    alone_C = (correlation_C < CORRELATION_MIN) & (robust_z(correlation_C, 0.05) < -OUTLIER_Z / 2.0)
    return {"amplitude": amplitude_C, "high frequencies": noise_C, "correlation with neighbours": alone_C}


def _by_window(signal_CN: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """Return the standard deviation in whole windows, shape (channels, windows)."""
    n = max(1, signal_CN.shape[1] // length)
    length = min(length, signal_CN.shape[1])
    return np.stack([row[: n * length].astype(np.float64).reshape(n, length).std(axis=1) for row in signal_CN])


def robust_z(values_C: NDArray[np.floating], floor: float = OUTLIER_MAD_FLOOR) -> NDArray[np.float64]:
    """Return distances from the median in units of the spread (1.4826 times the median distance, at least `floor`).

    Parameters
    ----------
    values_C : float, shape (channels,)
        Any unit.
    floor : float
        In the same unit.
    """
    centred = values_C - np.median(values_C)
    return np.asarray(centred / max(1.4826 * float(np.median(np.abs(centred))), floor), np.float64)


def _high_frequency_share(signal_CN: NDArray[np.float32], sfreq: float) -> NDArray[np.float64]:
    """Return the share of the deviation above 30 Hz, from the spectrum of one-second windows, shape (channels,)."""
    length = round(sfreq)
    n = signal_CN.shape[1] // length
    shares = []
    for row in signal_CN:
        windows = row[: n * length].astype(np.float64).reshape(n, length)
        power = (np.abs(np.fft.rfft(windows * np.hanning(length), axis=1)) ** 2).mean(axis=0)[1:]
        frequencies = np.arange(1, len(power) + 1)
        total = max(float(power.sum()), 1e-300)
        shares.append(np.sqrt(float(power[frequencies > HIGH_FREQUENCY_HZ].sum()) / total) + 1e-6)
    return np.array(shares)


def nearest(positions_C3: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the `N_NEIGHBOURS` nearest others of each sensor, or all, shape (channels, neighbours).

    Parameters
    ----------
    positions_C3 : float64, shape (channels, 3)
        m.
    """
    distance_CC = np.linalg.norm(positions_C3[:, None] - positions_C3[None], axis=2)
    np.fill_diagonal(distance_CC, np.inf)
    order: NDArray[np.intp] = np.argsort(distance_CC, axis=1, kind="stable")
    return order[:, : min(N_NEIGHBOURS, max(len(positions_C3) - 1, 0))]


def _neighbour_correlation(
    signal_CN: NDArray[np.float32], positions_C3: NDArray[np.float64], sfreq: float
) -> NDArray[np.float64]:
    """Return the largest correlation with a near sensor, median over windows of ten seconds, shape (channels,)."""
    neighbours = nearest(positions_C3)
    length = min(round(CORRELATION_WINDOW_S * sfreq), signal_CN.shape[1])
    best = []
    for start in range(0, signal_CN.shape[1] - length + 1, length):
        window_CN = signal_CN[:, start : start + length].astype(np.float64)
        window_CN -= window_CN.mean(axis=1, keepdims=True)
        norm_C = np.maximum(np.linalg.norm(window_CN, axis=1), 1e-300)
        window_CN /= norm_C[:, None]
        correlation_CC = np.abs(window_CN @ window_CN.T)
        best.append(np.take_along_axis(correlation_CC, neighbours, axis=1).max(axis=1))
    return np.asarray(np.median(best, axis=0), np.float64)


def same_signal(signal_CN: NDArray[np.float32]) -> bool:
    """Return whether all channels carry one signal, as an amplifier's test signal or a shorted cap does.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        V, T or T/m.
    """
    if len(signal_CN) < MIN_CHANNELS:
        return False
    centred_CN = signal_CN - signal_CN.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    scale_C1 = np.maximum(np.abs(centred_CN).max(axis=1, keepdims=True), 1e-30)  # squares of teslas underflow
    centred_CN /= scale_C1
    product_CC = (centred_CN @ centred_CN.T).astype(np.float64)
    norm_C = np.sqrt(np.maximum(np.diag(product_CC), 1e-300))
    return bool(np.min(np.abs(product_CC / norm_C / norm_C[:, None])) > SAME_SIGNAL_CORRELATION)


def bad_seconds(
    signal_CN: Signal,
    channels: BadChannels,
    source_marks: NDArray[np.uint8],
    *,
    sfreq: float,
    spans: Sequence[Span] = (),
) -> NDArray[np.uint8]:
    """Mark every second of every channel, uint8 of `BadReason` bits, shape (C, seconds rounded up).

    Whole channels carry their reasons throughout. A second is noisy by its deviation against the channel's median; one
    that contains a pause is, if a piece of it is.

    Parameters
    ----------
    signal_CN : float32, shape (channels, samples)
        Standardised, in V, T or T/m.
    channels : BadChannels
    source_marks : uint8, shape (channels, seconds)
        `BadReason` bits seen in the source (bool flags, dimensionless); kept for channels that are not flat.
    sfreq : float
        Hz.
    spans : sequence of Span
        Samples that were recorded without a pause; by default there is none.
    """
    length, n_samples = round(sfreq), signal_CN.shape[1]
    marks = np.repeat(channels.reasons[:, None], source_marks.shape[1], axis=1)
    pieces = divide(np.minimum(np.arange(marks.shape[1] + 1) * length, n_samples), spans or (Span(0, n_samples),))
    for c in np.flatnonzero((channels.reasons & int(BadReason.FLAT)) == 0).tolist():
        if pieces.is_divided:
            deviations = piece_deviations(signal_CN[c], pieces)
            usual = float(np.median(deviations[pieces.recorded]))
        else:
            deviations = _every_second(signal_CN[c], length)
            usual = float(np.median(deviations))
        marks[c, pieces.cells[deviations > NOISY_SECOND * usual]] |= int(BadReason.NOISY)
        marks[c] |= source_marks[c]
    return marks


def _every_second(row_N: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """Return the standard deviation of every second, the last and shorter one included."""
    whole = len(row_N) // length * length
    deviations = row_N[:whole].astype(np.float64).reshape(-1, length).std(axis=1)
    rest = row_N[whole:].astype(np.float64)
    return np.append(deviations, rest.std()) if len(rest) else deviations
