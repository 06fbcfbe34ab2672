"""Spectra and topographies of the classes of a task, from the recordings themselves.

Shape letters: B batch, C channels, N samples.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emeg.errors import RecordingError
from emeg.evaluation.comparisons import MIN_SUBJECTS
from emeg.evaluation.protocol.probing import spread_windows
from emeg.evaluation.protocol.products import GridTask
from emeg.reports.grid_plots import Curve, class_spectra, topographies
from emeg.reports.markup import Figure, Picture
from emeg.reports.sections.comparison import WITH_CLASSES
from emeg.sensors import Sensors, sensor_keys, shared_sensors, topographic_xy
from emeg.sensors.shared import SensorKey
from emeg.store import Store, open_recording, read_catalog
from emeg.store.catalog.parquet import table_of

MOST_WINDOWS = 360
"""Most windows of a task that are read."""
MOST_DEVICES = 4
"""Most devices of a task that are drawn, those with most subjects first."""
MOST_CLASSES = 6
"""Most classes that are drawn apart; with more, all windows are drawn together."""
BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0)}
"""Bands of the topographies, Hz."""
HIGHEST_HZ = 90.0
"""Highest frequency that is drawn, below the pass band's edge."""
LONGEST_S = 2.0
"""Longest stretch of one Fourier transform."""
KINDS = ("EEG", "magnetometers", "gradiometers", "SEEG contacts", "ECoG electrodes", "DBS contacts")
"""Sensors by `SensorType`."""
FEWEST_SENSORS = 3
"""Fewest shared sensors of a topography."""


class Signals(NamedTuple):
    """Pictures of the signals of one task, and their numbers."""

    pictures: list[Picture]
    figures: list[Figure]
    missing: str = ""
    """Why there are none, or what is left out."""


class _Windows(NamedTuple):
    recordings: NDArray[np.str_]
    starts: NDArray[np.int64]
    subjects: NDArray[np.str_]
    labels: NDArray[np.float64]


class _Measured(NamedTuple):
    """Levels of the windows of one device and sensor type, in dB."""

    device: str
    kind: str
    unit: str
    sensors: Sensors
    """Sensors that all recordings share; empty if they share none, as with electrodes in the brain."""
    freqs: NDArray[np.float64]
    level: NDArray[np.float64]
    """Shape (windows, channels, frequencies); without shared sensors the median over those of the recording."""
    subjects: NDArray[np.str_]
    labels: NDArray[np.float64]


def signals_of(store: Store, task: GridTask, evaluation: str, predictions: pa.Table | None) -> Signals:
    """Draw the spectrum of every class and the topography of its difference to the others, for each device.

    Windows are those that were tested, spread over subjects and classes.

    Parameters
    ----------
    store : Store
        Holds the recordings.
    task : GridTask
    evaluation : str
        Name of the evaluation.
    predictions : Table or None
        ``predictions.parquet`` of the evaluation.
    """
    windows = _windows(store, task, evaluation, predictions)
    if windows is None:
        return Signals([], [], "The evaluation does not hold its windows, so that no signal is drawn.")
    length_s = float(task.definition.get("window", {}).get("length_s") or LONGEST_S)
    measured, lost = _measure(store, windows, length_s)
    notes = [f"{lost} recordings are no longer in the store"] if lost else []
    if not measured:
        return Signals([], [], f"No signal is drawn: {'; '.join(notes) or 'no window could be read'}.")
    devices = list(dict.fromkeys(one.device for one in measured))
    if len(devices) > MOST_DEVICES:
        notes.append(f"devices not drawn: {', '.join(devices[MOST_DEVICES:])}")
    pictures, figures = [], []
    for one in measured:
        if one.device in devices[:MOST_DEVICES]:
            drawn = [_spectra(task, evaluation, one)]
            if len(one.sensors) >= FEWEST_SENSORS:
                drawn.append(_maps(task, evaluation, one))
            for picture, own in drawn:
                pictures.append(picture)
                figures += own
    return Signals(pictures, figures, f"Not all is drawn: {'; '.join(notes)}." if notes else "")


def _windows(store: Store, task: GridTask, evaluation: str, predictions: pa.Table | None) -> _Windows | None:
    """Return some tested windows with their labels; those of the splits, without labels, where there are none."""
    columns = ["recording", "start", "subject", "label"]
    real = (pc.field("task") == task.id) & (pc.field("labels") == "real")
    table = None if predictions is None else predictions.filter(real)
    if not table and store.exists("evaluations", evaluation, "splits.parquet"):
        table = table_of(store.read_bytes("evaluations", evaluation, "splits.parquet"))
        table = table.filter(pc.field("task") == task.id)
        table = table.append_column("label", pa.array(np.zeros(len(table))))
    if not table:
        return None
    rows = table.select(columns).group_by(columns[:2]).aggregate([("subject", "min"), ("label", "min")])
    rows = rows.sort_by([("recording", "ascending"), ("start", "ascending")])
    subjects, labels = np.array(rows["subject_min"].to_pylist(), str), rows["label_min"].to_numpy()
    groups = labels.astype(np.int64) if _has_classes(task) else np.zeros(len(labels), np.int64)
    kept = spread_windows(subjects, groups, MOST_WINDOWS)
    recordings = np.array(rows["recording"].to_pylist(), str)
    return _Windows(recordings[kept], rows["start"].to_numpy()[kept], subjects[kept], labels[kept])


def _has_classes(task: GridTask) -> bool:
    return task.kind in WITH_CLASSES and len(task.classes) <= MOST_CLASSES


def _measure(store: Store, windows: _Windows, length_s: float) -> tuple[list[_Measured], int]:
    """Return levels by device and sensor type, devices with most subjects first, and the number of lost recordings."""
    devices: dict[str, list[tuple[Sensors, NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]]]
    devices = defaultdict(list)
    lost = 0
    catalog = {row.recording: row.device for row in read_catalog(store)}
    for name in np.unique(windows.recordings).tolist():
        rows = np.flatnonzero(windows.recordings == name)
        if name not in catalog:
            lost += 1
            continue
        recording = open_recording(store, name)
        n_samples = round(length_s * recording.sfreq)
        inside = rows[windows.starts[rows] + n_samples <= recording.n_samples]
        if not len(inside):
            continue
        try:
            signal_BCN = np.stack([recording.read(int(s), int(s) + n_samples) for s in windows.starts[inside]])
        except RecordingError:
            lost += 1
            continue
        freqs, level = _levels(signal_BCN, recording.sfreq)
        devices[catalog[name]].append((recording.sensors, freqs, level, inside))
    found = []
    for device, parts in sorted(devices.items(), key=lambda item: -len(_subjects(windows, item[1]))):
        found += _by_kind(device, parts, windows)
    return found, lost


def _subjects(windows: _Windows, parts: Sequence[tuple[Any, Any, Any, NDArray[np.intp]]]) -> set[str]:
    return {str(name) for *_, rows in parts for name in windows.subjects[rows]}


def _levels(signal_BCN: NDArray[np.float32], sfreq: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frequencies and the power density in dB of each window and channel, by Welch's method."""
    from scipy.signal import welch

    n = min(signal_BCN.shape[-1], round(LONGEST_S * sfreq))
    freqs, power = welch(signal_BCN.astype(np.float64), sfreq, nperseg=n, axis=-1)
    kept = (freqs >= 1.0) & (freqs <= HIGHEST_HZ)
    return freqs[kept], 10.0 * np.log10(np.maximum(power[..., kept], 1e-40))


def _by_kind(
    device: str, parts: Sequence[tuple[Sensors, NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]],
    windows: _Windows,
) -> list[_Measured]:  # fmt: skip
    """Return the levels of a device apart by sensor type and unit, of the channels that all recordings share."""
    found = []
    for kind, unit in sorted({key for sensors, *_ in parts for key in _kinds(sensors)}):
        own = [part for part in parts if (kind, unit) in _kinds(part[0])]
        first = own[0][0]
        of_kind = {key for key, one in zip(sensor_keys(first), _kinds(first), strict=True) if one == (kind, unit)}
        keys = [key for key in shared_sensors([sensors for sensors, *_ in own]) if key in of_kind]
        shared = first.take([sensor_keys(first).index(key) for key in keys])
        level = np.concatenate([_level_of(sensors, level, keys, (kind, unit)) for sensors, _, level, _ in own])
        rows = np.concatenate([rows for *_, rows in own])
        found.append(
            _Measured(
                device, KINDS[kind], unit, shared, parts[0][1], level, windows.subjects[rows], windows.labels[rows]
            )
        )
    return found


def _kinds(sensors: Sensors) -> list[tuple[int, str]]:
    """Return sensor type and unit of every channel."""
    return list(zip(sensors.types.tolist(), sensors.units, strict=True))


def _level_of(
    sensors: Sensors, level: NDArray[np.float64], keys: Sequence[SensorKey], kind: tuple[int, str]
) -> NDArray[np.float64]:
    """Return the levels of some channels of a recording; without keys the median over those of a type."""
    if keys:
        return level[:, [sensor_keys(sensors).index(key) for key in keys]]
    own = np.array([one == kind for one in _kinds(sensors)])
    return np.median(level[:, own], axis=1, keepdims=True)


def _spectra(task: GridTask, evaluation: str, one: _Measured) -> tuple[Picture, list[Figure]]:
    """Draw the mean spectrum of every class: median over channels, mean and 95 % interval over subjects."""
    middle = np.median(one.level, axis=1)
    groups = _groups(task, one.labels)
    curves: dict[str, Curve] = {}
    figures = []
    counts = []
    for name, rows in groups.items():
        by_subject = _subject_means(middle, one.subjects, rows)
        curve = _curve(by_subject)
        curves[name] = curve
        subjects = "subject" if len(by_subject) == 1 else "subjects"
        counts.append(f"{name} {len(by_subject)} {subjects}, {int(rows.sum())} windows")
        figures += [
            Figure("spectra", evaluation, task.id, f"{one.device}, {one.kind}, {name}", f"{freq:g} Hz",
                   f"dB re 1 {one.unit}²/Hz", float(curve.mean[k]), _finite(curve.low[k]), _finite(curve.high[k]),
                   len(by_subject))
            for k, freq in enumerate(one.freqs)
        ]  # fmt: skip
    sensors = f"{len(one.sensors)} {one.kind}" if len(one.sensors) else f"the {one.kind} of each recording"
    alt = (
        f"Spectra of {', '.join(curves)} on {one.device}, {sensors}, 1 to {one.freqs[-1]:g} Hz:"
        f" {'; '.join(_peaks(one.freqs, curves))}."
    )
    caption = (
        f"Median over {sensors}; mean over subjects, with its 95 % interval from {MIN_SUBJECTS}"
        f" subjects on. {'; '.join(counts)}."
    )
    svg = class_spectra(one.freqs, curves, f"{one.device}, {one.kind}", f"dB re 1 {one.unit}²/Hz")
    return Picture(svg, alt, caption), figures


def _peaks(freqs: NDArray[np.float64], curves: Mapping[str, Curve]) -> list[str]:
    """Return the level of every class in the middle of each band, as text."""
    return [
        f"{name} " + ", ".join(f"{_band(freqs, curve.mean, band):.1f} dB in {band}" for band in BANDS)
        for name, curve in curves.items()
    ]


def _band(freqs: NDArray[np.float64], level: NDArray[np.float64], band: str) -> Any:  # noqa: ANN401 - array or number
    low, high = BANDS[band]
    return level[..., (freqs >= low) & (freqs < high)].mean(axis=-1)


def _groups(task: GridTask, labels: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Return the windows of every class; of the upper and lower half of a target; else all windows."""
    if _has_classes(task):
        found = {name: labels == k for k, name in enumerate(task.classes)}
        return {name: rows for name, rows in found.items() if rows.any()}
    if task.kind == "regression" and np.ptp(labels) > 0:
        middle = float(np.median(labels))
        return {f"target ≤ {middle:g}": labels <= middle, f"target > {middle:g}": labels > middle}
    return {"all windows": np.ones(len(labels), bool)}


def _subject_means(
    values: NDArray[np.float64], subjects: NDArray[np.str_], rows: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean of the chosen windows of every subject that has some."""
    names = np.unique(subjects[rows])
    return np.stack([values[rows & (subjects == name)].mean(axis=0) for name in names])


def _curve(by_subject: NDArray[np.float64]) -> Curve:
    """Return mean and 95 % interval over subjects, by Student's t."""
    from scipy.stats import t

    mean = by_subject.mean(axis=0)
    n = len(by_subject)
    if n < MIN_SUBJECTS:
        nothing = np.full_like(mean, np.nan)
        return Curve(mean, nothing, nothing)
    half = t.ppf(0.975, n - 1) * by_subject.std(axis=0, ddof=1) / np.sqrt(n)
    return Curve(mean, mean - half, mean + half)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _maps(task: GridTask, evaluation: str, one: _Measured) -> tuple[Picture, list[Figure]]:
    """Draw the difference of every class to the others by band; relative power where there is one group."""
    by_band = {band: _band(one.freqs, one.level, band) for band in BANDS if _covers(one.freqs, band)}
    contrasts, what = _contrasts(_groups(task, one.labels), by_band, one.subjects)
    values = np.concatenate([value for own in contrasts.values() for value in own.values()])
    limit = float(np.abs(values).max()) or 1.0
    is_inside = bool(one.sensors.is_intracranial.any())
    svg = topographies(topographic_xy(one.sensors), contrasts, "dB", limit, as_dots=is_inside)
    strongest = [
        f"{contrast}: {band} {own[band].mean():+.1f} dB on average, strongest at"
        f" {one.sensors.names[int(np.abs(own[band]).argmax())]} ({own[band][np.abs(own[band]).argmax()]:+.1f} dB)"
        for contrast, own in contrasts.items()
        for band in own
    ]
    alt = f"Topographies on {one.device}, {len(one.sensors)} {one.kind}, {what}. {'; '.join(strongest)}."
    figures = [
        Figure("topographies", evaluation, task.id, f"{one.device}, {one.kind}, {contrast}, {band}", channel, "dB",
               float(value), n=len(np.unique(one.subjects)))
        for contrast, own in contrasts.items()
        for band, channels in own.items()
        for channel, value in zip(one.sensors.names, channels, strict=True)
    ]  # fmt: skip
    caption = f"{one.device}, {one.kind}: {what}; {len(np.unique(one.subjects))} subjects."
    return Picture(svg, alt, caption), figures


def _covers(freqs: NDArray[np.float64], band: str) -> bool:
    low, high = BANDS[band]
    return bool(((freqs >= low) & (freqs < high)).any())


def _contrasts(
    groups: Mapping[str, NDArray[np.bool_]], by_band: Mapping[str, NDArray[np.float64]], subjects: NDArray[np.str_]
) -> tuple[dict[str, dict[str, NDArray[np.float64]]], str]:
    """Return maps by contrast and band: mean over subjects, paired where subjects have several groups."""
    if len(groups) < 2:
        every = next(iter(groups.values()))
        maps = {band: _subject_means(value, subjects, every).mean(axis=0) for band, value in by_band.items()}
        return {"all windows": {band: own - own.mean() for band, own in maps.items()}}, "level above the mean channel"
    names = list(groups)
    pairs = {f"{names[1]} − {names[0]}": (groups[names[1]], groups[names[0]])}
    if len(names) > 2:
        pairs = {f"{name} − others": (rows, ~rows) for name, rows in groups.items()}
    found = {
        contrast: {band: _difference(value, subjects, *rows) for band, value in by_band.items()}
        for contrast, rows in pairs.items()
    }
    return found, "difference of levels by band, mean over subjects"


def _difference(
    values: NDArray[np.float64], subjects: NDArray[np.str_], first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the mean difference of two groups of windows, within subjects where subjects have both."""
    both = sorted(set(subjects[first].tolist()) & set(subjects[second].tolist()))
    if both:
        own = np.isin(subjects, both)
        first, second = first & own, second & own
    a, b = (_subject_means(values, subjects, rows).mean(axis=0) for rows in (first, second))
    return np.asarray(a - b, np.float64)
