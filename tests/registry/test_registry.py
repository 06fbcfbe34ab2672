"""Registry entries accept no unknown fields and are consistent; facts on subjects and devices hold across links."""

import json

import pytest
import yaml
from tests.messages import refusal

from emeg.errors import UserError
from emeg.registry import DatasetsConfig, Entry, Registry, datasets
from emeg.sensors.electrode_positions import template_positions


def entry(id_, same=(), **fields):
    base = {
        "id": id_,
        "title": id_,
        "roles": ["pretrain"],
        "modality": ["eeg"],
        "device": {"vendor": "a", "model": "b", "sensor_kinds": ["EEG"]},
        "channels": {"expected": 19},
        "source_rate_hz": 500,
        "mains_hz": 50,
        "subjects": 3,
        "licence": "CC0-1.0",
        "access_tier": "open",
        "doi": None,
        "source": {"kind": "s3", "uri": f"s3://openneuro.org/{id_}", "anonymous": True},
        "snapshot": None,
        "layout": "bids",
        "reader": "edf",
        "montage": {"kind": "in_file"},
        "subject_key": {"from": "path", "entity": "sub"},
        "same_subjects_as": [{"id": other, "kind": kind, "source": "D"} for other, kind in same],
        "never_pretrain": False,
        "unseen_device": False,
        "provenance": {},
    }
    return Entry.checked(base | fields, source=id_)


TASK = {"name": "t", "window_s": 1, "classes": {"a": 0}, "label": {"kind": "path"}}


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["ds002778"], ("ds002778", "task")),
        (["ds006036"], ("ds006036",)),
        (["ds004362"], ("ds004362",)),
        (["ds005505", "tuab"], ("tuab", "task")),
        (["tuh-eeg"], ("tuh-eeg", "tuab")),
        (["ds003478"], ("ds003478", "ds005697")),
        (["ds003474"], ("ds003474", "ds005697")),
        (["ds005261"], ("ds005261", "unseen device")),
    ],
)
def test_what_must_not_be_pretrained_on_is_refused(registry, names, named):
    with refusal(UserError, *named, action="other datasets"):
        registry.check_pretraining(names)


def test_the_rest_may_be_pretrained_on(registry):
    registry.check_pretraining(["ds005505", "ds004186", "ds000117", "ds004330", "of-our-own"])
    registry.check_pretraining(["ds003478"], held_out_devices=False)


def test_people_are_followed_over_a_third_dataset_and_in_both_directions():
    three = Registry([entry("a", [("b", "mapped_ids")]), entry("b"), entry("c", [("b", "subset")])])
    assert three.sharing_with("a") == three.sharing_with("b") == three.sharing_with("c") == {"a", "b", "c"}


def test_a_suspicion_does_not_bind_datasets_together():
    two = Registry([entry("a", [("b", "suspected")]), entry("b")])
    assert two.sharing_with("a") == {"a"}
    assert (two.suspected("a"), two.suspected("b")) == ({"b"}, {"a"})


def test_an_entry_with_people_of_a_task_must_say_so():
    task = entry("t", roles=["task"], never_pretrain=True, task=TASK)
    with refusal(UserError, "people of b", action="never_pretrain: true in a"):
        Registry([entry("a", [("b", "same_cohort")]), entry("b", [("t", "subset")], never_pretrain=True), task])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"roles": ["task"], "task": TASK}, "never_pretrain"),
        ({"roles": ["unseen_device"]}, "unseen_device"),
        ({"colour": "blue"}, "colour"),
        ({"mains_hz": 55}, "mains_hz"),
        ({"provenance": {"mainz": "D"}}, "mainz"),
        ({"provenance": {"mains_hz": "X"}}, "mains_hz"),
        ({"rename": [{"pattern": "(", "to": ""}]}, "'('"),
        ({"montage": {"kind": "standard"}}, "montage"),
    ],
)
def test_a_wrong_entry_is_refused(fields, word):
    with refusal(UserError, "a:", word, action="correct"):
        entry("a", **fields)


def test_every_montage_is_one_of_mne(registry):
    for name in {one.treatment.montage for one in registry} - {None}:
        assert len(template_positions(name)) >= 30


@pytest.mark.parametrize(
    ("dataset", "name", "new"),
    [
        ("tuab", "EEG FP1-REF", "Fp1"),
        ("tuab", "EEG FZ-LE", "Fz"),
        ("tuab", "EEG A1-REF", "A1"),
        ("ds005420", "EEG Fp1-A1A2", "Fp1"),
        ("ds005420", "EEG LOC-ROC", "EEG LOC-ROC"),
        ("physionet-mi", "Fc5.", "Fc5"),
        ("physionet-mi", "Fcz..", "Fcz"),
        ("ds002721", "FP2", "Fp2"),
    ],
)
def test_renames(registry, dataset, name, new):
    assert registry.get(dataset).treatment.new_name(name) == new


def test_exclusions_and_types_by_pattern(registry):
    brain = registry.get("ds004998").treatment
    assert (brain.excludes("EEG009"), brain.excludes("MEG0111"), brain.forced_type("EEG033")) == (True, False, "dbs")


@pytest.mark.parametrize(
    ("dataset", "path", "subject"),
    [
        ("mdd", "H S1 EC.edf", "H-1"),
        ("mdd", "MDD  S10 EO.edf", "MDD-10"),
        ("mdd", "6921143_H S15 EO.edf", "H-15"),
        ("tuev", "edf/eval/001/bckg_001_a_.edf", "001"),
        ("tuev", "edf/train/aaaaaaar/aaaaaaar_00000001.edf", "aaaaaaar"),
        ("tuab", "edf/train/abnormal/01_tcp_ar/aaaaaabn_s005_t000.edf", "aaaaaabn"),
        ("physionet-mi", "S001/S001R04.edf", "S001"),
    ],
)
def test_the_person_not_the_label(registry, dataset, path, subject):
    assert registry.get(dataset).subject_key.subject(path) == subject


def test_the_verb_lists_and_shows(registry):
    listed = datasets(DatasetsConfig())
    assert len(listed.entries) == len(registry) > 80
    lines = listed.as_text().splitlines()
    assert len(lines) == len(registry) + 1
    assert next(line for line in lines if line.startswith("ds002778 ")).split()[6] == "no"
    one = datasets(DatasetsConfig(name="DS000117"))
    assert Entry.from_yaml(one.as_text(), source="shown") == registry.get("ds000117")
    assert {e.id for e in datasets(DatasetsConfig(role="unseen_device")).entries} == {"ds005697", "ds005261"}
    with refusal(UserError, "'ds999999'", action="`emeg datasets`"):
        datasets(DatasetsConfig(name="ds999999"))


def test_files_keep_the_versions_as_text(registry):
    for one in registry:
        assert one.snapshot is None or isinstance(one.snapshot, str)
        assert yaml.safe_load(f"x: {one.id}")["x"] == one.id


def named(match):
    return (match.entry.id if match.entry is not None else "", match.by.partition(";")[0])


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"name": "bids", "doi": "doi:10.18112/openneuro.ds000117.v1.1.0"}, ("ds000117", "found by its DatasetDOI")),
        ({"name": "ds003645", "doi": "10.18112/OpenNeuro.ds000117.v1.0.0"}, ("ds000117", "found by its DatasetDOI")),
        ({"name": "raw", "location": "s3://openneuro.org/ds000117"}, ("ds000117", "found by its location")),
        ({"name": "raw", "location": "s3://openneuro.org/ds000117/sub-01"}, ("ds000117", "found by its location")),
        ({"name": "raw", "location": "s3://openneuro.org/ds0001170"}, ("", "")),
        ({"name": "raw", "title": "multisubject,  multimodal Face Processing"}, ("ds000117", "found by its Name")),
        ({"name": "raw", "title": "Multisubject, multimodal face processing", "doi": "10.5281/zenodo.1"}, ("", "")),
        ({"name": "raw", "title": "EEG Motor Movement/Imagery Dataset"}, ("", "")),  # two entries have this title
        ({"name": "ds000117"}, ("ds000117", "found by the dataset's name alone")),
        ({"name": "ds000117", "title": "Face study"}, ("ds000117", "found by the dataset's name alone")),
        ({"name": "ds000117", "doi": "10.3389/fnins.2016.00196"}, ("ds000117", "found by the dataset's name alone")),
        (
            {"name": "ds000117", "doi": "10.18112/openneuro.ds999999.v1.0.0"},
            ("", "ds000117 has the name of this dataset and another DOI, so it is not applied"),
        ),
        ({"name": "bids"}, ("", "")),
    ],
)
def test_an_entry_is_found_by_what_a_dataset_says_of_itself_and_by_its_name_last(facts, expected):
    match = Registry.load().identify(**facts)
    if facts.get("doi") == "10.3389/fnins.2016.00196" and match.entry is not None and match.entry.id != "ds000117":
        expected = (match.entry.id, "found by its DatasetDOI")  # an entry has the DOI of this article
    assert named(match) == expected


def test_ingest_applies_the_entry_of_the_doi_and_says_by_what_it_was_found(tmp_path):
    from emeg.ingest import IngestConfig
    from emeg.ingest.listing.sources import list_archive

    for folder, doi in (("bids", "ds000117"), ("ds000117", "ds999999")):
        (tmp_path / folder / "sub-01/eeg").mkdir(parents=True)
        (tmp_path / folder / "sub-01/eeg/sub-01_task-x_eeg.edf").write_bytes(b"0")
        stated = json.dumps({"Name": "x", "DatasetDOI": f"doi:10.18112/openneuro.{doi}.v1.0.0"})
        (tmp_path / folder / "dataset_description.json").write_text(stated)
    listing = list_archive(IngestConfig(archive=str(tmp_path / "bids"), root=str(tmp_path / "store")))
    assert (listing.entry.id, listing.entry_by) == ("ds000117", "found by its DatasetDOI")
    assert listing.sources[0].treatment == Registry.load().get("ds000117").treatment
    other = list_archive(IngestConfig(archive=str(tmp_path / "ds000117"), root=str(tmp_path / "store")))
    assert other.entry is None
    assert "another DOI" in other.entry_by
    assert other.sources[0].treatment is None
