"""How the files of an archive are classified."""

import gzip
import struct

import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.ingest import IngestConfig, ingest, list_sources
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
        "d/sub-1_split-01_meg.fif": ["d/sub-1_split-01_meg.fif", "d/sub-1_split-02_meg.fif"],
        "e/run.ds": ["e/run.ds/hz.ds/hz.meg4", "e/run.ds/run.meg4"],
        "f/e.mff": ["f/e.mff/signal1.bin"],
        "g/c,rfDC": ["g/c,rfDC", "g/config", "g/hs_file"],
        "h/k.sqd": ["h/k.sqd", "h/k.elp", "h/k_mrk.sqd"],
        "i/n.data": ["i/n.data", "i/n.head"],
        "j/nihon.eeg": ["j/nihon.eeg", "j/nihon.21e"],
    }


PREVIOUS, NEXT = (struct.pack(">iiiii", 115, 3, 4, 0, role) for role in (1, 2))
"""Tags by which a FIF file says that another one comes before or after it."""


def written(tmp_path, **contents):
    for name, content in contents.items():
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(content)
    return [
        [file.path.removeprefix("a/") for file in source.files]
        for source in list_sources(IngestConfig(archive=str(tmp_path), root="unused"))
    ]


def test_numbered_fif_files_are_parts_only_if_the_files_say_so(tmp_path):
    body = b"x" * 3_000_000
    parts = written(
        tmp_path,
        **{
            "z_raw.fif": body + NEXT,
            "z_raw-1.fif": PREVIOUS + body + NEXT,
            "z_raw-2.fif": PREVIOUS + body,
            "z_raw-3.fif": body,
            "own_raw.fif": body,
            "own_raw-1.fif": body,
            "packed_raw.fif.gz": gzip.compress(body + NEXT),
            "packed_raw-1.fif.gz": gzip.compress(PREVIOUS + body),
            "x-epo.fif": body,
            "x-epo-1.fif": body,
        },
    )
    assert parts == [
        ["own_raw-1.fif"],
        ["own_raw.fif"],
        ["packed_raw.fif.gz", "packed_raw-1.fif.gz"],
        ["z_raw-3.fif"],
        ["z_raw.fif", "z_raw-1.fif", "z_raw-2.fif"],
    ]


def test_a_later_part_that_names_its_lost_first_part_is_a_source_with_a_problem(tmp_path):
    [source] = list_sources(archive(tmp_path, "z_raw-1.fif", **{"z_raw-1.fif": PREVIOUS.decode("latin-1")}))
    assert "later part" in source.problem


def test_companions_belong_to_a_run_not_to_a_folder(tmp_path):
    kit = ["r1.sqd", "r2.sqd", "r1_mrk.sqd", "r2_mrk.sqd", "all.elp", "all.hsp"]
    bids = [f"sub-1_run-{i}_{kind}" for i in (1, 2) for kind in ("meg.con", "markers.mrk")] + ["sub-1_headshape.pos"]
    bti = ["one_c,rfDC", "one_config", "two_c,rfDC", "two_config", "hs_file"]
    config = archive(tmp_path, *(f"kit/{p}" for p in kit), *(f"bids/{p}" for p in bids), *(f"bti/{p}" for p in bti))
    found = {s.path: {f.path.partition("/")[2] for f in s.files[1:]} for s in list_sources(config)}
    assert found == {
        "bids/sub-1_run-1_meg.con": {"sub-1_run-1_markers.mrk", "sub-1_headshape.pos"},
        "bids/sub-1_run-2_meg.con": {"sub-1_run-2_markers.mrk", "sub-1_headshape.pos"},
        "bti/one_c,rfDC": {"one_config", "hs_file"},
        "bti/two_c,rfDC": {"two_config", "hs_file"},
        "kit/r1.sqd": {"r1_mrk.sqd", "all.elp", "all.hsp"},
        "kit/r2.sqd": {"r2_mrk.sqd", "all.elp", "all.hsp"},
    }


def test_a_header_that_names_another_recordings_data_file_has_that_and_not_the_one_of_its_stem(tmp_path):
    config = archive(
        tmp_path,
        *("a/x.vhdr", "a/x.eeg", "a/other.eeg", "a/x.vmrk", "b/p.lay", "b/p.dat", "b/q.dat"),
        **{"a/x.vhdr": "DataFile=other.eeg\nMarkerFile=x.vmrk\n", "b/p.lay": "[FileInfo]\nFile=q.dat\n"},
    )
    listing = list_archive(config)
    files = {source.path: [file.path for file in source.files] for source in listing.sources}
    assert files == {"a/x.vhdr": ["a/x.vhdr", "a/x.vmrk", "a/other.eeg"], "b/p.lay": ["b/p.lay", "b/q.dat"]}
    assert listing.skipped == {"not a recording": 2}


@pytest.mark.parametrize(
    ("path", "datatype"),
    [
        ("sub-1/ieeg/sub-1_task-a_ieeg.edf", "ieeg"),
        ("sub-1/eeg/sub-1_task-a_ieeg.edf", "ieeg"),
        ("sub-1/ieeg/sub-1_task-a_eeg.edf", "ieeg"),
        ("sub-1/ses-2/meg/sub-1_ses-2_meg.fif", "meg"),
        ("anna/1.edf", ""),
    ],
)
def test_the_datatype_travels_with_the_source(tmp_path, path, datatype):
    [source] = list_sources(archive(tmp_path, path))
    assert source.datatype == datatype


def test_bidsignore_is_obeyed_for_recordings_and_sidecars(tmp_path):
    eeg = "sub-1/eeg/sub-1"
    config = archive(
        tmp_path,
        *("dataset_description.json", ".bidsignore", f"{eeg}_task-a_eeg.edf", f"{eeg}_task-b_eeg.edf"),
        *(f"{eeg}_task-b_channels.tsv", "extra/sub-9_eeg.edf", "sub-2/eeg/sub-2_task-a_eeg.edf"),
        **{".bidsignore": "*task-a*\n!sub-2/**\n*_channels.tsv\n# extra\nextra/\n", "dataset_description.json": "{}"},
    )
    listing = list_archive(config)
    assert [source.path for source in listing.sources] == [f"{eeg}_task-b_eeg.edf", "sub-2/eeg/sub-2_task-a_eeg.edf"]
    assert listing.sources[0].sidecars == ()
    assert listing.skipped == {"listed in .bidsignore": 2}


def test_files_without_a_reader_are_named_in_the_listing_and_in_the_refusal(tmp_path):
    names = ["a/1.xdf", "a/2.xdf", "a/3.xdf", "a/4.xdf", "a/5.xdf", "a/r.bin", "a/r.txt", "a/t.snirf"]
    names += ["a/s.bin", "a/s.txt"]
    config = archive(tmp_path / "lab", *names, **{"a/r.txt": "<start main header>\n"})
    listing = list_archive(config)
    assert [(source.path, source.format) for source in listing.sources] == [("a/r.bin", "artemis123")]
    assert listing.skipped == {
        "no reader for .snirf (near-infrared spectroscopy)": 1,
        "no reader for .xdf (Lab Streaming Layer)": 5,
        "not a recording": 2,
    }
    assert listing.skipped_examples["no reader for .xdf (Lab Streaming Layer)"] == ("a/1.xdf", "a/2.xdf", "a/3.xdf")
    (tmp_path / "lab/a/r.bin").unlink()
    with refusal(UserError, ".xdf (Lab Streaming Layer): 5, such as a/1.xdf, a/2.xdf, a/3.xdf", action="--mapping"):
        ingest(config.model_copy(update={"root": str(tmp_path / "store")}))


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
    with refusal(UserError, "absent", action="s3://bucket/prefix"):
        list_sources(IngestConfig(archive=str(tmp_path / "absent"), root="unused"))
