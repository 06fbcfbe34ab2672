"""Sections of the quality page: turn rows, marks and measures of a dataset into tables and plots.

Shape letters: C channels, N samples, W windows, S seconds.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.progress import Progress
from emeg.reports.quality_plots import (
    REASON_COLOURS,
    Kind,
    first_reason,
    heat_map,
    kind_name,
    reasons_over_recordings,
    thumbnail,
    type_spectra,
)
from emeg.reports.sections.archive import shorten
from emeg.store import BadReason, CatalogRow, Recording, Store, open_recording

READERS = 8
"""Recordings whose marks are read at a time; in a bucket each takes several requests."""
THUMBNAIL_S = 4.0
MOST_TRACES = 24
"""Channels of a thumbnail: marked ones first, then others spread over the recording."""
SPECTRUM_RECORDINGS = 24
"""Most recordings whose spectra are drawn, spread evenly over the dataset; one minute from the middle of each."""
SPECTRUM_S, SPECTRUM_WINDOW_S = 60.0, 4.0

REASON_WORDS = {
    BadReason.FLAT: "flat",
    BadReason.NAN: "NaN",
    BadReason.CLIPPED: "clipped",
    BadReason.BEYOND_GATE: "beyond gate",
    BadReason.NOISY: "noisy",
    BadReason.UNCORRELATED: "uncorrelated",
    BadReason.MARKED: "marked in channels.tsv or by an annotation",
    BadReason.INTERPOLATED: "interpolated",
}
SHOWN_REASONS = tuple(reason for reason in REASON_COLOURS if reason not in (BadReason.NAN, BadReason.INTERPOLATED))
"""Reasons shown. NaN is missing because such recordings are refused, interpolation because it has another reason."""


class Judged(NamedTuple):
    """A recording with the shares of its channel-seconds that are marked."""

    row: CatalogRow
    bad_share: float
    shares: dict[BadReason, float]
    """Shares by the first reason of each second; they add up to `bad_share`."""


def judge(store: Store, rows: Sequence[CatalogRow], progress: Progress) -> list[Judged]:
    """Read the marks of every recording and sort the recordings, worst first."""
    judged = []
    with ThreadPoolExecutor(READERS) as pool:
        for done, one in enumerate(pool.map(partial(_judge, store), rows), 1):
            judged.append(one)
            progress(done, 2 * len(rows), one.row.source)
    return sorted(judged, key=lambda one: (-one.bad_share, one.row.source))


def _judge(store: Store, row: CatalogRow) -> Judged:
    index_CS = first_reason(open_recording(store, row.recording).bad)
    counts = np.bincount(index_CS.ravel(), minlength=len(REASON_COLOURS) + 1) / index_CS.size
    shares = {reason: float(counts[place]) for place, reason in enumerate(REASON_COLOURS, 1)}
    return Judged(row, float(1.0 - counts[0]), shares)


def overview(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the shares by reason of all recordings, as a plot and as a table."""
    drawn = [one for one in judged if one.bad_share > 0.0] or judged[:1]
    shares = {REASON_WORDS[r]: [100.0 * one.shares[r] for one in drawn] for r in SHOWN_REASONS}
    hours = np.array([one.row.n_channels * one.row.duration_s / 3600.0 for one in judged])
    rows = [
        {
            "reason": REASON_WORDS[reason],
            "colour": REASON_COLOURS[reason],
            "recordings": sum(one.shares[reason] > 0 for one in judged),
            "hours": f"{float(hours @ [one.shares[reason] for one in judged]):.3f}",
            "share": f"{100.0 * float(hours @ [one.shares[reason] for one in judged]) / float(hours.sum()):.2f}",
        }
        for reason in SHOWN_REASONS
    ]
    drawing = reasons_over_recordings(shares, [REASON_COLOURS[reason] for reason in SHOWN_REASONS])
    return {"drawing": drawing, "rows": rows}


def table(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return one row per recording: cells as text, with the numbers by which they are sorted."""
    return [
        {
            "source": one.row.source,
            "texts": [one.row.subject, one.row.device],
            "numbers": [
                _cell(one.row.n_channels, "d"),
                _cell(one.row.duration_s, ".1f"),
                _cell(len(one.row.bad_channels), "d"),
                _cell(100.0 * one.bad_share, ".2f"),
                *(_cell(100.0 * one.shares[reason], ".2f", quiet=0.0) for reason in SHOWN_REASONS),
                _cell(one.row.mains_ratio, ".3g", least=0.01),
                _cell(one.row.high_frequency_ratio, ".3f"),
                _cell(one.row.neighbour_correlation, ".2f"),
            ],
            "bad": shorten(one.row.bad_channels),
        }
        for one in judged
    ]


def _cell(value: float | None, pattern: str, quiet: float | None = None, least: float | None = None) -> tuple[str, str]:
    if value is None:
        return "–", ""
    if least is not None and value < least:
        return f"< {least:g}", repr(float(value))
    return ("" if value == quiet else f"{value:{pattern}}"), repr(float(value))


def worst(store: Store, judged: Sequence[Judged], most: int) -> list[dict[str, str]]:
    """Draw the `most` recordings with the largest share of marked seconds: heat map and a stretch of signal."""
    return [_drawn(open_recording(store, one.row.recording), one) for one in judged[:most]]


def _drawn(recording: Recording, one: Judged) -> dict[str, str]:
    start_s = _worst_second(recording.bad)
    start = min(round(start_s * recording.sfreq), max(0, recording.n_samples - round(THUMBNAIL_S * recording.sfreq)))
    stop = min(start + round(THUMBNAIL_S * recording.sfreq), recording.n_samples)
    seconds = slice(int(start / recording.sfreq), int(np.ceil(stop / recording.sfreq)))
    index_C = first_reason(recording.bad[:, seconds]).astype(int)
    index_C = np.where(index_C == 0, len(REASON_COLOURS) + 1, index_C).min(axis=1)
    chosen, left_out = _traces(recording, index_C)
    colours = [*REASON_COLOURS.values(), None]
    names = [recording.sensors.names[c] for c in chosen]
    signal_CN = recording.read(start, stop)[chosen]
    unit = recording.sensors.units[chosen[0]]
    return {
        "title": one.row.source,
        "heat_map": heat_map(recording.bad, recording.n_samples / recording.sfreq),
        "traces": thumbnail(
            signal_CN, names, [colours[index_C[c] - 1] for c in chosen], start / recording.sfreq, recording.sfreq
        ),
        "caption": (
            f"{100.0 * one.bad_share:.1f} % of channel-seconds marked;"
            f" {len(one.row.bad_channels)} of {one.row.n_channels} channels bad"
        ),
        "traces_caption": f"{len(chosen)} channels ({unit})" + (f", {left_out} more not drawn" if left_out else ""),
    }


def _worst_second(bad_CS: NDArray[np.uint8]) -> int:
    """Return the second with the most marks, ignoring channels that are marked throughout if others are marked."""
    marked_CS = bad_CS != 0
    passing_CS = marked_CS & ~marked_CS.all(axis=1, keepdims=True)
    return int(np.argmax((passing_CS if passing_CS.any() else marked_CS).sum(axis=0)))


def _traces(recording: Recording, index_C: NDArray[np.intp]) -> tuple[list[int], int]:
    """Choose channels of the type with most marks: marked ones first, then others spread over the recording."""
    types = recording.sensors.types
    marked_C = index_C <= len(REASON_COLOURS)
    shown_type = int(np.argmax(np.bincount(types[marked_C] if marked_C.any() else types)))
    members = np.flatnonzero(types == shown_type)
    marked = np.flatnonzero(marked_C & (types == shown_type))[:MOST_TRACES]
    others = np.setdiff1d(members, marked)
    wanted = min(MOST_TRACES - len(marked), len(others))
    spread = others[np.linspace(0, len(others) - 1, wanted).astype(int)] if wanted else others[:0]
    chosen: list[int] = sorted({*marked.tolist(), *spread.tolist()})
    return chosen, len(types) - len(chosen)


class Spectra(NamedTuple):
    """Power densities by sensor type, (recordings, frequencies), on one frequency axis, Hz."""

    freqs: NDArray[np.float64]
    power: dict[Kind, NDArray[np.float64]]
    recordings: int
    """Number of recordings used."""


def measure_spectra(store: Store, rows: Sequence[CatalogRow]) -> Spectra:
    """Compute spectra of some recordings: median over channels and 4-s windows of a minute in the middle."""
    spread = sorted({round(i) for i in np.linspace(0, len(rows) - 1, min(len(rows), SPECTRUM_RECORDINGS))})
    power: dict[Kind, list[NDArray[np.float64]]] = defaultdict(list)
    freqs: NDArray[np.float64] = np.empty(0)
    for row in (rows[i] for i in spread):
        recording = open_recording(store, row.recording)
        window = round(SPECTRUM_WINDOW_S * recording.sfreq)
        if recording.n_samples < window:
            continue
        count = min(round(SPECTRUM_S / SPECTRUM_WINDOW_S), recording.n_samples // window)
        start = (recording.n_samples - count * window) // 2
        freqs = np.asarray(np.fft.rfftfreq(window, 1.0 / recording.sfreq), np.float64)
        signal_CN = recording.read(start, start + count * window)
        kinds = list(zip(recording.sensors.types.tolist(), recording.sensors.units, strict=True))
        for kind in sorted(set(kinds)):
            members = np.flatnonzero([one == kind for one in kinds] & ~_whole(recording))
            if len(members):
                windows_CWN = signal_CN[members].reshape(len(members), count, window)
                power[kind].append(_density(windows_CWN, recording.sfreq))
    kept = {kind: np.stack(spectra) for kind, spectra in sorted(power.items())}
    return Spectra(freqs, kept, len(spread))


def _whole(recording: Recording) -> NDArray[np.bool_]:
    """Return the channels that are marked throughout."""
    return np.asarray((recording.bad != 0).all(axis=1), np.bool_)


def _density(windows_CWN: NDArray[np.float32], sfreq: float) -> NDArray[np.float64]:
    hann = np.hanning(windows_CWN.shape[-1])
    spectra = np.fft.rfft(windows_CWN.astype(np.float64) * hann, axis=-1)
    power = np.abs(spectra) ** 2 * (2.0 / (sfreq * float((hann**2).sum())))
    return np.asarray(np.median(power, axis=(0, 1)), np.float64)


def spectra_section(spectra: Spectra, rows: Sequence[CatalogRow]) -> dict[str, Any]:
    """Draw the spectra, with the notches of all recordings as lines."""
    notches = sorted({notch for row in rows for notch in row.notches})
    svg = type_spectra(spectra.freqs, spectra.power, notches) if spectra.power else ""
    taken_out = ", ".join(f"{notch:g}" for notch in notches)
    note = (
        f"Standardised signal{f', {taken_out} Hz removed (dotted)' if notches else ''}: median over channels and"
        f" windows of {SPECTRUM_WINDOW_S:g} s of a minute in the middle; line: median recording, band: 5 to 95 % of"
        f" {spectra.recordings} of {len(rows)} recordings. Channels that are marked throughout are left out."
    )
    levels = "; ".join(f"{kind_name(kind)}, {_levels(spectra.freqs, power)}" for kind, power in spectra.power.items())
    return {"svg": svg, "note": note, "alt": f"Amplitude spectra by sensor type. Median recording: {levels}."}


def _levels(freqs: NDArray[np.float64], power: NDArray[np.float64]) -> str:
    """Return the amplitude of the median recording at some frequencies, as text."""
    middle = np.sqrt(np.median(power, axis=0))
    return ", ".join(f"{middle[int(np.abs(freqs - hz).argmin())]:.2g} at {hz} Hz" for hz in (1, 10, 30, 70))
