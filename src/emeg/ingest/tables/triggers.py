"""Events of trigger channels: when their value changes, on every such channel of a recording.

Shape letters: N samples.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.ingest.readers.rates import pick_rates
from emeg.ingest.tables.type_setting import channel_types
from emeg.ingest.units import volts
from emeg.sensors import other_kind
from emeg.store import Event

if TYPE_CHECKING:
    import mne

_COMBINED = ("STI101", "STI 014", "STI014", "STI201", "Status", "STATUS", "UPPT001", "TRIGGER")
"""Channels that hold the codes of all trigger lines, the best first."""

_GENERIC = re.compile(
    r"(?:sti|stim|status|trig|trigger|din|d|events?|markers?|uppt|utrg|udio|digital|e?dc)[ _-]*\d*", re.IGNORECASE
)
"""Names of trigger channels that say nothing of an event."""

_STATUS_MASK = 0xFFFF
"""BioSemi keeps triggers in the lower 16 of 24 bits, the amplifier's state above."""

_SAME_S, _SAME_SAMPLES = 2e-3, 2.0
"""Two channels that rise within this time or this number of samples show one trigger: lines settle one by one."""

_READ_BYTES = 2**28
_WHOLE = 0.02
_WHOLE_SHARE = 0.99
"""Values of a digital channel are whole numbers; what an analogue one records has noise."""

_SMALLEST_PULSE = 0.5
"""Range of an analogue trigger line from which it has pulses and no noise alone, V."""


_MOST_CHANGES = 0.1
"""Share of samples at which the value of a trigger channel changes at most; a signal changes at almost all."""


class _Line(NamedTuple):
    """A trigger channel as it was read: its values and its rate in the file, Hz."""

    name: str
    values: NDArray[np.float64]
    sfreq: float


class _Channel(NamedTuple):
    """Rises of one trigger channel: times in seconds, the value after each, and how exactly the times are known."""

    name: str
    onsets_s: NDArray[np.float64]
    codes: NDArray[np.int64]
    tolerance_s: float


def trigger_names(raw: "mne.io.BaseRaw") -> list[str]:
    """Return the names of the trigger channels, those that combine other lines first."""
    kinds = zip(raw.ch_names, channel_types(raw), strict=True)
    names = [name for name, kind in kinds if kind == "stim" or _may_be_trigger(name, kind)]
    return sorted(names, key=lambda name: _COMBINED.index(name) if name in _COMBINED else len(_COMBINED))


def _may_be_trigger(name: str, kind: str) -> bool:
    """Check whether a channel without a type of its own, as in EDF, is a trigger channel by its name."""
    return kind in {"eeg", "misc"} and other_kind(name) == "trigger"


def trigger_events(raw: "mne.io.BaseRaw") -> list[Event]:
    """Return one event for each change of a trigger channel to a value that is not its level at rest.

    The value is the event's code. Its class is the code too, or the channel's name where the name tells lines apart
    that have one code each. A line whose trigger the combined channel shows as well makes no second event.
    """
    names = trigger_names(raw)
    kinds = dict(zip(raw.ch_names, channel_types(raw), strict=True))
    channels = [_rises(line, certain=kinds[line.name] == "stim") for line in _read(raw, names)]
    channels = [channel for channel in channels if len(channel.onsets_s)]
    taken_s = np.empty(0)
    events = []
    for channel in channels:
        alone = channel.name in _COMBINED and channel is channels[0]
        new = ~near(channel.onsets_s, taken_s, channel.tolerance_s)
        events += [
            Event(float(onset_s), 0.0, _label(channel, int(code), alone=alone, n_channels=len(names)), str(code))
            for onset_s, code in zip(channel.onsets_s[new], channel.codes[new], strict=True)
        ]
        if alone:
            taken_s = channel.onsets_s
    return events


def _label(channel: _Channel, code: int, *, alone: bool, n_channels: int) -> str:
    """Name an event by its code, by its channel, or by both where neither is enough."""
    if alone or (n_channels == 1 and _GENERIC.fullmatch(channel.name)):
        return str(code)
    if len(set(channel.codes.tolist())) == 1:
        return channel.name
    return str(code) if n_channels == 1 else f"{channel.name}/{code}"


def _read(raw: "mne.io.BaseRaw", names: list[str]) -> list[_Line]:
    """Read trigger channels at their own rates, in as few passes over the file as fit in memory."""
    found = pick_rates(raw, np.array([raw.ch_names.index(name) for name in names], np.intp)) if names else None
    if found is not None:
        lines = {}
        for group in found.groups:
            for row, values_N in zip(group.rows, group.raw.get_data(), strict=True):
                name = names[int(row)]
                lines[name] = _Line(name, _codes(raw, name, values_N), float(group.raw.info["sfreq"]))
        return [lines[name] for name in names]
    at_once = max(1, _READ_BYTES // (8 * max(1, int(raw.n_times))))
    read: list[_Line] = []
    for first in range(0, len(names), at_once):
        picks = names[first : first + at_once]
        for name, values_N in zip(picks, raw.get_data(picks=picks), strict=True):
            read.append(_Line(name, _codes(raw, name, values_N), float(raw.info["sfreq"])))
    return read


def _codes(raw: "mne.io.BaseRaw", name: str, values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of a trigger channel as the file has them, NaN as 0."""
    return np.nan_to_num(values_N / _factor(raw, name, values_N))


def _factor(raw: "mne.io.BaseRaw", name: str, values_N: NDArray[np.float64]) -> float:
    """Return what codes were multiplied by: a reader that takes a trigger channel for a voltage makes volts of them."""
    unit = volts(str(raw._orig_units.get(name, "")))
    largest = float(np.nanmax(np.abs(values_N), initial=0.0))
    return unit if unit is not None and 0.0 < largest < 1.0 else 1.0


def _rises(line: _Line, *, certain: bool) -> _Channel:
    """Find the rises of a channel; one that is a trigger channel by its name alone must have codes that hold."""
    values_N = line.values
    codes_N = values_N.round().astype(np.int64)
    if np.mean(np.abs(values_N - codes_N) < _WHOLE) < _WHOLE_SHARE:
        codes_N = _pulses(values_N) if certain else np.zeros_like(codes_N)
    if not certain and np.count_nonzero(np.diff(codes_N)) > _MOST_CHANGES * len(codes_N):
        codes_N = np.zeros_like(codes_N)
    if line.name.upper() == "STATUS" or (len(codes_N) and -_STATUS_MASK <= codes_N.min() < 0):
        codes_N &= _STATUS_MASK  # codes from 32768 are negative in files that hold them as signed numbers
    # Bits that are on from beginning to end are no trigger: 4D's codes return to 256, active-low ones to 255.
    always = np.bitwise_and.reduce(codes_N)
    changed_N = np.diff(codes_N, prepend=codes_N[:1]) != 0
    starts = np.flatnonzero(changed_N & (codes_N != max(always, 0)))
    tolerance_s = max(_SAME_S, _SAME_SAMPLES / line.sfreq)
    return _Channel(line.name, starts / line.sfreq, codes_N[starts], tolerance_s)


def _pulses(values_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return 1 where an analogue line is in the upper half of its range, 0 elsewhere and where it has no pulses."""
    low, high = float(values_N.min()), float(values_N.max())
    if high - low < _SMALLEST_PULSE:
        return np.zeros(len(values_N), np.int64)
    return (values_N > 0.5 * (low + high)).astype(np.int64)


def near(times: NDArray[Any], taken: NDArray[Any], tolerance: float) -> NDArray[np.bool_]:
    """Mark the times that lie within a tolerance of one of the times in `taken`.

    Parameters
    ----------
    times : float64 or intp, shape (times,)
        In seconds or samples.
    taken : float64 or intp, shape (others,)
        Sorted, in seconds or samples as `times`.
    tolerance : float
        In the same unit.

    Returns
    -------
    bool, shape (times,)
    """
    if not len(taken):
        return np.zeros(len(times), np.bool_)
    after = np.minimum(np.searchsorted(taken, times), len(taken) - 1)
    distance = np.minimum(np.abs(taken[after] - times), np.abs(taken[np.maximum(after - 1, 0)] - times))
    return np.asarray(distance <= tolerance, np.bool_)
