import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from tests.evaluation.conftest import add_person
from tests.messages import check_message, refusal

from emeg.data import Corpus
from emeg.data.tasks.recipes import TaskRecipe, known_tasks
from emeg.errors import UserError
from emeg.evaluation import EvaluateConfig, TasksConfig, evaluate, list_tasks
from emeg.evaluation.protocol.grid.planning import plan_grid
from emeg.store import Store

HANDS = {
    "id": "hands",
    "title": "Left or right",
    "kind": "classification",
    "labels": {"source": "events"},
    "window": {"length_s": 2.0},
    "classes": {"right": ["right"], "left": ["left"]},
}


def test_all_tasks_are_listed_with_kind_split_and_title():
    result = list_tasks(TasksConfig())
    assert [recipe.id for recipe in result.tasks] == sorted(known_tasks())
    text = result.as_text()
    for recipe in result.tasks:
        line = next(line for line in text.splitlines() if line.startswith(f"{recipe.id} "))
        assert recipe.kind in line
        assert line.endswith(recipe.title)
    assert {recipe.kind for recipe in list_tasks(TasksConfig(kind="diagnosis")).tasks} == {"diagnosis"}


def test_one_task_is_shown_as_yaml_that_can_be_read_again():
    text = list_tasks(TasksConfig(name="tuev")).as_text()
    assert TaskRecipe.from_yaml(text, source="shown") == known_tasks()["tuev"]
    assert list(yaml.safe_load(text)["classes"]) == ["SPSW", "GPED", "PLED", "EYEM", "ARTF", "BCKG"]


def test_a_store_is_told_what_can_run_and_why_the_rest_cannot(root, tmp_path):
    path = tmp_path / "hands.yaml"
    path.write_text(yaml.safe_dump(HANDS))
    (found,) = list_tasks(TasksConfig(name=str(path), root=root)).on_store
    assert (found.n_subjects, found.n_windows, found.n_folds, found.reason) == (5, 100, 5, "")
    (missing,) = list_tasks(TasksConfig(name="pd31", root=root)).on_store
    assert "ds002778" in missing.reason
    check_message(missing.reason, "pd31", action="dataset")
    assert "cannot run" in list_tasks(TasksConfig(name="pd31", root=root)).as_text()


def variants(root: str, folder: Path) -> list[str]:
    """Write tasks of which some cannot run on a store: too few subjects, one class, no labels, leaks, no model."""
    two = ["d/00", "d/01"]
    changes: dict[str, dict] = {
        "fits": {},
        "two-subjects": {"subjects": two},
        "many-folds": {"split": {"n_folds": 9}},
        "each-out": {"split": {"rule": "leave_one_subject_out"}},
        "each-of-two-out": {"split": {"rule": "leave_one_subject_out"}, "subjects": two},
        "one-class": {"classes": {"left": ["left"], "up": ["up"]}},
        "no-class": {"classes": {"up": ["up"], "down": ["down"]}},
        "no-events": {"device": "y"},
        "no-table": {"labels": {"source": "participants", "column": "group"}},
        "no-sessions": {"split": {"rule": "cross_session"}},
        "one-device": {"split": {"rule": "held_out_device"}},
        "long": {"window": {"length_s": 100.0}},
        "shots": {"split": {"rule": "few_shot", "n_folds": 3, "examples_per_class": [1, 30]}},
        "blocks": {"split": {"rule": "within_subject_blocks", "n_folds": 20}},
    }
    paths = []
    for name, changed in changes.items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(HANDS | {"id": name} | changed))
        paths.append(str(path))
    return paths


def check_agreement(root: str, tasks: Sequence[str], **settings: str) -> dict[str, str]:
    """Check that `evaluate` refuses exactly what the listing says, in the same words; return the reasons."""
    store, reasons = Store.open(root), {}
    for task in tasks:
        (listed,) = list_tasks(TasksConfig(name=task, root=root, **settings)).on_store
        config = EvaluateConfig(root=root, tasks=(task,), rivals=("chance",), **settings)
        reasons[listed.id] = listed.reason
        if not listed.reason:
            grid = plan_grid(store, config)
            data = grid.tasks[listed.id]
            assert (listed.n_subjects, listed.n_windows) == (len(set(data.windows.subjects)), len(data.windows))
            assert listed.n_folds == len(data.manifests[0, None if data.examples == (None,) else data.examples[0]])
            continue
        with pytest.raises(UserError) as refused:
            evaluate(config)
        assert str(refused.value) == listed.reason
        assert listed.reason.startswith(f"task {listed.id}: ")
    return reasons


def test_the_listing_and_the_evaluation_refuse_the_same_tasks(root, tmp_path):
    """A store with a network that was trained on half of the subjects."""
    reasons = check_agreement(root, [*variants(root, tmp_path), "pd31"])
    fitting = {name for name, reason in reasons.items() if not reason}
    assert {"fits", "many-folds", "each-out"} <= fitting
    assert not fitting & {"two-subjects", "one-class", "no-class", "no-events", "no-table", "no-sessions", "long"}
    assert check_agreement(root, [str(tmp_path / "two-subjects.yaml")], split_mode="paper_compat")["two-subjects"]


def test_subjects_that_the_network_was_trained_on_are_not_counted(root, tmp_path):
    splits = Corpus.open(Store.open(root), None).subjects
    trained = [name for name, split in splits.items() if split != "held_out"]
    held_out = [name for name, split in splits.items() if split == "held_out"]
    path = tmp_path / "hands.yaml"
    path.write_text(yaml.safe_dump(HANDS | {"subjects": [*trained, *held_out[:2]]}))
    assert "2 subjects" in check_agreement(root, [str(path)])["hands"]
    path.write_text(yaml.safe_dump(HANDS | {"subjects": trained}))
    reason = check_agreement(root, [str(path)])["hands"]
    check_message(reason, "hands", action="held-out")


def test_a_leak_that_needs_no_signal_to_be_found_is_listed(root, tmp_path):
    card = Path(root) / "models" / "omni" / "config.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"pretraining_datasets": ["d"]}))
    path = tmp_path / "hands.yaml"
    path.write_text(yaml.safe_dump(HANDS))
    check_message(check_agreement(root, [str(path)])["hands"], "pretraining_datasets", action="accepted_checks")


def test_of_several_networks_one_has_to_be_named_for_both(root, tmp_path):
    shutil.copytree(Path(root) / "models" / "omni", Path(root) / "models" / "omni2")
    path = tmp_path / "hands.yaml"
    path.write_text(yaml.safe_dump(HANDS))
    with refusal(UserError, "omni2", action="name one") as listed:
        list_tasks(TasksConfig(name=str(path), root=root))
    with pytest.raises(UserError) as refused:
        evaluate(EvaluateConfig(root=root, tasks=(str(path),)))
    assert str(refused.value) == str(listed.value)
    assert check_agreement(root, [str(path)], model="omni2") == {"hands": ""}


def test_listing_and_evaluation_agree_on_stores_without_a_network(tmp_path):
    few = Store.open(tmp_path / "few", create=True)
    for k in range(2):
        add_person(few, f"{k:02d}", names=("C3", "C4", "Cz"), seconds=20.0)
    silent = Store.open(tmp_path / "silent", create=True)
    for k in range(4):
        add_person(silent, f"{k:02d}", names=("C3", "C4", "Cz"), seconds=20.0, events=False)
    empty = Store.open(tmp_path / "empty", create=True)
    for store in (few, silent, empty):
        reasons = check_agreement(str(store.root), variants(str(store.root), tmp_path))
        assert all(reason for name, reason in reasons.items() if name != "blocks")


def test_unknown_kinds_and_names_are_refused():
    with refusal(UserError, "divination", action="kind"):
        list_tasks(TasksConfig(kind="divination"))
    with refusal(UserError, "ssveb", action="ssvep"):
        list_tasks(TasksConfig(name="ssveb"))
