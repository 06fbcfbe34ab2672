"""The synthetic dataset on disk: structure, known signals, reproducible bytes, and treatment of existing folders."""

import csv
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import mne
import numpy as np
import pytest
from pydantic import ValidationError
from tests.messages import refusal

from emeg.errors import UserError
from emeg.synthetic import SynthesizeConfig, archive, synthesize
from emeg.synthetic.archive import plan_runs
from emeg.synthetic.config import DEVICE_NAMES
from emeg.synthetic.devices import DEVICES
from emeg.synthetic.people import draw_person

TINY = {"n_subjects": 1, "n_trials": 2, "imagery_s": 1.0, "short_s": 4.0, "workers": 1}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def read(path: Path) -> mne.io.BaseRaw:
    return mne.io.read_raw(path, preload=True, verbose="error")


def sibling(path: Path, ending: str) -> Path:
    return path.with_name(path.name.rsplit("_", 1)[0] + ending)


def test_recordings_and_their_sidecars_agree(small_archive):
    folder, truth = small_archive
    written = {
        path.relative_to(folder).as_posix()
        for path in folder.glob("sub-*/*/*")
        if path.suffix in {".edf", ".bdf", ".set", ".fif"}
    }
    assert written == set(truth["recordings"])
    assert {facts["device"] for facts in truth["recordings"].values()} == set(DEVICE_NAMES)
    for name, facts in truth["recordings"].items():
        path, device = folder / name, DEVICES[facts["device"]]
        raw = read(path)
        channels = read_table(sibling(path, "_channels.tsv"))
        assert [row["name"] for row in channels] == raw.ch_names
        assert {row["status"] for row in channels} == {"good"}
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert sidecar["SamplingFrequency"] == raw.info["sfreq"] == device.sfreq
        assert sidecar["PowerLineFrequency"] == facts["mains_hz"] in (50.0, 60.0)
        assert raw.n_times == facts["duration_s"] * device.sfreq
        events = sibling(path, "_events.tsv")
        assert events.exists() == (facts["task"] != "rest")
        if events.exists():
            rows = read_table(events)
            assert list(rows[0])[:4] == ["onset", "duration", "trial_type", "value"]
            kinds = {row["trial_type"] for row in rows}
            assert kinds == ({"tone"} if facts["task"] == "tones" else {"left_imagery", "right_imagery"})
    assert {facts["task"] for facts in truth["recordings"].values()} == {"imagery", "tones", "rest"}


def test_dataset_files(small_archive):
    folder, truth = small_archive
    assert json.loads((folder / "dataset_description.json").read_text())["DatasetType"] == "raw"
    people = read_table(folder / "participants.tsv")
    assert [row["participant_id"] for row in people] == ["sub-01", "sub-02", "sub-03"]
    assert (
        [row["group"] for row in people]
        == [person["group"] for person in truth["people"]]
        == ["control", "slowed", "control"]
    )
    assert (folder / "README.md").stat().st_size > 200


def test_flat_and_noisy_channels_are_those_of_the_truth(small_archive):
    folder, truth = small_archive
    for name, facts in truth["recordings"].items():
        raw = read(folder / name)
        spread = np.diff(raw.get_data(), axis=1).std(axis=1)
        coils = np.array([int(channel["coil_type"]) for channel in raw.info["chs"]])
        usual = np.array([np.median(spread[coils == coil]) for coil in coils])
        assert facts["flat"]
        assert facts["noisy"]
        assert {raw.ch_names[row] for row in np.flatnonzero(spread < 1e-3 * usual)} == set(facts["flat"])
        assert set(facts["noisy"]) <= {raw.ch_names[row] for row in np.flatnonzero(spread > 3 * usual)}


def test_digitised_electrodes_are_equal_in_file_and_table(small_archive):
    folder, truth = small_archive
    name = next(name for name, facts in truth["recordings"].items() if facts["device"] == "hydrocel128")
    raw = read(folder / name)
    table = read_table(next((folder / name).parent.glob("*hydrocel128_electrodes.tsv")))
    assert [row["name"] for row in table] == raw.ch_names
    stated = np.array([[float(row[axis]) for axis in "xyz"] for row in table])
    np.testing.assert_allclose([channel["loc"][:3] for channel in raw.info["chs"]], stated, atol=1e-6)


def test_simultaneous_devices_saw_the_same_brain(small_archive):
    """Each can be predicted from the other, and not from another person's recording."""
    folder, truth = small_archive
    bad = {name: facts["flat"] + facts["noisy"] for name, facts in truth["recordings"].items()}

    def patterns(name):
        raw = read(folder / name).drop_channels(bad[name])
        raw.resample(250.0, npad=0, verbose="error").filter(4.0, 30.0, verbose="error")
        signal = raw.get_data()[:, 250:-250]
        signal = signal / np.array([channel["range"] * channel["cal"] for channel in raw.info["chs"]])[:, None]
        signal -= signal.mean(axis=0)
        return np.linalg.svd(signal, full_matrices=False)[2][:12].T

    def explained(target, regressors):
        fit = regressors @ np.linalg.lstsq(regressors, target, rcond=None)[0]
        return 1 - ((target - fit) ** 2).sum() / (target**2).sum()

    assert len(truth["simultaneous"]) == 3
    pairs = [[patterns(name)[:, :6] for name in group] for group in truth["simultaneous"]]
    together = [explained(first, second) for first, second in pairs]
    apart = [explained(pairs[index][0], pairs[index - 1][1]) for index in range(3)]
    assert min(together) > 3 * max(apart)


def test_same_settings_same_bytes_whatever_machine_and_clock(tmp_path, small_archive, small_settings, monkeypatch):
    monkeypatch.setattr("uuid.getnode", lambda: 0x123456789ABC)
    monkeypatch.setattr("time.asctime", lambda *_: "Mon Jan  1 00:00:00 2001")
    monkeypatch.setattr("time.time", lambda: 1e9)
    synthesize(SynthesizeConfig(out=str(tmp_path / "again"), workers=1, **small_settings))
    assert digests(tmp_path / "again") == digests(small_archive.folder)


def test_workers_do_not_show_in_the_bytes_but_the_seed_does(tmp_path):
    settings = TINY | {
        "n_subjects": 2,
        "devices": ("standard19", "opm64"),
        "imagery_device": "standard19",
        "devices_per_subject": 1,
    }
    for name, changes in {"one": {}, "two": {"workers": 2}, "other": {"seed": 1}}.items():
        synthesize(SynthesizeConfig(out=str(tmp_path / name), **(settings | changes)))
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    signals = [path for path in one if path.endswith((".edf", ".fif"))]
    assert len(signals) == 4
    assert all(one[path] != other.get(path) for path in signals)


def test_a_complete_archive_is_left_alone_and_a_foreign_folder_refused(tmp_path):
    settings = TINY | {"devices": ("standard19",), "imagery_device": None, "devices_per_subject": 1}
    config = SynthesizeConfig(out=str(tmp_path / "archive"), **settings)
    calls = []
    first = synthesize(config, progress=lambda done, total, message: calls.append((done, total, message)))
    assert calls == [(1, 1, "sub-01")]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*")}
    second = synthesize(config, progress=lambda *_: pytest.fail("nothing was to be done"))
    assert (first.done_before, second.done_before) == (False, True)
    assert second.model_dump(exclude={"done_before"}) == first.model_dump(exclude={"done_before"})
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*")}
    with refusal(UserError, tmp_path / "archive", action="--out"):
        synthesize(config.model_copy(update={"seed": 9}))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("years of work")
    with refusal(UserError, tmp_path / "foreign", action="--out"):
        synthesize(config.model_copy(update={"out": str(tmp_path / "foreign")}))
    with refusal(UserError, "memory:///archive", action="local folder"):
        synthesize(config.model_copy(update={"out": "memory://archive"}))


def test_a_failure_leaves_nothing_and_leftovers_are_swept(tmp_path, monkeypatch):
    settings = TINY | {"devices": ("standard19",), "imagery_device": None, "devices_per_subject": 1}
    config = SynthesizeConfig(out=str(tmp_path / "archive"), **settings)
    (tmp_path / ".partial-archive").mkdir()
    (tmp_path / ".partial-archive" / "half.edf").write_bytes(b"0")
    (tmp_path / "archive").mkdir()  # an empty folder is room enough
    with monkeypatch.context() as patch:
        patch.setattr(archive, "write_table", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            synthesize(config)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    assert not any((tmp_path / "archive").iterdir())
    synthesize(config)
    assert (tmp_path / "archive" / "sourcedata" / "truth.json").is_file()
    assert not (tmp_path / "archive" / "half.edf").exists()


def test_the_default_plan_gives_every_device_four_people():
    config = SynthesizeConfig(out="unused")
    seen: dict[str, set[str]] = {}
    groups: dict[str, set[str]] = {}
    for index in range(config.n_subjects):
        person = draw_person(index, n_subjects=config.n_subjects, seed=0)
        for run in plan_runs(config, index, person):
            for device in run.devices:
                seen.setdefault(device, set()).add(person.label)
                groups.setdefault(device, set()).add(person.group)
    assert set(seen) == set(config.devices)
    assert min(len(people) for people in seen.values()) >= 4
    assert all(group == {"control", "slowed"} for group in groups.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"devices": ("biosemi64", "toaster")},
        {"devices": ()},
        {"devices": ("biosemi64", "biosemi64")},
        {"devices": ("standard19",)},
        {"devices_per_subject": 6},
        {"imagery_device": None, "devices_per_subject": 0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValidationError):
        SynthesizeConfig(out="unused", **wrong)


def test_importing_the_room_is_light():
    code = "import sys, emeg.synthetic; print([name for name in ('mne', 'torch', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
