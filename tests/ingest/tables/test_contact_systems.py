"""Intracranial recordings of BIDS: types, positions in every coordinate system, and what is refused."""

import json
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested

from emeg.bids_files import write_json, write_table
from emeg.ingest.tables.contact_systems import read_contact_system
from emeg.sensors import REGIONS, SensorType, sensor_regions
from emeg.store import open_recording, read_catalog

SFREQ, SECONDS = 512.0, 12
SHAFT = {f"LA{i + 1}": (-22.0 - 4.0 * i, -6.0, -20.0) for i in range(6)}
"""A depth electrode through the left temporal lobe, its tip in the amygdala, MNI, mm."""
GRID = {f"G{i + 1:02d}": (-50.0 + 3.0 * (i // 3), 6.0 + 8.0 * (i % 3), 30.0 + 8.0 * (i // 3)) for i in range(6)}
LEAD = {"STN1": (-12.0, -14.0, -8.0), "STN2": (-13.0, -12.0, -6.0)}
TYPES = dict.fromkeys(SHAFT, "SEEG") | dict.fromkeys(GRID, "ECOG") | dict.fromkeys(LEAD, "DBS")
POSITIONS = {**SHAFT, **GRID, **LEAD}
MNI_MM = {"iEEGCoordinateSystem": "MNI152NLin2009cAsym", "iEEGCoordinateUnits": "mm"}


def write_ieeg(
    root: Path,
    *,
    subject: str = "01",
    types: dict[str, str] | None = None,
    positions: dict[str, Any] | None = POSITIONS,
    system: dict[str, Any] | None = MNI_MM,
    channels: list[dict[str, Any]] | None = None,
    space: str = "",
    hemisphere: dict[str, str] | None = None,
) -> Path:
    """Write a recording in BrainVision's format with its sidecars; return the folder."""
    types = TYPES if types is None else types
    folder = root / f"sub-{subject}" / "ieeg"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(root / "dataset_description.json", {"Name": "planted", "BIDSVersion": "1.10.0", "License": "CC0-1.0"})
    stem = f"sub-{subject}_task-rest"
    rng = np.random.default_rng(3)
    signal = 4e-5 * np.cumsum(rng.standard_normal((len(types), round(SFREQ * SECONDS))), axis=1) / 20
    signal += 2e-5 * np.sin(2 * np.pi * 60.0 * np.arange(signal.shape[1]) / SFREQ)
    raw = mne.io.RawArray(signal, mne.create_info(list(types), SFREQ, "seeg"), verbose="error")
    mne.export.export_raw(folder / f"{stem}_ieeg.vhdr", raw, overwrite=True, verbose="error")
    write_json(folder / f"{stem}_ieeg.json", {"TaskName": "rest", "iEEGReference": "scalp", "PowerLineFrequency": 60})
    rows = [{"name": name, "type": kind, "units": "uV", "status": "good"} for name, kind in types.items()]
    write_table(folder / f"{stem}_channels.tsv", rows if channels is None else channels)
    front = f"sub-{subject}{f'_space-{space}' if space else ''}"
    if positions is not None:
        table = [dict(zip(("name", "x", "y", "z"), (name, *p), strict=False)) for name, p in positions.items()]
        table = [row | ({"hemisphere": hemisphere[row["name"]]} if hemisphere else {}) for row in table]
        write_table(folder / f"{front}_electrodes.tsv", table)
    if system is not None:
        write_json(folder / f"{front}_coordsystem.json", system)
    return folder


def one(archive: Path, store: Path, **fields: object):
    made = ingested(archive, store, **fields)
    assert not made.refused, made.refused["sub-01"].reason
    return made.rows["sub-01"], made.recording("sub-01")


def refused(archive: Path, store: Path):
    made = ingested(archive, store)
    assert not made.rows
    return made.refused["sub-01"]


def test_kinds_positions_regions_and_the_signal(tmp_path):
    write_ieeg(tmp_path / "archive")
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    sensors = recording.sensors
    assert row.modality == "ieeg"
    assert row.device == "seeg-ecog-dbs"
    assert row.notches == (60.0,)
    assert [SensorType(kind).name for kind in sensors.types] == list(TYPES.values())
    np.testing.assert_allclose(sensors.positions * 1e3, list(POSITIONS.values()), atol=1e-5)
    assert {record["frame"] for record in sensors.to_records()} == {"mni"}
    regions = dict(zip(sensors.names, (REGIONS[r] for r in sensor_regions(sensors)), strict=True))
    assert regions["LA1"] == "left medial temporal"
    assert regions["LA6"] == "left temporal"
    assert regions["G01"] == "left frontal"
    assert regions["STN1"] == "left basal ganglia"
    # the common reference is not subtracted: a sine that all channels share is there where the mains notch is not
    signal = recording.read(0, recording.n_samples)
    assert np.all(signal.std(axis=1) > 1e-6)


@pytest.mark.parametrize(
    ("system", "unit", "scale"),
    [("ICBM452AirSpace", "cm", 0.1), ("fsaverage", "m", 1e-3), ("MNIColin27", "mm", 1.0), ("IXI549Space", "mm", 1.0)],
)
def test_templates_and_units(tmp_path, system, unit, scale):
    positions = {name: tuple(scale * x for x in p) for name, p in POSITIONS.items()}
    write_ieeg(
        tmp_path / "archive",
        positions=positions,
        system={"iEEGCoordinateSystem": system, "iEEGCoordinateUnits": unit},
    )
    _, recording = one(tmp_path / "archive", tmp_path / "store")
    np.testing.assert_allclose(recording.sensors.positions * 1e3, list(POSITIONS.values()), atol=1e-4)


def test_acpc_coordinates_become_about_those_of_the_template(tmp_path):
    """The anterior commissure is at the origin of ACPC, and at (0, 3, -4) mm in MNI152."""
    ac = {"iEEGCoordinateSystem": "ACPC", "iEEGCoordinateUnits": "mm"}
    system = read_contact_system(ac)
    np.testing.assert_allclose(system.to_mni[:3, 3] * 1e3, (0.0, 3.0, -4.0), atol=2.5)
    np.testing.assert_allclose(np.linalg.det(system.to_mni[:3, :3]), 1.27, atol=0.05)  # an average brain is smaller
    write_ieeg(tmp_path / "archive", system=ac)
    row, _ = one(tmp_path / "archive", tmp_path / "store")
    assert any("ACPC" in note and "1 cm" in note for note in row.notes)


def test_scanner_coordinates_need_landmarks(tmp_path):
    scanner = {"iEEGCoordinateSystem": "ScanRAS", "iEEGCoordinateUnits": "mm"}
    write_ieeg(tmp_path / "archive", system=scanner)
    record = refused(tmp_path / "archive", tmp_path / "store")
    assert "ScanRAS" in record.reason
    assert "MNI152" in record.reason
    assert "coordsystem.json" in record.next_action
    turn = mne.transforms.rotation(0.1, -0.2, 0.3)[:3, :3]
    shift = np.array([20.0, -30.0, 40.0])
    points = {"AC": (0.0, 0.0, 0.0), "PC": (0.0, -25.0, 0.0), "IH": (0.0, 10.0, 60.0)}
    moved = {name: (turn @ np.array(p) + shift).tolist() for name, p in points.items()}
    system = read_contact_system({**scanner, "AnatomicalLandmarkCoordinates": moved})
    acpc = read_contact_system({"iEEGCoordinateSystem": "ACPC", "iEEGCoordinateUnits": "mm"})
    here = np.array([0.03, -0.02, 0.01])
    there = turn @ here + shift * 1e-3
    np.testing.assert_allclose(
        system.to_mni[:3, :3] @ there + system.to_mni[:3, 3],
        acpc.to_mni[:3, :3] @ here + acpc.to_mni[:3, 3],
        atol=1e-9,
    )


def test_of_two_spaces_the_normalised_one_is_used(tmp_path):
    archive = tmp_path / "archive"
    write_ieeg(archive, space="MNI152NLin2009cAsym")
    own = {name: (x + 30, y, z) for name, (x, y, z) in POSITIONS.items()}
    write_ieeg(
        archive,
        positions=own,
        system={"iEEGCoordinateSystem": "ACPC", "iEEGCoordinateUnits": "mm"},
        space="ACPC",
    )
    _, recording = one(archive, tmp_path / "store")
    np.testing.assert_allclose(recording.sensors.positions * 1e3, list(POSITIONS.values()), atol=1e-5)


@pytest.mark.parametrize("stated", ["Other", "n/a", None])
def test_the_space_of_the_file_name_counts_where_the_content_names_none(tmp_path, stated):
    """MNE-BIDS issue 723: archives in MNI space whose `coordsystem.json` says ``Other``."""
    system = {"iEEGCoordinateUnits": "mm"} | ({"iEEGCoordinateSystem": stated} if stated else {})
    write_ieeg(tmp_path / "archive", system=system, space="MNI152NLin2009bAsym")
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    np.testing.assert_allclose(recording.sensors.positions * 1e3, list(POSITIONS.values()), atol=1e-5)
    assert any("MNI152NLin2009bAsym" in note for note in row.notes)


def test_the_space_of_the_file_name_does_not_replace_a_system(tmp_path):
    system = {**MNI_MM, "iEEGCoordinateSystem": "Pixels"}
    write_ieeg(tmp_path / "archive", system=system, space="MNI152NLin2009bAsym")
    assert "'Pixels'" in refused(tmp_path / "archive", tmp_path / "store").reason


def test_a_normalised_table_without_positions_is_not_used(tmp_path):
    archive = tmp_path / "archive"
    write_ieeg(archive, space="ACPC", system={"iEEGCoordinateSystem": "ACPC", "iEEGCoordinateUnits": "mm"})
    template = {name: p if name in LEAD else ("n/a",) * 3 for name, p in POSITIONS.items()}
    write_ieeg(archive, space="MNI152NLin6Asym", positions=template)
    row, _ = one(archive, tmp_path / "store")
    assert row.n_channels == len(POSITIONS)
    assert any("ACPC" in note for note in row.notes)


def test_sessions_have_their_own_positions_or_those_of_the_subject(tmp_path):
    """The second implant has a table of its own; the table of the subject is that of the first."""
    archive = tmp_path / "archive"
    folder = write_ieeg(archive)
    for session in ("01", "02"):
        own = archive / "sub-01" / f"ses-{session}" / "ieeg"
        own.mkdir(parents=True)
        for file in folder.glob("*task-rest*"):
            content = file.read_bytes().replace(b"sub-01_task", f"sub-01_ses-{session}_task".encode())
            (own / file.name.replace("sub-01", f"sub-01_ses-{session}")).write_bytes(content)
    for file in folder.iterdir():
        if "task-rest" in file.name:
            file.unlink()
        else:
            file.rename(archive / "sub-01" / file.name)
    folder.rmdir()
    second = [dict(zip(("name", "x", "y", "z"), (n, x + 6, y, z), strict=True)) for n, (x, y, z) in POSITIONS.items()]
    write_table(own / "sub-01_ses-02_electrodes.tsv", second)
    write_json(own / "sub-01_ses-02_coordsystem.json", MNI_MM)
    made = ingested(archive, tmp_path / "store")
    for row in read_catalog(made.store):
        found = open_recording(made.store, row.recording).sensors.positions * 1e3
        shift = (6, 0, 0) if row.session.endswith("02") else (0, 0, 0)
        np.testing.assert_allclose(found - np.array(shift), list(POSITIONS.values()), atol=1e-5)
    assert len(made.result.ready) == 2


def test_zero_and_contradicting_rows_are_no_positions(tmp_path):
    folder = write_ieeg(tmp_path / "archive", positions={**POSITIONS, "LA1": (0, 0.0, "0")})
    table = folder / "sub-01_electrodes.tsv"
    again = "LA3\t-30.0\t-6.0\t-20.0\nLA2\t50\t1\t2\n"
    table.write_text(table.read_text(encoding="utf-8") + again, encoding="utf-8")
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    assert set(row.dropped) == {"LA1", "LA2"}
    assert recording.sensors.names[0] == "LA3"
    assert [sum(word in note for note in row.notes) for word in ("0 for x", "different positions")] == [1, 1]


def test_contacts_do_not_have_the_names_of_scalp_electrodes(tmp_path):
    """In the 10-20 system T3 was renamed T7, and A2 is an ear; both are contacts here."""
    types = dict.fromkeys(("T3", "A1-A2", "B3-A2", "B1-2", "B4-Ref", "T5"), "SEEG")
    positions = {"T7": (-40, -20, -10), "T5": (-45, -20, -10)}
    positions |= {f"{letter}{i}": (-20 - i, 10, -20) for letter in "AB" for i in range(1, 5)}
    write_ieeg(tmp_path / "archive", types=types, positions=positions)
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    assert recording.sensors.names == ("B4-Ref", "T5")
    np.testing.assert_allclose(recording.sensors.positions[0] * 1e3, positions["B4"], atol=1e-5)
    assert "derivation" in row.dropped["A1-A2"]
    assert "derivation" in row.dropped["B3-A2"]
    assert "derivation" in row.dropped["B1-2"]
    assert "derivation" not in row.dropped["T3"]


def test_few_contradicting_hemispheres_are_noted(tmp_path):
    write_ieeg(tmp_path / "archive", hemisphere={name: "R" if name == "LA1" else "l" for name in POSITIONS})
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    assert len(recording.sensors) == len(POSITIONS)
    assert any("hemisphere" in note and "LA1" in note for note in row.notes)


def test_names_meet_in_spite_of_case_and_zeros(tmp_path):
    respelt = {name.lower().replace("g0", "g"): p for name, p in POSITIONS.items()}
    write_ieeg(tmp_path / "archive", positions=respelt)
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    assert recording.sensors.names == tuple(POSITIONS)
    np.testing.assert_allclose(recording.sensors.positions * 1e3, list(POSITIONS.values()), atol=1e-5)
    assert any("electrodes.tsv" in note and "la1" in note for note in row.notes)


def test_scalp_channels_of_the_folder_and_contacts_without_a_position_are_dropped(tmp_path):
    types = {"C3": "EEG", "Cz": "EEG", **TYPES, "EKG": "ECG", "LB1": "SEEG"}
    positions = {**POSITIONS, "C3": (-50.0, -10.0, 80.0), "LB1": ("n/a", "n/a", "n/a")}
    write_ieeg(tmp_path / "archive", types=types, positions=positions)
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    assert recording.sensors.names == tuple(TYPES)
    assert set(row.dropped) == {"C3", "Cz", "EKG", "LB1"}
    assert "EEG" in row.dropped["C3"]
    assert "position" in row.dropped["LB1"]
    assert row.n_eeg == 0


def test_bad_status_is_kept_and_never_replaced(tmp_path):
    rows = [
        {"name": name, "type": kind, "units": "uV", "status": "bad" if name == "LA2" else "good"}
        for name, kind in TYPES.items()
    ]
    write_ieeg(tmp_path / "archive", channels=rows)
    row, _ = one(tmp_path / "archive", tmp_path / "store", standardise={"bad_channels": "interpolate"})
    assert row.bad_channels == ("LA2",)
    assert row.interpolated == ()


def test_the_reference_is_that_of_each_kind(tmp_path):
    write_ieeg(tmp_path / "archive")
    row, recording = one(tmp_path / "archive", tmp_path / "store", standardise={"cleaning": {"reference": "average"}})
    signal = recording.read(0, recording.n_samples)
    for kind in ("SEEG", "ECOG", "DBS"):
        own = signal[recording.sensors.types == SensorType[kind]]
        assert np.abs(own.mean(axis=0)).max() < 0.01 * own.std()
    assert any("SEEG, ECOG, DBS referred to average" in note for note in row.notes)


RUBBISH = {
    "no electrodes.tsv": ({"positions": None}, ("electrodes.tsv",)),
    "only n/a": ({"positions": dict.fromkeys(POSITIONS, ("n/a",) * 3)}, ("electrodes.tsv", "positions")),
    "other names": ({"positions": {f"X{i}": p for i, p in enumerate(SHAFT.values())}}, ("electrodes.tsv",)),
    "pixels": ({"system": {**MNI_MM, "iEEGCoordinateUnits": "pixels"}}, ("pixels",)),
    "no coordsystem": ({"system": None}, ("coordsystem.json",)),
    "no unit": ({"system": {"iEEGCoordinateSystem": "MNI152NLin2009cAsym"}}, ("millimetres taken for metres",)),
    "wrong unit": ({"system": {**MNI_MM, "iEEGCoordinateUnits": "cm"}}, ("centimetres", "m from the middle")),
    "other system": ({"system": {**MNI_MM, "iEEGCoordinateSystem": "Other"}}, ("'Other'",)),
    "no system": ({"system": {"iEEGCoordinateUnits": "mm"}}, ("iEEGCoordinateSystem",)),
    "surface of one person": ({"system": {**MNI_MM, "iEEGCoordinateSystem": "fsnative"}}, ("'fsnative'",)),
    "no z": ({"positions": {name: p[:2] for name, p in POSITIONS.items()}}, ("no column 'z'",)),
    "no numbers": ({"positions": {name: (f"[{p[0]}]", *p[1:]) for name, p in POSITIONS.items()}}, ("no numbers",)),
    "mirrored": ({"hemisphere": dict.fromkeys(POSITIONS, "R")}, ("hemisphere",)),
    "derivations": ({"types": {"LA1-LA2": "SEEG", "LA2-LA3": "SEEG"}}, ("derivation",)),
    "infants": ({"system": {**MNI_MM, "iEEGCoordinateSystem": "MNIInfant"}}, ("MNIInfant",)),
    "one point": ({"positions": dict.fromkeys(POSITIONS, (1.0, 2.0, 3.0))}, ("same position",)),
    "only EEG": ({"types": {"C3": "EEG", "C4": "EEG", "Cz": "EEG"}}, ("EEG", "ieeg")),
    "far away": ({"positions": {**POSITIONS, "LA1": (-200.0, 0.0, 0.0)}}, ("LA1", "outside the head")),
}


@pytest.mark.parametrize("case", RUBBISH)
def test_rubbish_is_refused_in_one_line_with_its_cause(tmp_path, case):
    fields, named = RUBBISH[case]
    write_ieeg(tmp_path / "archive", **fields)
    record = refused(tmp_path / "archive", tmp_path / "store")
    assert record.stage == "sensors"
    assert "\n" not in record.reason
    assert any(word in record.reason for word in named), record.reason
    assert record.next_action


def test_units_of_the_file_and_of_the_table(tmp_path):
    """One note for all channels; the amplitude is that of the file, read by MNE-Python."""
    rows = [{"name": name, "type": kind, "units": "mV", "status": "good"} for name, kind in TYPES.items()]
    folder = write_ieeg(tmp_path / "archive", channels=rows)
    row, recording = one(tmp_path / "archive", tmp_path / "store")
    assert sum("mV" in note for note in row.notes) == 1
    raw = mne.io.read_raw_brainvision(folder / "sub-01_task-rest_ieeg.vhdr", preload=True, verbose="error")
    raw.resample(256.0, verbose="error")
    mine, theirs = (
        mne.filter.filter_data(signal.astype(float), 256.0, 5.0, 40.0, verbose="error")[:, 512:-512]
        for signal in (recording.read(0, recording.n_samples), raw.get_data())
    )
    assert np.abs(mine - theirs).max() < 0.1 * theirs.std()


def test_no_types_and_an_empty_folder(tmp_path):
    folder = write_ieeg(tmp_path / "archive")
    (folder / "sub-01_task-rest_channels.tsv").unlink()
    (tmp_path / "archive" / "sub-02" / "ieeg").mkdir(parents=True)
    record = refused(tmp_path / "archive", tmp_path / "store")
    assert "ieeg" in record.reason
    assert "electrodes.tsv" not in record.reason  # the types are what is missing
    assert "channels.tsv" in record.next_action


def test_positions_equal_those_that_mne_bids_reads(tmp_path):
    mne_bids = pytest.importorskip("mne_bids")
    folder = write_ieeg(tmp_path / "archive", space="MNI152NLin2009cAsym")
    (folder / "sub-01_task-rest_channels.tsv").write_text(
        "name\ttype\tunits\n" + "".join(f"{name}\tSEEG\tµV\n" for name in TYPES), encoding="utf-8"
    )
    path = mne_bids.BIDSPath(
        root=tmp_path / "archive", subject="01", task="rest", datatype="ieeg", suffix="ieeg", extension=".vhdr"
    )
    raw = mne_bids.read_raw_bids(path, verbose="error")
    positions = raw.get_montage().get_positions()
    assert positions["coord_frame"] == "mni_tal"
    _, recording = one(tmp_path / "archive", tmp_path / "store")
    for name, position in zip(recording.sensors.names, recording.sensors.positions, strict=True):
        np.testing.assert_allclose(position, positions["ch_pos"][name], atol=1e-6)


def test_a_system_is_read_with_its_notes():
    text = json.loads('{"iEEGCoordinateSystem": "Talairach", "iEEGCoordinateUnits": "mm"}')
    assert "Talairach" in read_contact_system(text).notes[0]
    assert read_contact_system({}).to_mni is None
