"""An archive is the dataset of a store by its description, location and content, never by its name alone."""

import json
import shutil

import fsspec
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.ingest import IngestConfig, ingest
from emeg.ingest.dataset_records import read_kept
from emeg.store import Store, read_catalog


@pytest.fixture
def study(shared, tmp_path):
    """Make archives that are all called ``bids``, of one-second recordings; and ingest them into one store."""
    sound = shared / "data/devices/tiny/one_second.edf"

    def make(place, *subjects, title=None, doi=None):
        folder = tmp_path / place / "bids"
        for subject in subjects:
            file = folder / f"sub-{subject}/eeg/sub-{subject}_task-rest_eeg.edf"
            file.parent.mkdir(parents=True)
            data = bytearray(sound.read_bytes())
            data[-400:] = f"{place}{subject}".ljust(400, "x").encode()  # other samples, same size
            file.write_bytes(data)
        if title or doi:
            stated = {"Name": title or "", "BIDSVersion": "1.9.0", **({"DatasetDOI": doi} if doi else {})}
            (folder / "dataset_description.json").write_text(json.dumps(stated))
        return folder

    def run(folder, **fields):
        return ingest(IngestConfig(archive=str(folder), root=str(tmp_path / "store"), workers=0, **fields))

    make.run, make.root = run, tmp_path / "store"
    return make


def rows(study):
    return {(row.dataset, row.source): row.recording for row in read_catalog(Store.open(study.root))}


def as_by_the_version_before(study):
    """Remove from a store the facts that the previous version did not write."""
    store = Store.open(study.root)
    facts = store.read_json("catalog", "datasets", "bids.json")
    kept = {key: value for key, value in facts.items() if key not in {"title", "doi"}}
    store.write_json(kept, "catalog", "datasets", "bids.json")
    store.remove("runs", "ingest", "bids-origins.json")


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("described", [False, True])
def test_another_archive_of_the_same_folder_name_is_refused_and_changes_nothing(study, earlier, described):
    titles = ("Study 1", "Study 2") if described else (None, None)
    first, second = study("one", "01", "02", title=titles[0]), study("two", "01", "03", title=titles[1])
    study.run(first)
    if earlier:
        as_by_the_version_before(study)
    before = rows(study)
    files = {path: path.read_bytes() for path in (study.root / "catalog").rglob("*") if path.is_file()}
    with refusal(UserError, "called 'bids'", "--same-dataset", action="--dataset "):
        study.run(second)
    assert rows(study) == before
    assert files == {path: path.read_bytes() for path in (study.root / "catalog").rglob("*") if path.is_file()}
    result = study.run(second, dataset="second")
    assert (result.n_new, result.replaced, result.vanished) == (2, (), ())
    assert len(rows(study)) == 4
    assert {name for name, _ in rows(study)} == {"bids", "second"}


def test_other_sessions_of_the_same_subject_labels_are_another_dataset(study):
    study.run(study("one", "01"))
    other = study("two", "01")
    file = next(other.rglob("*.edf"))
    file.rename(file.with_name("sub-01_task-other_eeg.edf"))
    with refusal(UserError, "'bids'", action="--dataset"):
        study.run(other)


@pytest.mark.parametrize("earlier", [False, True])
def test_the_same_archive_is_known_where_it_was_moved_mounted_or_uploaded(study, tmp_path, earlier):
    first = study("one", "01", "02", title="Study 1")
    study.run(first)
    if earlier:
        as_by_the_version_before(study)
    moved = tmp_path / "elsewhere/bids"
    shutil.copytree(first, moved)
    assert study.run(moved).n_new == 0
    link = tmp_path / "mount/bids"
    link.parent.mkdir()
    link.symlink_to(moved)
    assert study.run(link).n_new == 0
    fsspec.filesystem("memory").put(str(first), f"/{tmp_path.name}/bids", recursive=True)
    study.run(f"memory://{tmp_path.name}/bids")
    assert len(rows(study)) == 2
    assert read_kept(Store.open(study.root), "bids").title == "Study 1"


def test_all_recordings_may_change_if_location_and_description_are_equal(study):
    folder = study("one", "01", title="Study 1")
    study.run(folder)
    file = next(folder.rglob("*.edf"))
    data = file.read_bytes()
    file.write_bytes(data[:-2] + b"zz")
    assert len(study.run(folder).replaced) == 1
    (folder / "dataset_description.json").write_text('{"Name": "Study 1, revised"}')
    assert study.run(folder).n_new == 0


def test_another_dataset_that_takes_the_place_of_the_first_is_refused(study):
    folder = study("one", "01", title="Study 1")
    study.run(folder)
    shutil.rmtree(folder)
    study("two", "01", title="Study 2").rename(folder)
    with refusal(UserError, "'Study 1'", "'Study 2'", action="--dataset Study-2"):
        study.run(folder)


def test_a_doi_tells_datasets_apart_and_its_version_does_not(study):
    study.run(study("one", "01", title="EEG", doi="doi:10.18112/openneuro.ds000001.v1.0.0"))
    with refusal(UserError, "ds000001", "ds000002", action="--dataset"):
        study.run(study("two", "01", title="EEG", doi="10.18112/openneuro.ds000002.v1.0.0"))
    newer = study("one/again", "01", title="EEG", doi="https://doi.org/10.18112/openneuro.ds000001.v1.1.0")
    shutil.copy(next((study.root.parent / "one/bids").rglob("*.edf")), next(newer.rglob("*.edf")))
    assert study.run(newer).n_new == 0


def test_a_newer_version_with_other_content_is_accepted_on_request(study):
    study.run(study("one", "01", "02", title="Study 1"))
    result = study.run(study("two", "01", "02", title="Study 1, cleaned"), same_dataset=True)
    assert len(result.replaced) == 2
    assert {name for name, _ in rows(study)} == {"bids"}


def test_a_run_that_was_interrupted_keeps_its_name(study):
    first = study("one", "01", title="Study 1")

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(IngestConfig(archive=str(first), root=str(study.root), workers=0), executor=interrupt)
    with refusal(UserError, "'Study 1'", action="--dataset"):
        study.run(study("two", "01", title="Study 2"))
    assert study.run(first).n_new == 1
