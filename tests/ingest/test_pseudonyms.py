"""Names and dates planted in every field of every format that can be written stay in the archive."""

import logging
import re
import shutil
from pathlib import Path

import pytest
from tests.ingest.maker_formats import Planted, write_ctf
from tests.ingest.personal_data import (
    BORN,
    CHANNELS,
    FORBIDDEN,
    MEASURED,
    NAME,
    SERIAL,
    assert_private,
    outputs,
    write_archive,
    write_damaged,
)
from tests.messages import check_message

from emeg.curation import WithdrawConfig, withdraw
from emeg.data import ShardConfig, shard
from emeg.ingest import IngestConfig, ingest
from emeg.ingest.pseudonyms import KEY_VARIABLE, REMARK, Pseudonyms, markers, scrub
from emeg.store import CatalogConfig, Store, open_recording, query_catalog, read_catalog, read_events, read_quarantine

LATER = {"08": ["769", "770"], "09": ["stm+"] * 3, "10": [REMARK, "left"], "11": [], "12": [REMARK]}
"""Events of the makers' formats, by person."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted") / "ds"
    write_archive(root)
    return root


def test_planted_names_and_dates_reach_no_output(archive, tmp_path, caplog):
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        result = ingest(
            IngestConfig(archive=str(archive), root=str(tmp_path), workers=0),
            progress=lambda done, total, message: said.append(message),
        )
    assert (len(result.ready), len(result.quarantined)) == (11, 1)
    assert "no key in EMEG_PSEUDONYM_KEY" in result.people
    store = Store.open(tmp_path)
    shard(ShardConfig(root=str(tmp_path), segment_s=4.0, held_out=0.25))
    for name in ("rows.parquet", "rows.csv", "rows.json"):
        query_catalog(CatalogConfig(root=str(tmp_path), columns=("*",), out=str(tmp_path / name)))
    found = outputs(store, tmp_path)
    assert any(where.startswith("headers of") for where in found)
    found |= {"log": caplog.text, "progress": str(said), "result": result.model_dump_json()}
    assert_private(found, FORBIDDEN)
    # what was planted was there to be found, and what is no one's name is still said
    for row in read_catalog(store):
        events = [event.trial_type.rpartition("/")[2] for event in read_events(store, row.recording)]
        wanted = ["left", "right", "left", REMARK, REMARK]
        if row.subject == "sub-01":  # a table names two of them; what only the file has is added
            wanted = ["left", "right", REMARK, REMARK]
        wanted = LATER.get(row.subject.removeprefix("sub-"), wanted)
        assert [text for text in events if text] == wanted
        recording = open_recording(store, row.recording)
        assert recording.sensors.names == CHANNELS or row.subject in {"sub-09", "sub-10", "sub-12"}
        if row.session:
            assert any("SamplingFrequency" in note for note in row.notes)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.7, 0.97])
def test_a_ctf_marker_file_that_ends_early_is_refused(tmp_path, kept):
    """MNE-Python would never stop reading."""
    folder = tmp_path / "ds/sub-01/meg/sub-01_task-rest_meg.ds"
    write_ctf(folder, Planted(NAME, SERIAL, BORN, MEASURED))
    markers = folder / "MarkerFile.mrk"
    markers.write_bytes(markers.read_bytes()[: int(kept * markers.stat().st_size)].rstrip(b"+1.5 \t\n0"))
    result = ingest(IngestConfig(archive=str(tmp_path / "ds"), root=str(tmp_path / "store"), workers=0))
    [refused] = read_quarantine(Store.open(tmp_path / "store"))
    assert len(result.quarantined) == 1
    check_message(refused, "marker file", action="extension")


def test_messages_about_damaged_files_hold_no_names(archive, tmp_path, caplog):
    """Names and dates where numbers should be: readers quote them, quarantine and logs must not."""
    write_damaged(archive, tmp_path / "ds", copies=7)
    with caplog.at_level(logging.DEBUG):
        result = ingest(IngestConfig(archive=str(tmp_path / "ds"), root=str(tmp_path / "store"), workers=0))
    assert len(result.quarantined) >= 15
    store = Store.open(tmp_path / "store")
    found = {**outputs(store, tmp_path / "store"), "log": caplog.text, "result": result.model_dump_json()}
    assert_private(found, FORBIDDEN)


def test_with_a_key_no_label_of_the_archive_remains(archive, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(KEY_VARIABLE, "a secret of the lab")
    with caplog.at_level(logging.DEBUG):
        result = ingest(IngestConfig(archive=str(archive), root=str(tmp_path / "one"), workers=0))
    assert result.people.startswith("keyed")
    store = Store.open(tmp_path / "one")
    labels = tuple(f"sub-{i:02}" for i in range(1, 13))
    assert_private({**outputs(store, tmp_path / "one"), "log": caplog.text}, (*FORBIDDEN, *labels))
    people = {row.subject for row in read_catalog(store)}
    gone = withdraw(WithdrawConfig(root=str(tmp_path / "one"), dataset="ds", subject="01", dry_run=True))
    assert len(gone.recordings) == 1
    assert people == {Pseudonyms(b"a secret of the lab").subject(label) for label in labels if label != "sub-07"}


def test_pseudonyms_are_stable_and_depend_on_the_key():
    one, other = Pseudonyms(b"one"), Pseudonyms(b"other")
    assert one.subject("sub-01") == Pseudonyms(b"one").subject("sub-01")
    assert len({one.subject("sub-01"), one.subject("sub-02"), other.subject("sub-01"), "sub-01"}) == 4
    assert Pseudonyms().subject("sub-01") == "sub-01"
    assert "1987" not in Pseudonyms().path("sub-01/ses-19871129/eeg/sub-01_ses-19871129_task-rest_eeg.edf")


@pytest.mark.parametrize(
    "label", ["01", "xp101", "mind002", "NDARAB793GL3", "A2002", "patient7", "emptyroom", "hc3", "MDD1"]
)
def test_codes_of_people_are_kept(label):
    assert Pseudonyms().subject(f"sub-{label}") == f"sub-{label}"


@pytest.mark.parametrize(
    "label", ["anna", "AnnaSchmidt", "annaschmidt2", "schmidt1961", "SCHMIDT", "ANNA1961", "patientAnna7"]
)
def test_labels_that_may_be_names_are_hashed(label):
    public = Pseudonyms().subject(f"sub-{label}")
    assert re.fullmatch(r"sub-x[0-9a-f]{16}", public)
    path = Pseudonyms().path(f"sub-{label}/eeg/sub-{label}_task-rest_eeg.edf")
    assert path == f"{public}/eeg/{public}_task-rest_eeg.edf"
    assert label.lower() not in scrub(f"sub-{label}: no", Pseudonyms().hidden([f"sub-{label}/a.edf"])).lower()


def test_paths_keep_their_labels_and_extensions():
    path = "sub-01/ses-02/meg/sub-01_ses-02_task-rest_run-01_split-01_meg.fif.gz"
    assert Pseudonyms().path(path) == path
    public = Pseudonyms().path("Ann Quillfeather/1987-11-29 night.edf")
    assert re.fullmatch(r"x[0-9a-f]{16}/x[0-9a-f]{16}\.edf", public)
    assert scrub("Ann Quillfeather/a.edf: ended", Pseudonyms().hidden(["Ann Quillfeather/a.edf"])).endswith(
        "/a.edf: ended"
    )


@pytest.mark.parametrize(
    ("person", "path"),
    [
        ("ctf275", "ctf275/test_ctf_comp_raw.fif"),
        ("neuromag", "neuromag/sample_audvis_trunc_raw_sss.fif"),
        ("P07", "P07/old_layout_latin1.vhdr"),
    ],
)
def test_a_file_in_small_letters_can_be_found_again(person, path):
    assert Pseudonyms().path(path, person) == path
    assert Pseudonyms(b"key").path(path, person) != path


@pytest.mark.parametrize(
    ("person", "path", "private"),
    [
        ("quillfeather", "quillfeather/night_of_quillfeather.edf", "quillfeather"),
        ("P07", "P07/Quillfeather_rest.edf", "Quillfeather"),
        ("P07", "P07/QUILLFEATHER.edf", "QUILLFEATHER"),
        ("P07", "P07/night_1987-11-29.edf", "1987"),
    ],
)
def test_a_file_that_may_say_whose_it_is_cannot(person, path, private):
    public = Pseudonyms().path(path, person)
    assert private not in public
    assert private not in scrub(f"{path}: ended early", Pseudonyms().hidden([path], person))


@pytest.mark.parametrize(
    ("path", "private"),
    [
        ("anna-schmidt/rec.edf", ("anna", "schmidt")),
        ("Anna-Schmidt/night.edf", ("anna", "schmidt")),
        ("anna_schmidt/rec.edf", ("anna", "schmidt")),
        ("patients-anna/rec.edf", ("anna",)),
        ("anna-schmidt_task-rest_eeg.edf", ("anna", "schmidt")),
        ("sub-01/sub-01_anna_eeg.edf", ("anna",)),
        ("sub-01/sub-01_name-anna_eeg.edf", ("anna",)),
        ("sub-01/sub-01_run-anna_eeg.edf", ("anna",)),
        ("sub-01/sub-01_part-anna_meg.fif", ("anna",)),
        ("sub-01/sub-01_hemi-anna_meg.fif", ("anna",)),
        ("A.S./rec.edf", ("a.s",)),
        ("AS/rec.edf", ("as",)),
        ("as/rec.edf", ("as",)),
        ("a-s/rec.edf", ("a-s",)),
        ("study/AS_rest.edf", ("as_",)),
        ("study/rest_AS.edf", ("_as",)),
        ("sub-AS/sub-AS_task-rest_eeg.edf", ("sub-as",)),
        ("AS1961/rec.edf", ("1961",)),
        ("00482137/rec.edf", ("482137",)),
        ("H00482137/rec.edf", ("482137",)),
        ("sub-00482137/sub-00482137_task-rest_eeg.edf", ("482137",)),
        ("sub-01/ses-00482137/sub-01_ses-00482137_eeg.edf", ("482137",)),
        ("patient 482137/rec.edf", ("482137",)),
        ("1961-07-23/rec.edf", ("1961",)),
        ("sub-01/ses-19610723/eeg/sub-01_ses-19610723_eeg.edf", ("1961",)),
        ("sub-01/sub-01_task-23071961_eeg.edf", ("1961",)),
        ("lab/night of 23.07.61.edf", ("61",)),
    ],
)
@pytest.mark.parametrize("key", [b"", b"key"])
def test_names_dates_initials_and_numbers_leave_no_trace_in_a_path(path, private, key):
    pseudonyms = Pseudonyms(key)
    person = path_subject(path)
    public = pseudonyms.path(path, person).lower()
    hashes = re.sub(r"x?[0-9a-f]{16}", "", public)
    assert not any(word in hashes for word in private)
    hidden = pseudonyms.hidden([path], person)
    message = re.sub(r"x?[0-9a-f]{16}", "", scrub(f"{path}: ended early", hidden).lower())
    assert not any(word in message for word in private)
    assert not any(word in re.sub(r"x?[0-9a-f]{16}", "", pseudonyms.subject(person).lower()) for word in private)


def path_subject(path: str) -> str:
    """Return the label of the subject, as the listing of an archive finds it."""
    from emeg.ingest.listing.bids import path_entities
    from emeg.ingest.listing.lister import subject_of_folder

    entities = path_entities(path)
    return f"sub-{entities['sub']}" if "sub" in entities else subject_of_folder(path)


@pytest.mark.parametrize(
    "path",
    [
        "sub-01/ses-pre/meg/sub-01_ses-pre_task-AuditoryLocalizer_acq-hi+res_run-01_split-02_proc-sss_meg.fif",
        "sub-CC110033/eeg/sub-CC110033_task-rest_desc-clean_eeg.set",
        "sub-NDARAB793GL3/eeg/sub-NDARAB793GL3_task-RestingState_channels.tsv",
        "sub-01/sub-01_part-mag_eeg.edf",
        "sub-hc/sub-hc_task-eo_eeg.edf",
        "S001/S001R03.edf",
        "resting/EO_run1.edf",
    ],
)
def test_names_by_the_rules_of_bids_and_codes_stay(path):
    assert Pseudonyms().path(path, path_subject(path)) == path


def plant(file: Path, old: bytes, new: bytes) -> None:
    """Overwrite a field of a header with a text of the same length."""
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new.ljust(len(old), b"\0")[: len(old)]))


def test_headers_of_kit_4d_and_egi_name_nobody(shared, tmp_path, caplog):
    """Fields that the makers fill with free text: system, model, comment and paths; processing steps; comments."""
    archive, devices = tmp_path / "ds", shared / "data/devices"
    for number, folder in enumerate(("kit157", "bti248", "egi-raw", "egi-mff"), start=1):
        shutil.copytree(devices / folder, archive / f"P{number:02}")
    for path in [archive, *archive.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    kit = archive / "P01/test.sqd"
    plant(kit, b"NYU 160ch System since Jan24 2009", b"Quillfeather 1961-07-23")
    plant(kit, b"R0095_1KHz_5.31.12.sqd", b"Quillfeather.sqd")
    plant(kit, b"EQ1160C", b"Quillfeather")
    for config in (archive / "P02").glob("*config*"):
        text = re.findall(rb"[A-Za-z_]{9,14}\0", config.read_bytes())
        plant(config, text[-1], b"Quillfea\0")
    for info in (archive / "P04").rglob("*.xml"):
        if info.name in {"info.xml", "subject.xml"}:
            end = re.search(rb"</(?:\w+:)?(?:fileInfo|patient)>", info.read_bytes())
            if end:
                name = b"<fields><field><name>localIdentifier</name><data>Quillfeather</data></field></fields>"
                info.write_bytes(info.read_bytes().replace(end[0], name + end[0]))
    with caplog.at_level(logging.DEBUG, logger="emeg"):
        result = ingest(IngestConfig(archive=str(archive), root=str(tmp_path / "store"), workers=0))
    assert len(result.ready) >= 3, result
    store = Store.open(tmp_path / "store")
    found = {**outputs(store, tmp_path / "store"), "log": caplog.text, "result": result.model_dump_json()}
    assert_private(found, ("quillfea", "1961-07-23"))


def test_markers_are_kept_and_remarks_are_not():
    texts = (
        ["Stimulus/S  1", "T0", "hits ball"] + ["opens the door"] * 3 + ["Ann Quillfeather moved", "at 12.03.1999"] * 1
    )
    assert markers(texts) == [*texts[:2], REMARK, *texts[3:6], REMARK, REMARK]
