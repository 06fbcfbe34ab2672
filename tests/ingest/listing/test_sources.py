"""What an archive's files are taken for."""

import pytest

from emeg.errors import UserError
from emeg.ingest import IngestConfig, list_sources
from emeg.ingest.listing.sources import list_archive


def archive(tmp_path, *paths, **texts):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(texts.get(path, "x"))
    return IngestConfig(archive=str(tmp_path), root="unused")


def by_path(config):
    return {source.path: source for source in list_sources(config)}


def test_bids_entities_and_the_inheritance_rule(tmp_path):
    eeg = "sub-01/ses-02/eeg/sub-01_ses-02"
    config = archive(
        tmp_path,
        "task-rest_eeg.json",
        "task-other_eeg.json",
        "sub-01/sub-01_eeg.json",
        "sub-02/sub-02_eeg.json",
        f"{eeg}_task-rest_acq-a_run-1_eeg.edf",
        f"{eeg}_task-rest_acq-a_run-1_eeg.json",
        f"{eeg}_task-rest_acq-a_run-2_channels.tsv",
        f"{eeg}_task-rest_channels.tsv",
        f"{eeg}_space-CapTrak_electrodes.tsv",
        f"{eeg}_space-CapTrak_coordsystem.json",
        f"{eeg}_task-rest_events.json",
    )
    source = by_path(config)[f"{eeg}_task-rest_acq-a_run-1_eeg.edf"]
    assert (source.subject, source.session, source.task, source.acquisition, source.run) == (
        "sub-01",
        "02",
        "rest",
        "a",
        "1",
    )
    assert source.sidecars_named("json") == (
        "task-rest_eeg.json",
        "sub-01/sub-01_eeg.json",
        f"{eeg}_task-rest_acq-a_run-1_eeg.json",
    )
    assert source.sidecars_named("channels") == (f"{eeg}_task-rest_channels.tsv",)
    assert source.sidecars_named("electrodes") == (f"{eeg}_space-CapTrak_electrodes.tsv",)
    assert source.sidecars_named("coordsystem") == (f"{eeg}_space-CapTrak_coordsystem.json",)
    assert source.sidecars_named("events") == ()


def test_what_is_no_recording_of_a_person_is_left_aside_and_counted(tmp_path):
    config = archive(
        tmp_path,
        "README",
        "derivatives/clean/sub-01/eeg/sub-01_task-a_eeg.edf",
        "sourcedata/sub-01.edf",
        "sub-emptyroom/ses-1/meg/sub-emptyroom_ses-1_task-noise_meg.fif",
        "sub-01/meg/sub-01_acq-crosstalk_meg.fif",
        "sub-01/meg/sub-01_task-noise_meg.fif",
        "sub-01/meg/sub-01_task-a_meg.fif",
        "sub-01/meg/sub-01_task-a_proc-x-epo.fif",
        "code/test.edf",
        "participants.tsv",
        ".git/objects/x.edf",
    )
    listing = list_archive(config)
    assert [source.path for source in listing.sources] == ["sub-01/meg/sub-01_task-a_meg.fif"]
    assert listing.skipped == {
        "calibration": 1,
        "code": 1,
        "derivatives": 1,
        "empty room": 2,
        "not a recording": 2,
        "sourcedata": 1,
    }


def test_companions_belong_to_their_recording(tmp_path):
    config = archive(
        tmp_path,
        "a/x.vhdr",
        "a/x.eeg",
        "a/x.vmrk",
        "b/y.set",
        "b/y.fdt",
        "c/z_raw.fif",
        "c/z_raw-1.fif",
        "c/z_raw-10.fif",
        "c/z_raw-2.fif",
        "d/sub-1_split-01_meg.fif",
        "d/sub-1_split-02_meg.fif",
        "e/run.ds/run.meg4",
        "e/run.ds/hz.ds/hz.meg4",
        "f/e.mff/signal1.bin",
        "g/config",
        "g/hs_file",
        "g/c,rfDC",
        "h/k.sqd",
        "h/k_mrk.sqd",
        "h/k.elp",
        "i/n.data",
        "i/n.head",
        "i/other.data",
        "j/nihon.eeg",
        "j/nihon.21e",
    )
    files = {source.path: [f.path for f in source.files] for source in list_sources(config)}
    assert files == {
        "a/x.vhdr": ["a/x.vhdr", "a/x.eeg", "a/x.vmrk"],
        "b/y.set": ["b/y.set", "b/y.fdt"],
        "c/z_raw.fif": ["c/z_raw.fif", "c/z_raw-1.fif", "c/z_raw-2.fif", "c/z_raw-10.fif"],
        "d/sub-1_split-01_meg.fif": ["d/sub-1_split-01_meg.fif", "d/sub-1_split-02_meg.fif"],
        "e/run.ds": ["e/run.ds/hz.ds/hz.meg4", "e/run.ds/run.meg4"],
        "f/e.mff": ["f/e.mff/signal1.bin"],
        "g/c,rfDC": ["g/c,rfDC", "g/config", "g/hs_file"],
        "h/k.sqd": ["h/k.sqd", "h/k.elp", "h/k_mrk.sqd"],
        "i/n.data": ["i/n.data", "i/n.head"],
        "j/nihon.eeg": ["j/nihon.eeg", "j/nihon.21e"],
    }


def test_a_renamed_brainvision_header_keeps_the_data_file_it_names(tmp_path):
    config = archive(
        tmp_path, "new.vhdr", "old.eeg", "old.vmrk", **{"new.vhdr": "DataFile=old.eeg\nMarkerFile = old.vmrk\n"}
    )
    assert [[f.path for f in s.files] for s in list_sources(config)] == [["new.vhdr", "old.eeg", "old.vmrk"]]


def test_a_later_part_without_the_first_is_a_source_with_a_problem(tmp_path):
    source = list_sources(archive(tmp_path, "sub-1/meg/sub-1_task-a_split-02_meg.fif"))[0]
    assert source.problem == "this is part 2 of a split recording and the first part is absent"


def test_outside_bids_a_folder_is_a_person_and_a_lone_file_is_one(tmp_path):
    sources = by_path(archive(tmp_path, "anna/1.edf", "anna/2.edf", "bert/1.edf", "carl.edf", "anna/1_eeg.json"))
    people = {path: source.subject for path, source in sources.items()}
    assert people["anna/1.edf"] == people["anna/2.edf"]
    assert len(set(people.values())) == 3
    assert not any(name in label for name in ("anna", "bert", "carl") for label in people.values())
    assert sources["anna/1.edf"].sidecars_named("json") == ("anna/1_eeg.json",)
    assert sources["anna/2.edf"].sidecars_named("json") == ()


def test_an_absent_archive_is_the_callers_mistake(tmp_path):
    with pytest.raises(UserError, match="there is no such archive"):
        list_sources(IngestConfig(archive=str(tmp_path / "absent"), root="unused"))
