"""Signals of several sampling rates in one file: each is read at its own rate.

EDF, BDF and GDF hold a number of samples of each signal in a record. MNE-Python brings all signals of such a file to
the highest rate when they are read, piece by piece if the file is read in pieces, which shifts and stretches the
signals. This module makes a view of the open file for each rate, in which nothing needs resampling.

Shape letters: C channels, N samples.
"""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mne

_FILTER_HALF_LENGTH = 64
"""Half length of the interpolating filter, in samples of the slower rate: flat to 0.95 of its Nyquist frequency."""
_FILTER_BETA = 8.0
"""Shape of its Kaiser window: 80 dB."""


class RateGroup(NamedTuple):
    """Channels of one rate."""

    raw: "mne.io.BaseRaw"
    """The open file as if it had only these channels."""
    rows: NDArray[np.intp]
    """Which of the chosen channels they are."""


class PickedRates(NamedTuple):
    """Chosen channels of a file with signals of several rates."""

    raw: "mne.io.BaseRaw"
    """The open file with the chosen channels only, at the highest of their rates."""
    groups: tuple[RateGroup, ...]
    """The channels by rate, the highest first."""
    notes: tuple[str, ...]


def file_rates(raw: "mne.io.BaseRaw") -> NDArray[np.float64] | None:
    """Return the rate of each channel in the file, Hz, shape (channels,); None where all have one rate."""
    extras = raw._raw_extras[0] if raw._raw_extras else None
    if not isinstance(extras, dict) or not {"n_samps", "sel", "record_length", "max_samp"} <= extras.keys():
        return None
    per_record = np.asarray(extras["n_samps"])[np.asarray(extras["sel"])]
    if (per_record == extras["max_samp"]).all():
        return None
    rates_C: NDArray[np.float64] = per_record[_read_picks(raw)] * _records_per_s(extras)
    return rates_C


def _records_per_s(extras: dict[str, Any]) -> float:
    return float(extras["record_length"][1]) / float(extras["record_length"][0])


def _read_picks(raw: "mne.io.BaseRaw") -> NDArray[np.intp]:
    """Return which of the file's channels are left in an open file, in order, shape (channels,)."""
    picks: NDArray[np.intp] = np.asarray(raw._read_picks[0], np.intp)
    return picks


def correct_header_rate(raw: "mne.io.BaseRaw") -> None:
    """Set the rate of an open EDF, BDF or GDF file to that of the samples which MNE-Python makes of it.

    MNE-Python takes the rate from the signals and the number of samples from all channels; where the trigger channel
    is the fastest, they contradict each other.
    """
    if file_rates(raw) is None:
        return
    extras = raw._raw_extras[0]
    rate = float(extras["max_samp"]) * _records_per_s(extras)
    if rate != float(raw.info["sfreq"]):
        with raw.info._unlock():
            raw.info["sfreq"] = rate


_EVENT_END = 0x8000
"""Bit of a GDF event type that means the end of the event of the other bits."""


def correct_gdf_events(raw: "mne.io.BaseRaw") -> None:
    """Set the annotations of an open GDF file from its table of events, whose positions have a rate of their own.

    MNE-Python divides them by the rate of the signals, gives events without a length one sample, and makes two events
    of one with a beginning and an end.
    """
    import mne

    extras = raw._raw_extras[0]
    if not extras.get("events") or int(extras["events"][0]) == 0:
        return
    _, starts, kinds, channels, lengths = extras["events"]
    rate = float(extras.get("event_sfreq") or 0.0)
    rate = rate if math.isfinite(rate) and rate > 0.0 else float(raw.info["sfreq"])
    open_events: dict[tuple[int, int], int] = {}
    found: list[list[float]] = []
    for row in np.argsort(starts, kind="stable").tolist():
        onset_s, kind, channel = float(starts[row]) / rate, int(kinds[row]), int(channels[row])
        begun = open_events.pop((kind & ~_EVENT_END, channel), None) if kind & _EVENT_END else None
        if begun is not None:
            found[begun][1] = onset_s - found[begun][0]
            continue
        lasted_s = float(lengths[row]) / rate if lengths[row] > 1 else 0.0
        if not lasted_s:
            open_events[kind, channel] = len(found)
        found.append([onset_s, lasted_s, kind])
    onsets, durations, codes = zip(*found, strict=True)
    raw.set_annotations(mne.Annotations(onsets, durations, [str(int(code)) for code in codes]), emit_warning=False)


def pick_rates(raw: "mne.io.BaseRaw", picks: NDArray[np.intp], events: Collection[str] = ()) -> PickedRates | None:
    """Return views of an open file in which the chosen channels have the rates that they have in the file.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Not loaded. It is not changed.
    picks : intp, shape (channels,)
        Indices of the chosen channels.
    events : collection of str
        Names of channels that are read for events: no note says that they were left out.

    Returns
    -------
    PickedRates or None
        None where all signals of the file have one rate.
    """
    rates_C = file_rates(raw)
    if rates_C is None:
        return None
    chosen_C = rates_C[picks]
    rates = sorted(set(chosen_C.tolist()), reverse=True)
    groups = []
    for rate in rates:
        rows = np.flatnonzero(chosen_C == rate)
        groups.append(RateGroup(_at_rate(raw, picks[rows], rate), rows))
    whole = groups[0].raw if len(groups) == 1 else _at_rate(raw, picks, rates[0])
    others = sorted(
        {rate for name, rate in zip(raw.ch_names, rates_C.tolist(), strict=True) if name not in events} - {*rates}
    )
    notes = [f"the file also has signals of {_listed(others)} Hz, which were left out"] if others else []
    if len(rates) > 1:
        slower = [raw.ch_names[int(i)] for i, rate in zip(picks, chosen_C, strict=True) if rate < rates[0]]
        notes.append(
            f"{len(slower)} channels, such as {slower[0]!r}, are in the file at {_listed(rates[:0:-1])} Hz and were"
            f" interpolated to {rates[0]:g} Hz"
        )
    return PickedRates(whole, tuple(groups), tuple(notes))


def _listed(rates: list[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _at_rate(raw: "mne.io.BaseRaw", picks: NDArray[np.intp], rate: float) -> "mne.io.BaseRaw":
    """Return a copy of an open file with some channels, whose records have the samples of one rate."""
    view = raw.copy().pick(picks.tolist(), verbose="ERROR")
    extras = view._raw_extras[0]
    per_record = round(rate / _records_per_s(extras))
    extras["max_samp"] = per_record
    extras["nsamples"] = int(extras["n_records"]) * per_record
    view._first_samps, view._last_samps = [0], [extras["nsamples"] - 1]
    with view.info._unlock():
        view.info["sfreq"] = rate
        view.info["lowpass"] = min(float(view.info["lowpass"]), rate / 2.0)
    return view


def interpolate(row_N: NDArray[np.float64], n_samples: int) -> NDArray[np.float64]:
    """Return a whole channel with more samples over the same time, by a band-limited filter that shifts nothing.

    Parameters
    ----------
    row_N : float64, shape (samples,)
        In any unit.
    n_samples : int
        At least the number of samples there is.

    Returns
    -------
    float64, shape (n_samples,)
        In the same unit. Beyond its ends the channel is assumed to be constant.
    """
    from scipy.signal import firwin, resample_poly

    common = math.gcd(n_samples, len(row_N))
    up, down = n_samples // common, len(row_N) // common
    half = _FILTER_HALF_LENGTH * up
    taps = firwin(2 * half + 1, 1.0 / up, window=("kaiser", _FILTER_BETA))
    found: NDArray[np.float64] = resample_poly(row_N, up, down, window=taps, padtype="edge")
    return found
