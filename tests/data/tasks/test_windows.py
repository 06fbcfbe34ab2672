import csv

import numpy as np
import pyarrow as pa
import pytest
from tests.data.conftest import sensors_of
from tests.messages import refusal

from emeg.data import TaskConfig, infer_task, known_tasks, single_task, subject_folds, task_windows
from emeg.errors import UserError
from emeg.evaluation import FinetuneConfig
from emeg.sensors import positions_with_regions
from emeg.store import BadReason, open_recording, read_catalog, write_facts

SSVEP = ["rest", "13Hz", "17Hz", "21Hz"]


def events_of_file(path):
    """Read an events.tsv as ingest would."""
    with path.open() as file:
        return [
            (float(r["onset"]), float(r["duration"]), r["trial_type"], r.get("value", ""))
            for r in csv.DictReader(file, delimiter="\t")
        ]


def add_dataset(add_recording, folder):
    for path in sorted(folder.rglob("*_events.tsv")):
        events = events_of_file(path)
        task = path.name.split("task-")[1].removesuffix("_events.tsv")
        seconds = float(np.ceil(max(onset + duration for onset, duration, *_ in events)))
        add_recording(
            path.name.split("_")[0][4:],
            dataset=folder.name,
            sensors=sensors_of(2),
            seconds=seconds,
            events=events,
            task=task,
        )


def test_ssvep_is_four_classes_of_five_seconds(store, add_recording, shared):
    add_dataset(add_recording, shared / "data" / "ssvep")
    task = infer_task(store, "ssvep")
    assert set(task.classes) == set(SSVEP)
    assert (task.window_s, task.stride_s, task.offset_s) == (5.0, None, 0.0)
    windows = task_windows(store, task)
    assert np.bincount(windows.labels).tolist() == [80] * 4
    assert len(set(windows.subjects.tolist())) == 10
    folds = subject_folds(windows.labels, windows.subjects, 5, 0)
    assert {len(f.test) for f in folds} == {2}


def test_arithmetic_tiles_whole_files(store, add_recording, shared):
    add_dataset(add_recording, shared / "data" / "arithmetic")
    task = infer_task(store, "arithmetic")
    assert set(task.classes) == {"rest", "mental_arithmetic"}
    assert (task.window_s, task.stride_s) == (10.0, 10.0)
    windows = task_windows(store, task)
    assert np.bincount(windows.labels).tolist() == [60, 60]
    assert sorted(set(windows.starts.tolist())) == [2560 * k for k in range(6)]


@pytest.mark.parametrize(("folder", "found"), [("motor-imagery", "left_fist 23×"), ("oddball", "target 185×")])
def test_too_few_subjects_are_refused_with_the_number_found(store, add_recording, shared, folder, found):
    add_dataset(add_recording, shared / "data" / folder)
    with refusal(UserError, f"dataset {folder}", found, action="--task.classes"):
        infer_task(store, folder)


def imagery(n=12, rest=True):
    trials = [(3.0 + 6 * k, 4.0, ("left_imagery", "right_imagery")[k % 2], "") for k in range(n)]
    pauses = [(t[0] + 4.0, 1.2, "rest", "") for t in trials] if rest else []
    return sorted(trials + pauses)


def test_imagery_is_preferred_to_pauses_and_tones(store, add_recording):
    tones = [(1.0 + 0.7 * k, 0.1, "deviant" if k % 5 == 0 else "standard", "") for k in range(40)]
    for i in range(4):
        add_recording(f"{i}", seconds=80, events=imagery(), task="imagery")
        add_recording(f"{i}", seconds=30, events=tones, task="tones")
    task = infer_task(store, "d")
    assert set(task.classes) == {"left_imagery", "right_imagery"}
    assert (task.window_s, task.stride_s) == (4.0, None)


def test_moments_get_two_seconds_and_values_stand_in_for_types(store, add_recording):
    for i in range(3):
        add_recording(f"{i}", seconds=40, events=[(1.0 + 3 * k, 0.0, "n/a", str(k % 2)) for k in range(12)])
    task = infer_task(store, "d")
    assert task.classes == {"0": ("0",), "1": ("1",)}
    assert task.window_s == 2.0
    assert len(task_windows(store, task)) == 36


def test_labels_of_people_are_not_inferred(store, add_recording):
    for i in range(8):
        group = "patient" if i % 2 else "control"
        add_recording(f"{i}", seconds=70, events=[(0.0, 70.0, group, "")])
    with refusal(UserError, "control 4×", "patient 4×", action="--task.classes"):
        infer_task(store, "d")
    # … but a person may ask for them
    task = TaskConfig(
        name="groups", classes={"control": ("control",), "patient": ("patient",)}, window_s=10.0, stride_s=10.0
    )
    windows = task_windows(store, task)
    assert np.bincount(windows.labels).tolist() == [28, 28]
    assert all(f.train for f in subject_folds(windows.labels, windows.subjects, 4, 0))


def test_labels_of_subjects_and_of_recordings_are_classes(store, add_recording):
    names = [add_recording(f"{i}", seconds=35) for i in range(6)]
    groups = ["MDD", "HC", "HC", "MDD", None, "other"]
    write_facts(store, "subjects", "d", facts(subject=[f"{i}" for i in range(6)], group=groups))
    task = TaskConfig(name="g", label="group", classes={"control": ("HC",), "patient": ("MDD",)}, window_s=10.0)
    windows = task_windows(store, task)
    assert sorted(set(windows.starts.tolist())) == [0, 2560, 5120]
    label_of = dict(zip(windows.recordings.tolist(), windows.labels.tolist(), strict=True))
    assert label_of == {names[0]: 1, names[1]: 0, names[2]: 0, names[3]: 1}
    sources = {row.recording: row.source for row in read_catalog(store)}
    drugs = facts(subject=["0", "1"], source=[sources[name] for name in names[:2]], drug=["on", "off"])
    write_facts(store, "scans", "d", drugs)
    task = TaskConfig(name="m", label="scan_drug", classes={"on": ("on",), "off": ("off",)}, window_s=4.0, stride_s=2.0)
    windows = task_windows(store, task)
    assert windows.labels.tolist() == [1] * 16 + [0] * 16  # classes are ordered by name
    with refusal(UserError, "'diagnosis'", "drug, group", action="participants.tsv"):
        task_windows(store, task.model_copy(update={"label": "diagnosis"}))
    with refusal(UserError, "A, B", "HC 2×, MDD 2×", action="shorter window"):
        task_windows(store, TaskConfig(name="x", label="group", classes={"a": ("A",), "b": ("B",)}, window_s=4.0))


def test_a_task_of_events_has_the_fields_that_it_always_had():
    task = TaskConfig(name="t", classes={"a": ("a",), "b": ("b",)}, window_s=2.0)
    assert "label" not in task.product_fields()
    assert task.model_copy(update={"label": "group"}).product_fields()["label"] == "group"
    assert "label" not in FinetuneConfig(root="store", task=task).product_fields()["task"]


def facts(**columns):
    n = len(next(iter(columns.values())))
    return pa.table({"dataset": ["d"] * n, **columns})


def test_only_windows_of_the_given_subjects_are_read(store, add_recording):
    for i in range(6):
        add_recording(f"{i}", seconds=80, events=imagery(rest=False))
    chosen = ["d/1", "d/2", "d/4"]
    windows = task_windows(store, infer_task(store, "d", chosen), chosen)
    assert set(windows.subjects.tolist()) == set(chosen)
    with refusal(UserError, "left_imagery 12×", action="--task.classes"):
        infer_task(store, "d", chosen[:2])


def test_windows_are_the_recordings_samples(store, add_recording):
    eeg = add_recording("1", seconds=30, events=[(2.001, 4.0, "a", ""), (9.0, 4.0, "b", ""), (27.0, 4.0, "a", "")])
    both = add_recording("2", sensors=sensors_of(3, 4), seconds=20, events=[(0.1, 4.0, "a", ""), (9.0, 4.0, "c", "")])
    task = TaskConfig(name="t", classes={"one": ("a",), "two": ("b", "c")}, window_s=2.0, offset_s=-0.5)
    windows = task_windows(store, task)
    assert windows.left_out == {"outside the recording": 1}
    assert windows.starts.tolist() == [384, 2176, 6784, 2176]
    assert windows.labels.tolist() == [0, 1, 0, 1]
    assert windows.recordings.tolist() == [eeg, eeg, eeg, both]
    batch = windows.read([3, 0])
    assert batch.signal.shape == (2, 7, 512)
    assert batch.channel_mask.sum(axis=1).tolist() == [7, 5]
    assert batch.segments.tolist() == [3, 0]
    assert np.array_equal(batch.signal[0], open_recording(store, both).read(2176, 2688))
    assert np.array_equal(batch.signal[1, :5], open_recording(store, eeg).read(384, 896))
    assert np.array_equal(batch.pos[0], positions_with_regions(sensors_of(3, 4)))
    assert windows.of(["d/2"]).tolist() == [3]


def test_windows_without_signal_are_left_out(store, add_recording):
    bad = np.zeros((5, 80), np.uint8)
    bad[:3, 5] = BadReason.FLAT
    add_recording("1", seconds=80, events=imagery(rest=False), bad=bad)
    task = TaskConfig(name="t", classes={"l": ("left_imagery",), "r": ("right_imagery",)}, window_s=4.0)
    windows = task_windows(store, task)
    assert windows.left_out == {"no signal in most channels": 1}
    assert len(windows) == 11


def test_refusals_list_what_there_is(store, add_recording):
    add_recording("1", seconds=80, events=imagery(rest=False))
    task = TaskConfig(name="t", classes={"l": ("up",), "r": ("down",)}, window_s=4.0)
    with refusal(UserError, "down, up", "left_imagery 6×, right_imagery 6×", action="shorter window"):
        task_windows(store, task)
    with refusal(UserError, "dataset e", action="ingest"):
        task_windows(store, task.model_copy(update={"dataset": "e"}))
    with refusal(UserError, "dataset e", action="from d"):
        infer_task(store, "e")
    with refusal(UserError, "task t", action="task.classes"):
        task_windows(store, task.model_copy(update={"classes": {"l": ("left_imagery",)}}))


def test_long_events_of_unequal_length_are_conditions_of_one_experiment(store, add_recording):
    for subject in ("01", "02", "03"):
        add_recording(subject, seconds=320.0, events=[(0.0, 180.0, "rest", ""), (190.0, 120.0, "count", "")])
    task = infer_task(store, "d")
    assert set(task.classes) == {"rest", "count"}
    assert (task.window_s, task.stride_s) == (10.0, 10.0)
    assert np.bincount(task_windows(store, task).labels).tolist() == [36, 54]


def test_a_recipe_becomes_the_configuration_of_a_single_task(store, add_recording):
    recipe = known_tasks()["arithmetic"]
    task = single_task(recipe.model_copy(update={"dataset": "d"}))
    add_recording("01", seconds=60.0, events=[(0.0, 30.0, "rest", ""), (30.0, 30.0, "mental_arithmetic", "")])
    assert len(task_windows(store, task)) == 6
    assert single_task(known_tasks()["slowing"]).label == "group"
    with refusal(UserError, "arithmetic-age", action="emeg evaluate --tasks"):
        single_task(known_tasks()["arithmetic-age"])


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("eyes", {}, "within_subject_blocks"),
        ("somato-meg", {}, "sensors"),
        ("slowing", {"include": ("*rest*",)}, "include"),
        ("slowing", {"subjects": ("01",)}, "subjects"),
    ],
)
def test_what_fine_tuning_would_ignore_in_a_recipe_is_refused_by_name(name, changes, reason):
    with refusal(UserError, name, reason, action=f"emeg evaluate --tasks {name}"):
        single_task(known_tasks()[name].model_copy(update=changes))
