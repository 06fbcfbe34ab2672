"""Write a recording in the format of its device, with BIDS sidecars, without clock, host or user."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mne
import numpy as np

from emeg.bids_files import blank_fiff_machine, write_json, write_table
from emeg.sensors.brain_space import TALAIRACH_OF_MNI, transformed
from emeg.synthetic.design import Cue, Design
from emeg.synthetic.devices import CTF_AXIAL, VECTORVIEW_PLANAR, Cap, Device
from emeg.synthetic.implants import Implant, mni_positions
from emeg.synthetic.people import Person

_MATLAB_HEADER = b"MATLAB 5.0 MAT-file".ljust(116)  # the writer puts platform and clock here
_COORDINATES = {"units": "m", "system": "CapTrak"}  # RAS through the fiducials: MNE's head coordinates


def write_recording(
    folder: Path, entities: str, raw: mne.io.RawArray, device: Device, design: Design, person: Person
) -> Path:
    """Write one recording with its sidecars.

    Parameters
    ----------
    folder : Path
        The subject's data type folder.
    entities : str
        ``sub-01_task-rest_acq-opm64``.

    Returns
    -------
    Path
        The recording's file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{entities}_{device.datatype}{device.extension}"
    _write_signal(path, raw, device)
    write_json(path.with_suffix(".json"), _sidecar(raw, device, design))
    write_table(folder / f"{entities}_channels.tsv", _channel_rows(raw, device))
    if design.cues:
        write_table(folder / f"{entities}_events.tsv", _event_rows(design.cues, device))
        write_json(folder / f"{entities}_events.json", _EVENT_COLUMNS)
    _write_coordinates(folder, entities, raw, device, person)
    return path


def _write_signal(path: Path, raw: mne.io.RawArray, device: Device) -> None:
    if device.extension == ".fif":
        raw.save(path, fmt="single", verbose="error")
        blank_fiff_machine(path)
        return
    # one scale per channel: a noisy channel must not coarsen the others in a 16-bit file
    mne.export.export_raw(path, raw, physical_range="channelwise", add_ch_type=False, verbose="error")
    if device.extension == ".set":
        with path.open("r+b") as file:
            file.write(_MATLAB_HEADER)


def _sidecar(raw: mne.io.RawArray, device: Device, design: Design) -> dict[str, Any]:
    common: dict[str, Any] = {
        "TaskName": design.task,
        "TaskDescription": _TASKS[design.task],
        "Manufacturer": "Simulated",
        "ManufacturersModelName": device.name,
        "SamplingFrequency": device.sfreq,
        "PowerLineFrequency": device.mains_hz,
        "SoftwareFilters": "n/a",
        "RecordingDuration": float(design.duration_s),
        "RecordingType": "continuous",
    }
    if isinstance(device.sensors, Cap):
        common |= {
            "EEGReference": f"mean of {' and '.join(device.sensors.reference)}",
            "EEGPlacementScheme": device.sensors.montage,
            "EEGChannelCount": len(raw.ch_names),
            "CapManufacturer": "Simulated",
            "CapManufacturersModelName": device.resembles,
        }
    elif isinstance(device.sensors, Implant):
        common |= {
            "iEEGReference": "simulated, infinitely far from the head",
            "iEEGGround": "n/a",
            "iEEGPlacementScheme": device.resembles,
            f"{device.sensors.kind}ChannelCount": len(raw.ch_names),
            "ElectricalStimulation": False,
        }
    else:
        common |= {
            "DewarPosition": "upright",
            "DigitizedLandmarks": False,
            "DigitizedHeadPoints": False,
            "ContinuousHeadLocalization": False,
            "MEGChannelCount": len(raw.ch_names),
        }
    return common


_TASKS = {
    "imagery": "Imagine moving the left or the right hand for as long as the cue stays.",
    "tones": "Listen to tones.",
    "rest": "Sit quietly.",
}


def _channel_rows(raw: mne.io.RawArray, device: Device) -> list[dict[str, Any]]:
    """Return the rows of channels.tsv, with every channel marked good: ingest has to find the bad ones."""
    rows = []
    for channel in raw.info["chs"]:
        kind, unit = _bids_type(int(channel["coil_type"]), device)
        rows.append(
            {
                "name": channel["ch_name"],
                "type": kind,
                "units": unit,
                "low_cutoff": "n/a",
                "high_cutoff": "n/a",
                "sampling_frequency": f"{device.sfreq:g}",
                "status": "good",
                "status_description": "n/a",
            }
        )
    return rows


def _bids_type(coil: int, device: Device) -> tuple[str, str]:
    if device.datatype == "eeg":
        return "EEG", "V" if device.extension == ".fif" else "uV"
    if isinstance(device.sensors, Implant):
        return device.sensors.kind, "uV"
    if coil == VECTORVIEW_PLANAR:
        return "MEGGRADPLANAR", "T/m"
    return ("MEGGRADAXIAL" if coil == CTF_AXIAL else "MEGMAG"), "T"


def _event_rows(cues: Iterable[Cue], device: Device) -> list[dict[str, Any]]:
    return [
        {
            "onset": f"{cue.onset_s:.3f}",
            "duration": f"{cue.duration_s:.3f}",
            "trial_type": cue.trial_type,
            "value": cue.value,
            "sample": round(cue.onset_s * device.sfreq),
        }
        for cue in cues
    ]


_EVENT_COLUMNS = {
    "trial_type": {
        "Description": "What the person is asked to do, or hears.",
        "Levels": {
            "left_imagery": "Imagine moving the left hand.",
            "right_imagery": "Imagine moving the right hand.",
            "tone": "A tone of 100 ms.",
        },
    },
    "value": {"Description": "Trigger code."},
    "sample": {"Description": "Sample of the onset, counted from 0."},
}


def _write_coordinates(folder: Path, entities: str, raw: mne.io.RawArray, device: Device, person: Person) -> None:
    # BIDS keeps one set of coordinates for a subject, acquisition and session, whatever the task
    space = "_".join(part for part in entities.split("_") if not part.startswith("task-"))
    if isinstance(device.sensors, Implant):
        _write_contacts(folder, space, raw, person)
        return
    if isinstance(device.sensors, Cap):
        if device.sensors.digitised:
            write_table(folder / f"{space}_electrodes.tsv", _electrode_rows(raw))
            system, units = _COORDINATES["system"], _COORDINATES["units"]
            write_json(
                folder / f"{space}_coordsystem.json", {"EEGCoordinateSystem": system, "EEGCoordinateUnits": units}
            )
        return
    write_json(
        folder / f"{space}_coordsystem.json",
        {
            "MEGCoordinateSystem": "ElektaNeuromag",
            "MEGCoordinateUnits": "m",
            "MEGCoordinateSystemDescription": "Coils in device coordinates; the file has the device-to-head transform.",
        },
    )


def _write_contacts(folder: Path, space: str, raw: mne.io.RawArray, person: Person) -> None:
    """Write positions of contacts: MNI coordinates in mm, or those of AC-PC in m for every second subject."""
    positions = mni_positions(raw.info, person)
    is_acpc = int(person.label) % 2 == 0
    system, unit, scale = ("ACPC", "m", 1.0) if is_acpc else ("MNI152NLin2009cAsym", "mm", 1e3)
    if is_acpc:
        positions = transformed(positions, TALAIRACH_OF_MNI)
    rows = [
        {"name": name, **{axis: f"{scale * value:.6f}" for axis, value in zip("xyz", position, strict=True)}, "size": 5}
        for name, position in zip(raw.ch_names, positions, strict=True)
    ]
    front = f"{space}_space-{system}"
    write_table(folder / f"{front}_electrodes.tsv", rows)
    write_json(
        folder / f"{front}_coordsystem.json",
        {
            "iEEGCoordinateSystem": system,
            "iEEGCoordinateUnits": unit,
            "iEEGCoordinateSystemDescription": "Positions of simulated contacts in an average brain.",
            "iEEGCoordinateProcessingDescription": "none",
            "iEEGCoordinateProcessingReference": "n/a",
        },
    )


def _electrode_rows(raw: mne.io.RawArray) -> list[dict[str, Any]]:
    positions = np.array([channel["loc"][:3] for channel in raw.info["chs"]])
    return [
        {"name": name, **{axis: f"{value:.6f}" for axis, value in zip("xyz", position, strict=True)}}
        for name, position in zip(raw.ch_names, positions, strict=True)
    ]
