"""Compare event times of real files after ingest with MNE-Python's reading of the source, by onset and by signal.

The expected onsets come from the events table of the recording, or from MNE's reading of the file's markers if there is
no table. The expected clock times are MNE's marker samples divided by the sampling rate. MNE rounds markers that lie
between samples, so these times can be wrong by up to half a source sample. The delay of the signal is the slope of the
phase between the stored signal and a cubic spline through the source's samples, in two seconds around events, from 2 to
30 Hz.

Shape letters: C channels, N samples.
"""

import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
from scipy.interpolate import CubicSpline

from emeg.ingest import IngestConfig, ingest, list_sources
from emeg.store import CatalogRow, Recording, Store, open_recording, read_catalog
from emeg.store.catalog.tables import read_events

SFREQ = 256.0
SUFFIXES = {".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".mff", ".raw", ".sqd", ".ds"}
AROUND_S, BAND_HZ, MOST_EVENTS = 1.0, (2.0, 30.0), 50


def latencies(data: Path) -> dict[str, float]:
    """Return the largest differences over all recordings with events, in samples of 256 Hz."""
    onsets: list[float] = []
    clocks: list[float] = []
    source_clocks: list[float] = []
    delays: list[float] = []
    n_events = n_lost = 0
    for source, row, recording, stored in _recordings(data):
        read = mne.io.read_raw_egi if source.suffix == ".raw" else mne.io.read_raw
        raw = read(source, verbose="ERROR")
        expected, clock = _source_events(raw, source)
        inside = expected[(expected >= 0.0) & (expected < raw.n_times / raw.info["sfreq"])]
        n_events, n_lost = n_events + len(inside), n_lost + abs(len(inside) - len(stored))
        if len(inside) == len(stored):
            onsets.append(float(np.abs(stored - inside).max() * SFREQ))
        if len(clock) == len(stored):
            clocks.append(float(np.abs(stored - clock).max() * SFREQ))
            source_clocks.append(float(np.abs(stored - clock).max() * raw.info["sfreq"]))
        delay = _delay(recording, raw, row, stored)
        delays += [abs(delay) * SFREQ] if delay is not None else []
    return {
        "event_onset_samples": round(max(onsets), 6),
        "event_clock_samples": round(max(clocks), 4),
        "event_clock_source_samples": round(max(source_clocks), 4),
        "event_signal_samples": round(max(delays), 4),
        "n_events": n_events,
        "n_events_lost": n_lost,
        "n_event_files": len(onsets),
        "n_clock_files": len(clocks),
        "n_signal_files": len(delays),
    }


def _recordings(data: Path) -> Iterator[tuple[Path, CatalogRow, Recording, np.ndarray]]:
    """Ingest the archives and yield every recording that has events and a file that MNE recognises by its suffix."""
    with tempfile.TemporaryDirectory() as folder:
        for archive in ("oddball", "ssvep", "arithmetic", "motor-imagery", "devices"):
            root = f"{folder}/{archive}"
            config = IngestConfig(archive=str(data / archive), root=root, workers=0)
            ingest(config)
            store, paths = Store.open(root), {source.shown: source.path for source in list_sources(config)}
            for row in read_catalog(store):
                source = data / archive / paths[row.source]
                onsets = np.array([event.onset_s for event in read_events(store, row.recording)])
                if len(onsets) and source.suffix.lower() in SUFFIXES:
                    yield source, row, open_recording(store, row.recording), np.sort(onsets)


def _source_events(raw: mne.io.BaseRaw, source: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the source's onsets by its table or markers, and by sample number, in seconds after the first sample.

    The second array is empty for a table without a column of samples.
    """
    sfreq = float(raw.info["sfreq"])
    table = source.with_name(source.stem.rsplit("_", 1)[0] + "_events.tsv")
    if table.is_file():
        with table.open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t") if row["onset"] != "n/a"]
        if rows:
            samples = [row["sample"] for row in rows if row.get("sample", "n/a") != "n/a"]
            return np.sort([float(row["onset"]) for row in rows]), np.sort(np.array(samples, float)) / sfreq
    if len(raw.annotations):
        events, _ = mne.events_from_annotations(raw, regexp=None, verbose="ERROR")
        clock = (events[:, 0] - raw.first_samp) / sfreq
        return np.sort(raw.annotations.onset - raw.first_time), np.sort(clock)
    stim = _stim_channels(raw)
    status = {"mask": 0xFFFF, "mask_type": "and"} if stim[0].lower() == "status" else {}
    named = next((name for name in ("STI101", "STI 014", "STI014") if name in stim), stim[0])
    events = mne.find_events(raw, named, shortest_event=1, verbose="ERROR", **status)
    clock = (events[:, 0] - raw.first_samp) / sfreq
    return np.sort(clock), np.sort(clock)


def _stim_channels(raw: mne.io.BaseRaw) -> list[str]:
    """Return the stim channels; in EDF, where MNE reads trigger channels as microvolts, restore their codes first."""
    stim = [raw.ch_names[i] for i in mne.pick_types(raw.info, meg=False, stim=True)]
    if not stim:
        stim = [name for name in raw.ch_names if "TRIG" in name.upper()]
        raw.load_data(verbose="ERROR")
        raw.apply_function(lambda volts_N: np.round(1e6 * volts_N), picks=stim)
        raw.set_channel_types(dict.fromkeys(stim, "stim"), on_unit_change="ignore", verbose="ERROR")
    return stim


def _delay(recording: Recording, raw: mne.io.BaseRaw, row: CatalogRow, onsets: np.ndarray) -> float | None:
    """Return the delay of the stored signal after the source's around events, in seconds.

    Channels that are bad or interpolated are left out. `None` if nothing can be compared.
    """
    replaced = {*row.bad_channels, *row.interpolated}
    names = [name for name in recording.sensors.names if name in raw.ch_names and name not in replaced]
    rows = [list(recording.sensors.names).index(name) for name in names]
    half = round(AROUND_S * SFREQ)
    centres = np.round(onsets * SFREQ).astype(int)
    centres = centres[(centres >= half) & (centres < recording.n_samples - half)]
    middle = recording.n_samples // 2
    if not len(centres):  # all events lie too close to an end
        centres = np.array([middle] if recording.n_samples > 2 * half else [], int)
    if not names or not len(centres):
        return None
    centres = centres[np.linspace(0, len(centres) - 1, min(MOST_EVENTS, len(centres))).astype(int)]
    source_CN = raw.get_data(picks=names)
    spline = CubicSpline(np.arange(raw.n_times) / float(raw.info["sfreq"]), source_CN, axis=1)
    frequencies = np.fft.rfftfreq(2 * half, 1 / SFREQ)
    low, high = max(BAND_HZ[0], 2 * row.pass_band_low), min(BAND_HZ[1], row.pass_band_high)
    band = (frequencies >= low) & (frequencies <= high)
    window, cross = np.hanning(2 * half), np.zeros(int(band.sum()), complex)
    for centre in centres:
        times = np.arange(centre - half, centre + half)
        ours = _spectrum(recording.read(times[0], times[-1] + 1)[rows], window)[:, band]
        theirs = _spectrum(spline(times / SFREQ), window)[:, band]
        scale = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        live = scale > 0
        cross += np.sum((ours * theirs.conj())[live] / scale[live, None], axis=0)
    angle, weight = np.angle(cross), np.abs(cross)
    turning = 2 * np.pi * frequencies[band]
    return float(-np.sum(weight * angle * turning) / np.sum(weight * turning**2))


def _spectrum(signal_CN: np.ndarray, window: np.ndarray) -> np.ndarray:
    centred = signal_CN - signal_CN.mean(axis=1, keepdims=True)
    return np.fft.rfft(centred * window, axis=1)
