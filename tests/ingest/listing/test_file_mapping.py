"""Archives without BIDS names, and the effect of registry entries and file mappings on a recording."""

import shutil

import mne
import numpy as np
import pytest
from tests.ingest.conftest import ingested
from tests.messages import check_message, refusal

from emeg.errors import RecordingError, UserError
from emeg.ingest import IngestConfig, list_sources
from emeg.ingest.listing import sources
from emeg.ingest.listing.file_mapping import FileMapping, FilePattern, matches
from emeg.ingest.listing.sources import list_archive
from emeg.ingest.pseudonyms import Pseudonyms
from emeg.ingest.tables.channels import ChannelTable
from emeg.ingest.tables.treatment import treat
from emeg.registry import Registry, Treatment
from emeg.store import read_events

MAPPING = """
dataset: ours
licence: CC0-1.0
files:
  - path: "{subject}/S{run}.edf"
    task: imagery
    sidecars: {events: "{subject}/events/{run}.tsv"}
treatment:
  mains_hz: 60
  montage: standard_1005
  rename: [{pattern: '\\.+$', to: ''}]
  exclude_channels: [Iz, "T*"]
"""


def make(tmp_path, *paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")


@pytest.mark.parametrize(
    ("pattern", "path", "names"),
    [
        ("{subject}/S{run}.edf", "anna/S04.edf", {"subject": "anna", "run": "04"}),
        ("{subject}/S{run}.edf", "a/anna/S04.edf", None),
        ("**/{subject}_{subject}.edf", "x/y/a_a.edf", {"subject": "a"}),
        ("**/{subject}_{subject}.edf", "x/y/a_b.edf", None),
        ("*/{task}?.set", "x/restA.set", {"task": "rest"}),
        ("a.b/{subject}.edf", "aXb/1.edf", None),
    ],
)
def test_patterns(pattern, path, names):
    found = FilePattern(path=pattern).match(path)
    assert (found and {k: v for k, v in found.items() if v}) == names


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("sub-1/eeg/sub-1_eeg.set", "sub-*/eeg/*_eeg.set", True),
        ("derivatives/sub-1/eeg/sub-1_eeg.set", "sub-*/eeg/*_eeg.set", False),
        ("derivatives/x/y.set", "derivatives/**", True),
        ("edf/train/a/b/c.edf", "edf/train/**/*.edf", True),
        ("edf/train/c.edf", "edf/train/**/*.edf", True),
    ],
)
def test_globs(path, glob, expected):
    assert matches(path, [glob]) is expected


def test_an_unknown_name_in_a_pattern_is_refused(tmp_path):
    with refusal(UserError, "r.yaml", "{person}", action="files"):
        FileMapping.from_yaml("files: [{path: '{person}.edf'}]", source="r.yaml")
    with refusal(UserError, "absent.yaml", action="YAML file"):
        FileMapping.read(str(tmp_path / "absent.yaml"))


def test_a_file_mapping_maps_files_to_people_tasks_and_events(shared, tmp_path):
    folder = tmp_path / "lab"
    (folder / "anna/events").mkdir(parents=True)
    shutil.copy(shared / "data/devices/edf-bci2000-128hz/test_edf_overlapping_annotations.edf", folder / "anna/S04.edf")
    (folder / "anna/events/04.tsv").write_text("onset\tduration\ttrial_type\n1.5\t4\tleft\n9\t4\tright\n")
    (folder / "anna/notes.edf").write_text("x")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    made = ingested(folder, tmp_path / "store", mapping=str(tmp_path / "mapping.yaml"))
    [row] = made.rows.values()
    assert row.subject == Pseudonyms().subject("anna") != "anna"
    assert (row.dataset, row.task, row.run, row.mains, row.licence) == (
        "ours",
        "imagery",
        "04",
        60.0,
        "CC0-1.0",
    )
    assert row.n_channels == 64 - 1 - 6
    assert {row.dropped[name] for name in ("Iz", "T7", "T10")} == {"excluded by the dataset's entry"}
    events = read_events(made.store, row.recording)
    own = {"T0", "T1", "T2"}
    assert [(e.onset_s, e.trial_type) for e in events if e.trial_type not in own] == [(1.5, "left"), (9, "right")]
    # the table lists none of the 38 annotations of the file, so they count beside it
    assert len(events) == 2 + 38
    assert made.result.skipped == {"matches no pattern of the file mapping": 1}
    assert made.result.skipped_examples["matches no pattern of the file mapping"] == (
        Pseudonyms().path("anna/notes.edf", "anna"),
    )


def test_an_absent_sidecar_that_the_mapping_names_is_reported(tmp_path):
    make(tmp_path / "lab", "anna/S04.edf")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    config = IngestConfig(archive=str(tmp_path / "lab"), root="unused", mapping=str(tmp_path / "mapping.yaml"))
    assert "anna/events/04.tsv" in list_sources(config)[0].problem


def test_a_registered_dataset_keeps_its_globs_and_its_people(tmp_path):
    make(
        tmp_path / "ds004504",
        "dataset_description.json",
        "sub-001/eeg/sub-001_task-eyesclosed_eeg.set",
        "derivatives/sub-001/eeg/sub-001_task-eyesclosed_eeg.set",
    )
    (tmp_path / "ds004504/dataset_description.json").write_text("{}")
    listed = list_archive(IngestConfig(archive=str(tmp_path / "ds004504"), root="unused"))
    assert [s.path for s in listed.sources] == ["sub-001/eeg/sub-001_task-eyesclosed_eeg.set"]
    assert listed.sources[0].treatment.mains_hz == 50
    make(tmp_path / "mdd", "H S1 EC.edf", "H  S1 EO.edf", "MDD S1 EC.edf")
    listed = list_archive(IngestConfig(archive=str(tmp_path / "mdd"), root="unused"))
    assert [s.subject for s in listed.sources] == ["H-1", "H-1", "MDD-1"]


def test_what_needs_an_agreement_is_not_fetched(monkeypatch):
    monkeypatch.setattr(sources, "list_files", lambda *_: {})
    faced = Registry.load().get("faced")
    closed = faced.model_copy(update={"source": faced.source.model_copy(update={"uri": "memory://closed/faced"})})
    monkeypatch.setattr(Registry, "find", lambda *_: closed)
    with refusal(UserError, "faced", "agreement", action="memory://closed/faced"):
        list_archive(IngestConfig(archive="memory://closed/faced", root="unused"))
    assert list_archive(IngestConfig(archive="memory://ours/faced", root="unused")).sources == ()


def raw(names, kinds):
    return mne.io.RawArray(
        np.zeros((len(names), 10)), mne.create_info(list(names), 100.0, list(kinds)), verbose="ERROR"
    )


def test_renames_types_exclusions_and_units_in_this_order():
    opened = raw(["EEG A-REF", "EEG B-REF", "DBS1"], ["eeg"] * 3)
    treatment = Treatment.model_validate(
        {
            "rename": [{"pattern": "^EEG (.)-REF$", "to": "\\1"}],
            "exclude_channels": ["B"],
            "force_types": {"DBS*": "dbs"},
            "units_scale": 1e-6,
        }
    )
    table = ChannelTable({"EEG A-REF": 2.0}, frozenset({"EEG A-REF", "EEG B-REF"}), ())
    treated = treat(opened, table, treatment)
    assert dict(zip(opened.ch_names, opened.get_channel_types(), strict=True)) == {"A": "eeg", "DBS1": "dbs"}
    assert treated.table.scales == {"A": 2e-6, "DBS1": 1e-6}
    assert treated.table.bad == {"A"}
    assert set(treated.excluded) == {"B"}


def test_two_channels_with_one_name_are_refused():
    with refusal(RecordingError, "2 channels 'A'", action="renames"):
        treat(
            raw(["A1", "A2"], ["eeg"] * 2), ChannelTable({}, frozenset(), ()), Treatment(rename={"A1": "A", "A2": "A"})
        )


@pytest.mark.parametrize(
    ("in_file", "certain", "outcome"), [(60, True, "error"), (60, False, 60.0), (None, True, 50.0), (50, True, 50.0)]
)
def test_mains_of_entry_and_sidecar(shared, tmp_path, in_file, certain, outcome):
    (tmp_path / "lab/a").mkdir(parents=True)
    shutil.copy(shared / "data/devices/tiny/one_second.edf", tmp_path / "lab/a/1.edf")
    if in_file:
        (tmp_path / "lab/a/1_eeg.json").write_text(f'{{"PowerLineFrequency": {in_file}}}')
    certainty = "true" if certain else "false"
    (tmp_path / "r.yaml").write_text(
        "files: [{path: '{subject}/{run}.edf'}]\ntreatment:\n  mains_hz: 50\n  rename: [{pattern: '\\.+$', to: ''}]\n"
        f"  mains_certain: {certainty}\n"
    )
    made = ingested(tmp_path / "lab", tmp_path / "store", mapping=str(tmp_path / "r.yaml"))
    if outcome == "error":
        [record] = made.refused.values()
        check_message(record, "60 Hz", "50 Hz", action="correct")
    else:
        assert [row.mains for row in made.rows.values()] == [outcome]
