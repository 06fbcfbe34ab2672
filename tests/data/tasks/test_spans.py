"""Labels from every source, on recordings of a small store."""

import numpy as np
import pyarrow as pa
import pytest
from tests.messages import refusal

from emeg.data.tasks.recipes import TaskRecipe
from emeg.data.tasks.windows import task_windows
from emeg.errors import UserError
from emeg.store import write_facts


def recipe(**changes) -> TaskRecipe:
    fields = {
        "id": "t",
        "title": "T",
        "kind": "classification",
        "labels": {"source": "events"},
        "window": {"length_s": 2},
        "classes": {"b": ["b"], "a": ["a"]},
    }
    return TaskRecipe.model_validate(fields | changes)


def regression(**labels) -> TaskRecipe:
    return TaskRecipe.model_validate(
        {"id": "t", "title": "T", "kind": "regression", "labels": labels, "window": {"length_s": 5}}
    )


def test_events_keep_the_order_of_the_classes(store, add_recording):
    add_recording("01", events=[(0.0, 2.0, "a", ""), (4.0, 2.0, "b", ""), (8.0, 2.0, "c", "")])
    windows = task_windows(store, recipe())
    assert windows.classes == ("b", "a")
    assert windows.labels.tolist() == [1, 0]
    assert windows.targets is None


def test_a_value_can_be_made_of_run_and_label(store, add_recording):
    add_recording("01", task="x", events=[(0.0, 0.0, "T1", ""), (4.0, 0.0, "T2", "")])
    add_recording("02", task="y", events=[(0.0, 0.0, "T1", "")])
    own = recipe(labels={"source": "events", "value": "{task}:{label}"}, classes={"left": ["x:T1"], "feet": ["y:T1"]})
    windows = task_windows(store, own)
    assert dict(zip(windows.subjects.tolist(), windows.labels.tolist(), strict=True)) == {"d/01": 0, "d/02": 1}
    with refusal(UserError, "colour", action="trial_type"):
        task_windows(store, recipe(labels={"source": "events", "value": "{colour}"}))


def test_rows_for_several_channels_are_one_window_of_the_first_class(store, add_recording):
    add_recording("01", events=[(4.0, 1.0, "a", ""), (4.0, 1.0, "b", ""), (4.0, 1.0, "a", ""), (9.0, 1.0, "a", "")])
    windows = task_windows(store, recipe())
    assert windows.starts.tolist() == [4 * 256, 9 * 256]
    assert windows.labels.tolist() == [0, 1]
    assert windows.left_out == {"several times the same window": 2}


def test_participants_tile_the_recording(store, add_recording):
    for subject in ("01", "02"):
        add_recording(subject, seconds=20.0)
    rows = [{"dataset": "d", "subject": "01", "age": 30}, {"dataset": "d", "subject": "02", "age": 41}]
    write_facts(store, "subjects", "d", pa.Table.from_pylist(rows))
    windows = task_windows(store, regression(source="participants", column="age"))
    assert windows.targets.tolist() == [30.0] * 4 + [41.0] * 4
    assert windows.starts.tolist() == [0, 1280, 2560, 3840] * 2


def test_path_gives_the_first_group(store, add_recording):
    for subject in ("01", "02"):
        add_recording(subject, seconds=10.0)
    own = recipe(labels={"source": "path", "pattern": r"(0\d)"}, classes={"one": ["01"], "two": ["02"]})
    windows = task_windows(store, own)
    assert set(zip(windows.subjects.tolist(), windows.labels.tolist(), strict=True)) == {("d/01", 0), ("d/02", 1)}


def test_a_table_labels_recordings_or_times(store, add_recording, tmp_path):
    for subject in ("01", "02"):
        add_recording(subject, seconds=30.0)
    file = tmp_path / "scores.tsv"
    file.write_text("subject\tscore\nsub-01\t1.5\n2\t2.5\nsub-03\t9\n")
    windows = task_windows(store, regression(source="table", table=str(file), column="score"))
    assert np.unique(windows.targets).tolist() == [1.5, 2.5]
    assert len(windows) == 12
    file.write_text("subject\tonset_s\tenvelope\n01\t0\t0.1\n01\t5.5\t0.2\n01\t27\t0.3\n02\t3\tn/a\n")
    windows = task_windows(store, regression(source="table", table=str(file), column="envelope", onset="onset_s"))
    assert windows.targets.tolist() == [0.1, 0.2]
    assert windows.starts.tolist() == [0, 1408]
    assert windows.left_out == {"outside the recording": 1}


def test_what_is_missing_is_named(store, add_recording, tmp_path):
    add_recording("01", events=[(0.0, 2.0, "a", "")])
    file = tmp_path / "scores.csv"
    file.write_text("name,score\n01,1\n")
    with refusal(UserError, "scores.csv", "name", action="add"):
        task_windows(store, regression(source="table", table=str(file), column="score"))
    file.write_text("subject,score\n01,high\n")
    with refusal(UserError, "score", "high", action="classification"):
        task_windows(store, regression(source="table", table=str(file), column="score"))
    with refusal(UserError, "nothing.csv", action="YAML"):
        task_windows(store, regression(source="table", table=str(tmp_path / "nothing.csv"), column="score"))
    for changes, named in (
        ({"dataset": "e"}, "dataset"),
        ({"device": "y"}, "device"),
        ({"include": ["*.fif"]}, "include"),
    ):
        with refusal(UserError, named, action=named):
            task_windows(store, recipe(**changes))


def test_sensors_of_one_kind_are_read_from_recordings_with_both(store, add_recording):
    from tests.data.conftest import sensors_of

    add_recording("01", sensors=sensors_of(2, 3), events=[(0.0, 2.0, "a", ""), (4.0, 2.0, "b", "")])
    assert task_windows(store, recipe(sensors="meg")).read([0, 1]).signal.shape == (2, 3, 512)
    assert task_windows(store, recipe(sensors="eeg")).read([0]).signal.shape == (1, 2, 512)
    assert task_windows(store, recipe()).read([0]).signal.shape == (1, 5, 512)


def test_a_dataset_is_found_by_its_registry_entry(store, add_recording):
    add_recording("01", dataset="downloads", events=[(0.0, 2.0, "a", ""), (4.0, 2.0, "b", "")])
    with refusal(UserError, "ds002778", action="dataset"):
        task_windows(store, recipe(dataset="ds002778"))
    store.write_json({"entry": "ds002778"}, "catalog", "datasets", "downloads.json")
    assert len(task_windows(store, recipe(dataset="ds002778"))) == 2


@pytest.mark.parametrize("value", ["{label.size}", "{label[x]}", "{label:d}", "{0}", "{"])
def test_a_text_of_labels_that_cannot_be_made_is_refused(store, add_recording, value):
    add_recording("01", events=[(0.0, 2.0, "a", "")])
    with refusal(UserError, value, action="trial_type"):
        task_windows(store, recipe(labels={"source": "events", "value": value}))


@pytest.mark.parametrize("onset", ["n/a", "soon", "NaN", "inf"])
def test_a_row_of_a_table_without_a_time_is_named(store, add_recording, tmp_path, onset):
    add_recording("01")
    (tmp_path / "l.csv").write_text(f"subject,onset,score\n01,1.5,2\n01,{onset},3\n")
    own = regression(source="table", table=str(tmp_path / "l.csv"), column="score", onset="onset")
    with refusal(UserError, "l.csv", "onset", action="row"):
        task_windows(store, own)


def test_targets_that_are_not_finite_and_subjects_without_a_row_are_left_out(store, add_recording, tmp_path):
    for subject in ("01", "02", "03", "04"):
        add_recording(subject)
    (tmp_path / "l.csv").write_text("subject,score\n01,1.5\n02,NaN\n03,inf\n")
    windows = task_windows(store, regression(source="table", table=str(tmp_path / "l.csv"), column="score"))
    assert set(windows.subjects.tolist()) == {"d/01"}


def test_windows_without_samples_are_refused(store, add_recording):
    add_recording("01", events=[(0.0, 2.0, "a", ""), (4.0, 2.0, "b", "")])
    with refusal(UserError, "0.001 s", action="length"):
        task_windows(store, recipe(window={"length_s": 0.001}))
