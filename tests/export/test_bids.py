"""An export equals the store, read with MNE-Python and MNE-BIDS and checked by the public validator."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import mne
import numpy as np
import pytest
from tests.export.conftest import EVENTS, Stored, put
from tests.messages import refusal

from emeg.errors import UserError
from emeg.export import ExportBidsConfig, export_bids, publishing, signal_files
from emeg.export.naming import name_recordings
from emeg.sensors import sensors_from_info
from emeg.store import Store, open_recording

EEG_1 = "sub-01/eeg/sub-01_task-imagery_run-1_desc-preproc"
EEG_2 = "sub-01/eeg/sub-01_task-imagery_run-2_desc-preproc"
BOTH = "sub-xdeadbeef/ses-a/meg/sub-xdeadbeef_ses-a_task-rest_acq-both_desc-preproc"
CTF = "sub-S02/meg/sub-S02_task-unknown_acq-x12_desc-preproc"


@pytest.fixture(scope="session")
def exported(stored: Stored) -> Path:
    out = stored.root.parent / "bids"
    result = export_bids(ExportBidsConfig(root=str(stored.root), out=str(out)))
    assert (result.n_recordings, result.n_subjects, result.done_before) == (4, 3, False)
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(folder: Path, name: str) -> mne.io.BaseRaw:
    if (folder / f"{name}_eeg.vhdr").exists():
        return mne.io.read_raw_brainvision(folder / f"{name}_eeg.vhdr", verbose="error")
    return mne.io.read_raw_fif(folder / f"{name}_meg.fif", verbose="error")


def validate(folder: Path) -> list[dict[str, object]]:
    """Errors that the public validator finds; skips where it cannot run."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    if not program.exists():
        pytest.skip("bids-validator-deno is not installed (it is in the dev extra)")
    done = subprocess.run(
        [program, folder, "--format", "json"], capture_output=True, text=True, check=False, timeout=120
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"the validator did not run: {done.stderr[-300:]}")
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]


def test_the_public_validator_finds_no_error(exported: Path):
    assert validate(exported) == []


def as_raw(exported: Path, folder: Path) -> Path:
    """Copy a dataset as a raw one, because the validator checks all required fields only in raw datasets."""
    for path in exported.rglob("*"):
        if path.is_file():
            target = folder / str(path.relative_to(exported)).replace("_desc-preproc", "")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    described = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
    (folder / "dataset_description.json").write_text(json.dumps(described | {"DatasetType": "raw"}))
    return folder


def test_every_required_field_is_there(exported: Path, tmp_path: Path):
    folder = as_raw(exported, tmp_path / "raw")
    assert validate(folder) == []
    (folder / f"{EEG_1.removesuffix('_desc-preproc')}_eeg.json").write_text('{"TaskName": "imagery"}')
    missing = {issue["subCode"] for issue in validate(folder)}
    assert missing >= {"EEGReference", "SamplingFrequency", "PowerLineFrequency", "SoftwareFilters"}


@pytest.mark.parametrize(("name", "recording"), [(EEG_1, "a"), (EEG_2, "b"), (BOTH, "c"), (CTF, "d")])
def test_mne_reads_the_stored_signal(stored: Stored, exported: Path, name: str, recording: str):
    source = open_recording(stored.store, recording * 16)
    raw = read(exported, name)
    assert raw.info["sfreq"] == source.sfreq
    assert tuple(raw.ch_names) == source.sensors.names
    found = raw.get_data()
    np.testing.assert_allclose(found, source.read(0, source.n_samples), rtol=2e-7, atol=0.0)
    step = np.repeat(source.scale, source.chunk, axis=1)[:, : source.n_samples]
    assert (np.abs(found - stored.signals[recording * 16]) <= 0.51 * step).all()


@pytest.mark.parametrize(("name", "recording"), [(EEG_1, "a"), (EEG_2, "b"), (BOTH, "c"), (CTF, "d")])
def test_events_are_the_stored_ones(stored: Stored, exported: Path, name: str, recording: str):
    rows = table(exported / f"{name}_events.tsv")
    own = [row for row in rows if not row["trial_type"].startswith("BAD_")]
    times = np.array([(float(row["onset"]), float(row["duration"])) for row in own])
    expected = sorted((event.onset_s, event.duration_s) for event in EVENTS)
    np.testing.assert_allclose(times, expected, rtol=0.0, atol=1e-6)
    assert [(row["trial_type"], row["value"]) for row in own] == [
        ("n/a", "T0"),
        ("left imagery", "S  1"),
        ("right imagery", "n/a"),
    ]
    names = open_recording(stored.store, recording * 16).sensors.names
    bad = [row for row in rows if row["trial_type"].startswith("BAD_")]
    assert [(row["trial_type"], float(row["onset"]), float(row["duration"]), row["channel"]) for row in bad] == [
        ("BAD_noisy", 2.0, 2.0, f"{names[2]},{names[3]}"),
        ("BAD_clipped", 5.0, 1.0, "n/a"),
    ]


def test_channels_say_unit_type_and_what_is_wrong(exported: Path):
    units = {name: {row["units"] for row in table(exported / f"{name}_channels.tsv")} for name in (EEG_1, BOTH, CTF)}
    assert units == {EEG_1: {"uV"}, BOTH: {"T", "T/m", "V"}, CTF: {"T"}}
    rows = table(exported / f"{BOTH}_channels.tsv")
    types = [row["type"] for row in rows]
    assert {kind: types.count(kind) for kind in set(types)} == {"MEGMAG": 102, "MEGGRADPLANAR": 204, "EEG": 19}
    assert {row["type"] for row in table(exported / f"{CTF}_channels.tsv")} == {"MEGGRADAXIAL"}
    first, second, third = rows[:3]
    assert (first["status"], first["status_description"]) == (
        "good",
        "interpolated from its neighbours, was flat, clipped",
    )
    assert second["status"] == "bad"
    assert "marked bad" in second["status_description"]
    assert (third["status"], third["status_description"]) == ("good", "n/a")
    assert read(exported, BOTH).info["bads"] == [second["name"]]


def test_sidecars_say_what_was_done(exported: Path):
    eeg = json.loads((exported / f"{EEG_1}_eeg.json").read_text(encoding="utf-8"))
    assert (eeg["SamplingFrequency"], eeg["PowerLineFrequency"], eeg["TaskName"]) == (256.0, 50.0, "imagery")
    assert eeg["RecordingDuration"] == pytest.approx(63.3, abs=1 / 256)
    filters = eeg["SoftwareFilters"]
    assert filters["Notch, zero-phase FIR"] == {"frequencies (Hz)": [50.0]}
    assert filters["Band pass, zero-phase FIR"] == {"low cutoff (Hz)": 0.1, "high cutoff (Hz)": 96.0}
    meg = json.loads((exported / f"{BOTH}_meg.json").read_text(encoding="utf-8"))
    assert (meg["MEGChannelCount"], meg["EEGChannelCount"], meg["PowerLineFrequency"]) == (306, 19, "n/a")


def test_places_come_back(stored: Stored, exported: Path):
    """Electrodes by the table, coils by the file; of a planar gradiometer all axes, though the store keeps one."""
    places = {
        row["name"]: [float(row[axis]) for axis in "xyz"]
        for row in table(exported / f"{EEG_1.removesuffix('_desc-preproc')}_electrodes.tsv")
    }
    for channel in stored.infos["hydrocel128"]["chs"]:
        if channel["ch_name"] in places:
            np.testing.assert_allclose(places[channel["ch_name"]], channel["loc"][:3], atol=1e-6)
    for device, name in (("vectorview306", BOTH), ("ctf275", CTF)):
        found = {channel["ch_name"]: channel for channel in read(exported, name).info["chs"]}
        for channel in stored.infos[device]["chs"]:
            loc = found[channel["ch_name"]]["loc"]
            planar = mne.channel_type(stored.infos[device], stored.infos[device].ch_names.index(channel["ch_name"]))
            kept = slice(0, 12) if planar == "grad" else [0, 1, 2, 9, 10, 11]
            np.testing.assert_allclose(loc[kept], channel["loc"][kept], atol=1e-6)
            assert np.linalg.det(loc[3:].reshape(3, 3)) == pytest.approx(1.0, abs=1e-5)
            assert found[channel["ch_name"]]["coil_type"] == channel["coil_type"]
    again = sensors_from_info(read(exported, BOTH).info).sensors
    assert again.layout_id == stored.rows["c" * 16].layout


def test_mne_bids_reads_it(exported: Path):
    mne_bids = pytest.importorskip("mne_bids")
    path = mne_bids.BIDSPath(
        root=exported, subject="01", task="imagery", run="1", datatype="eeg", description="preproc", suffix="eeg"
    )
    raw = mne_bids.read_raw_bids(path, verbose="error")
    assert set(raw.annotations.description) >= {"left imagery", "BAD_clipped"}
    assert raw.info["bads"] == [table(exported / f"{EEG_1}_channels.tsv")[1]["name"]]
    assert raw.info["line_freq"] == 50.0
    assert raw.get_montage() is not None


def test_a_second_run_writes_nothing(stored: Stored, exported: Path):
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    assert export_bids(ExportBidsConfig(root=str(stored.root), out=str(exported))).done_before
    assert before == {path: path.stat().st_mtime_ns for path in exported.rglob("*")}


def test_an_interrupted_export_leaves_nothing_and_can_be_repeated(
    stored: Stored, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = ExportBidsConfig(root=str(stored.root), out=str(tmp_path / "bids"))
    (tmp_path / ".partial-bids-0123456789abcdef").mkdir()  # of an export that nobody asks for any more
    done = []

    def stop(recording: object, *rest: object, **named: object) -> None:
        done.append(recording)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(signal_files, "write_fif", stop)
        with pytest.raises(KeyboardInterrupt):
            export_bids(config)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".partial-bids-")
    finished = {path: path.stat().st_mtime_ns for path in left.rglob("*.eeg")}
    assert len(finished) == 2
    assert not export_bids(config).done_before
    assert [path.name for path in tmp_path.iterdir()] == ["bids"]
    for path, time in finished.items():
        assert (tmp_path / "bids" / path.relative_to(left)).stat().st_mtime_ns == time
    assert content(tmp_path / "bids") == content(exported)


def test_a_folder_that_holds_something_else_is_left_alone(stored: Stored, exported: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with refusal(UserError, tmp_path, action="another folder"):
        export_bids(ExportBidsConfig(root=str(stored.root), out=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with refusal(UserError, "bids", action="another folder"):
        export_bids(ExportBidsConfig(root=str(stored.root), out=str(exported), where="task = 'rest'"))
    with refusal(UserError, "theirs", action="ours"):
        export_bids(ExportBidsConfig(root=str(stored.root), out=str(tmp_path / "new"), dataset="theirs"))


def test_nothing_is_published_over_what_came_meanwhile(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "bids"

    def interfere(*arguments: object) -> None:
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")

    monkeypatch.setattr(publishing, "_write_dataset", interfere)
    with refusal(UserError, "bids", "Directory not empty", action="move it"):
        export_bids(ExportBidsConfig(root=str(stored.root), out=str(out), where="task = ''"))
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_long_meg_is_written_in_parts_that_know_each_other(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(signal_files, "BLOCK_CHUNKS", 1)
    recording = open_recording(stored.store, "c" * 16)
    name = Path(BOTH).name
    signal_files.write_fif(recording, tmp_path, name, bad=(), part="12MB")
    front = name.removesuffix("_desc-preproc")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{front}_split-0{part}_desc-preproc_meg.fif" for part in (1, 2, 3)
    ]
    raw = mne.io.read_raw_fif(tmp_path / f"{front}_split-01_desc-preproc_meg.fif", verbose="error")
    np.testing.assert_allclose(raw.get_data(), recording.read(0, recording.n_samples), rtol=2e-7)


def test_no_file_names_the_machine_or_the_time(exported: Path, tmp_path: Path, stored: Stored):
    """Two exports are the same bytes, another day and elsewhere."""
    out = tmp_path / "again"
    export_bids(ExportBidsConfig(root=str(stored.root), out=str(out), dataset="ours"))
    assert content(out) == content(exported)


def test_a_store_elsewhere_gives_the_same_export(stored: Stored, exported: Path, tmp_path: Path):
    memory = fsspec.filesystem("memory")
    memory.put(str(stored.root), "/export-store", recursive=True)
    try:
        export_bids(ExportBidsConfig(root="memory://export-store", out=str(tmp_path / "bids")))
    finally:
        memory.rm("/export-store", recursive=True)
    assert content(tmp_path / "bids") == content(exported)


def test_a_second_writer_waits_and_other_leftovers_stay(stored: Stored, tmp_path: Path):
    config = ExportBidsConfig(root=str(stored.root), out=str(tmp_path / "bids"), where="task = ''")
    theirs = tmp_path / ".partial-bids-of-mine-0123456789abcdef"  # of an export to "bids-of-mine"
    theirs.mkdir()
    with publishing._staging(tmp_path / "bids", "f" * 16):  # another run writes another export to the same folder
        export_bids(config)
        assert (tmp_path / f".partial-bids-{'f' * 16}").exists()
        with refusal(UserError, "bids", action="wait"), publishing._staging(tmp_path / "bids", "f" * 16):
            pytest.fail("two writers in one folder")
    assert theirs.exists()
    assert export_bids(config).done_before


def test_names_are_unique_and_plain(stored: Stored):
    row = stored.rows["a" * 16]
    rows = [
        row,
        row.model_copy(update={"recording": "b" * 16}),
        row.model_copy(update={"recording": "c" * 16, "subject": "sub-0-1", "session": "día 1"}),
        row.model_copy(update={"recording": "d" * 16, "dataset": "theirs"}),
    ]
    alone, other, third, elsewhere = name_recordings(rows)
    assert len({one.key for one in (alone, other, third, elsewhere)}) == 4
    assert alone.subject == other.subject != third.subject
    assert (alone.acquisition, other.acquisition) == ("aaaaaa", "bbbbbb")
    assert elsewhere.subject == "theirs01"
    assert third.session == "da1"
    assert [one.key for one in reversed(name_recordings(rows[::-1]))] == [one.key for one in name_recordings(rows)]


def test_several_datasets_go_into_one(tmp_path: Path):
    store = Store.open(tmp_path / "store", create=True)
    stored = Stored(tmp_path / "store", store, {}, {}, {})
    from tests.export.conftest import device_info

    sensors = sensors_from_info(device_info("standard19")).sensors
    put(stored, "1" * 16, sensors, 6.0, subject="sub-01", dataset="ds000117", licence="CC0", task="faces")
    put(stored, "2" * 16, sensors, 6.0, subject="sub-01", dataset="ours", licence="CC-BY-4.0", task="rest")
    out = tmp_path / "bids"
    result = export_bids(ExportBidsConfig(root=str(stored.root), out=str(out)))
    assert result.licences == ("CC-BY-4.0", "CC0")
    described = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))
    assert described["DatasetType"] == "derivative"
    assert described["License"] == "ds000117: CC0; ours: CC-BY-4.0"
    assert described["SourceDatasets"][0]["URL"] == "https://openneuro.org/datasets/ds000117"
    sidecar = json.loads(next(out.glob("sub-ds00011701/eeg/*_eeg.json")).read_text(encoding="utf-8"))
    assert sidecar["Sources"] == [f"bids:ds000117:sub-01/{'1' * 16}.edf"]
    assert [row["participant_id"] for row in table(out / "participants.tsv")] == ["sub-ds00011701", "sub-ours01"]
    assert validate(out) == []
