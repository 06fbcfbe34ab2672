"""Tables and JSON beside a recording: channels, electrodes, coordinates, events, what was done to the signal."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from emeg.export.naming import INTRACRANIAL_SPACE
from emeg.sensors import Sensors, SensorType
from emeg.sensors.coils import PLANAR_COILS
from emeg.sensors.layout import INTRACRANIAL_TYPES, MEG_TYPES
from emeg.store import BadReason, CatalogRow, Event, Recording

Rows = list[dict[str, Any]]

SECOND_REASONS = {
    "flat": "no signal",
    "noisy": "far above the channel's own level, or with noise of high frequencies",
    "nan": "gaps in the source",
    "clipped": "the source stays at its extreme",
    "beyond_gate": "an amplitude outside the range of this type of sensor",
    "uncorrelated": "no correlation with neighbouring sensors",
}
"""Faults of single seconds of a channel, in words; the other reasons apply to whole channels."""

Events = list[tuple[float, float, str | None, str | None, str | None]]
"""Onset and duration in s, type, value, channels."""

BAD = "BAD_"
"""Prefix of events that mark bad data, which MNE-Python and MNE-BIDS reject."""


def channel_rows(recording: Recording, row: CatalogRow) -> Rows:
    """List the channels; ``status`` is bad for a bad channel whose signal is as recorded, with the reason in words."""
    low, high = recording.attributes.pass_band
    notches = ", ".join(f"{frequency:g}" for frequency in recording.attributes.notches) or None
    bad, replaced = set(row.bad_channels), set(row.interpolated)
    reasons = np.bitwise_or.reduce(recording.bad, axis=1)
    rows = []
    for i, name in enumerate(recording.sensors.names):
        why = _words(BadReason(int(reasons[i]))) if name in bad else ""
        text = f"interpolated from its neighbours, was {why or 'bad'}" if name in replaced else why or None
        rows.append(
            {
                "name": name,
                "type": channel_type(recording.sensors, i),
                "units": "uV" if row.modality in {"eeg", "ieeg"} else recording.sensors.units[i],
                "low_cutoff": f"{low:g}",
                "high_cutoff": f"{high:g}",
                "sampling_frequency": f"{recording.sfreq:g}",
                "notch": notches,
                "status": "bad" if name in bad and name not in replaced else "good",
                "status_description": text,
            }
        )
    return rows


def channel_type(sensors: Sensors, index: int) -> str:
    """Return the type of a channel as BIDS names it."""
    if sensors.types[index] not in MEG_TYPES:
        return SensorType(int(sensors.types[index])).name
    if sensors.types[index] == SensorType.MAGNETOMETER:
        return "MEGMAG"
    return "MEGGRADPLANAR" if int(sensors.coils[index]) in PLANAR_COILS else "MEGGRADAXIAL"


def _words(reasons: BadReason) -> str:
    names = [name for name in SECOND_REASONS if BadReason[name.upper()] in reasons]
    if BadReason.MARKED in reasons:
        names.append("marked bad in the source")
    return ", ".join(names) or "unlike the other channels"


def electrode_rows(sensors: Sensors) -> Rows:
    """List the electrodes with their positions in metres: head coordinates, or MNI152 coordinates of contacts."""
    return [
        {
            "name": sensors.names[i],
            **{axis: f"{value:.6f}" for axis, value in zip("xyz", sensors.positions[i], strict=True)},
            **({"size": None} if sensors.types[i] in INTRACRANIAL_TYPES else {}),
        }
        for i in np.flatnonzero(~sensors.is_meg)
    ]


def coordinate_system(sensors: Sensors, datatype: str) -> dict[str, Any]:
    """Return the description of the coordinates of electrodes and coils."""
    eeg = {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}
    if datatype == "eeg":
        return eeg
    if datatype == "ieeg":
        return {
            "iEEGCoordinateSystem": INTRACRANIAL_SPACE,
            "iEEGCoordinateUnits": "m",
            "iEEGCoordinateSystemDescription": "MNI152 coordinates of the source, or its coordinates brought there by a"
            " fixed transform; the notes of the recording tell which.",
        }
    frame = (
        "Coils in device coordinates as the maker defines them (right, front, up); nothing tells where the head was."
        if sensors.meg_frame == "device"
        else "Coils in head coordinates (right, front, up, through the fiducials); device and head are one frame."
    )
    meg = {
        "MEGCoordinateSystem": "Other",
        "MEGCoordinateUnits": "m",
        "MEGCoordinateSystemDescription": f"{frame} Of a coil's axes the one that it measures along is the recorded"
        " one, the others are completed.",
    }
    return meg | eeg if sensors.is_eeg.any() else meg


def event_rows(events: Sequence[Event], recording: Recording, row: CatalogRow) -> Rows:
    """List the events, and bad stretches of channels that are good otherwise, by time.

    A stretch is whole seconds in which the same channels have the same fault; where all channels have it, ``channel``
    is empty.
    """
    found: Events = [
        (event.onset_s, event.duration_s, _text(event.trial_type), _text(event.value), None) for event in events
    ]
    found += _bad_events(recording, row)
    found += [(onset_s, duration_s, text, None, None) for onset_s, duration_s, text in interruptions(recording)]
    return [
        {
            "onset": f"{onset:.6f}",
            "duration": f"{duration:.6f}",
            "trial_type": kind,
            "value": value,
            "channel": channel,
        }
        for onset, duration, kind, value, channel in sorted(found, key=lambda one: one[0])
    ]


def interruptions(recording: Recording) -> list[tuple[float, float, str]]:
    """Return what lies between the stretches of a recording, as MNE-Python names it: onset and duration in s, text.

    A pause without samples is ``BAD boundary`` and ``EDGE boundary``, as where MNE-Python joins files: no epoch is cut
    across it and no filter runs over it. Samples that fill a pause are ``BAD_ACQ_SKIP``.
    """
    spans = [(one.start, one.stop) for one in recording.stretches]
    found: list[tuple[float, float, str]] = []
    for (_, stop), (start, _) in pairwise([(0, 0), *spans, (recording.n_samples, recording.n_samples)]):
        at_s = stop / recording.sfreq
        if start > stop:
            found.append((at_s, (start - stop) / recording.sfreq, "BAD_ACQ_SKIP"))
        elif 0 < stop < recording.n_samples:
            found += [(at_s, 0.0, "BAD boundary"), (at_s, 0.0, "EDGE boundary")]
    return found


def _bad_events(recording: Recording, row: CatalogRow) -> Events:
    bad = set(row.bad_channels)
    kept = [name for name in recording.sensors.names if name not in bad]
    between = delimiter(recording.sensors)
    found: Events = []
    for stretch in recording.bad_stretches:
        channels = [name for name in stretch.channels if name not in bad]
        if channels and stretch.reason in SECOND_REASONS:
            where = None if len(channels) == len(kept) else between.join(channels)
            found.append((stretch.onset_s, stretch.duration_s, BAD + stretch.reason, None, where))
    return found


def delimiter(sensors: Sensors) -> str:
    """Choose the separator of channels in one cell: a character that is in no name."""
    return next(sign for sign in (",", ";", "|", ", ") if not any(sign in name for name in sensors.names))


def _text(text: str) -> str | None:
    return re.sub(r"[\t\r\n]+", " ", text).strip() or None


def event_columns(sensors: Sensors) -> dict[str, Any]:
    """Return the description of the columns of the events."""
    reasons = "; ".join(f"{BAD}{name}: {words}" for name, words in SECOND_REASONS.items())
    return {
        "trial_type": {
            "Description": "Event of the source, or stretch that emeg found bad. At BAD boundary and EDGE boundary the"
            f" recording was interrupted; BAD_ACQ_SKIP has no recorded samples. {reasons}."
        },
        "value": {"Description": "Trigger code or text of the source."},
        "channel": {
            "Description": "Channels of a bad stretch; n/a: all channels.",
            "Delimiter": delimiter(sensors),
        },
    }


def recording_json(recording: Recording, row: CatalogRow, sources: Sequence[str]) -> dict[str, Any]:
    """Describe the recording: its device, and how the signal was processed."""
    types = recording.sensors.types
    described: dict[str, Any] = {
        "Description": f"Standardised by emeg {row.version} (recording {row.recording}, settings {row.config_hash}).",
        "TaskName": row.task or "unknown",
        "SamplingFrequency": recording.sfreq,
        "PowerLineFrequency": row.mains or "n/a",
        "SoftwareFilters": software_filters(recording, row),
        "RecordingDuration": recording.n_samples / recording.sfreq,
        "RecordingType": "continuous" if len(recording.stretches) == 1 else "discontinuous",
        **({"Stretches": _stretches(recording)} if len(recording.stretches) > 1 else {}),
        "EEGChannelCount": int(np.count_nonzero(types == SensorType.EEG)),
        **({"ManufacturersModelName": row.device} if row.device else {}),
        **({"Sources": list(sources)} if sources else {}),
        **({"Notes": list(row.notes)} if row.notes else {}),
    }
    if row.modality == "ieeg":
        counts = {f"{kind.name}ChannelCount": int(np.count_nonzero(types == kind)) for kind in INTRACRANIAL_TYPES[:2]}
        return described | {"iEEGReference": "n/a", **counts}
    if row.modality == "eeg":
        return described | {"EEGReference": "n/a", "EOGChannelCount": 0, "ECGChannelCount": 0, "EMGChannelCount": 0}
    return described | {
        "MEGChannelCount": int(np.count_nonzero(recording.sensors.is_meg)),
        "DewarPosition": "n/a",
        "DigitizedLandmarks": False,
        "DigitizedHeadPoints": False,
        "ContinuousHeadLocalization": row.hpi == "continuous",
    }


def _stretches(recording: Recording) -> list[dict[str, Any]]:
    """List the stretches without a pause, in seconds of the file; the clock is that of the amplifier."""
    return [
        {
            "Onset": one.start / recording.sfreq,
            "Duration": (one.stop - one.start) / recording.sfreq,
            "ClockOnset": "n/a" if one.onset_s is None else one.onset_s,
        }
        for one in recording.stretches
    ]


def software_filters(recording: Recording, row: CatalogRow) -> dict[str, Any]:
    """Return how the signal was processed, as BIDS describes it: name of a step, its parameters with units."""
    low, high = recording.attributes.pass_band
    steps: dict[str, Any] = {
        "Band pass, zero-phase FIR": {"low cutoff (Hz)": low, "high cutoff (Hz)": high},
        "Resampling in the frequency domain": {"from (Hz)": row.sfreq_source, "to (Hz)": recording.sfreq},
    }
    if recording.attributes.notches:
        steps["Notch, zero-phase FIR"] = {"frequencies (Hz)": list(recording.attributes.notches)}
    if row.interpolated:
        steps["Interpolation of bad channels from their neighbours"] = {"channels": list(row.interpolated)}
    return steps
