import json

import pytest
import yaml
from tests.messages import refusal

from emeg.data.tasks.recipes import TaskRecipe, known_tasks, load_task
from emeg.errors import UserError
from emeg.registry import Registry

PAPER = ("tuab", "tuev", "ad65", "mdd", "pd31", "faced", "wbcic-shu", "physionet-mi", "asd74", "meg-mmi", "somato-emeg")
HANDS = {
    "id": "hands",
    "title": "Hands",
    "kind": "classification",
    "labels": {"source": "events"},
    "window": {"length_s": 2},
    "classes": {"right": ["right", 2], "left": "left"},
}


@pytest.mark.parametrize("name", PAPER)
def test_the_tasks_of_the_paper_agree_with_the_registry(name):
    recipe = known_tasks()[name]
    entry = Registry.load().get(recipe.dataset)
    names = {"physionet-mi": "physionet_mi_imagery4", "somato-emeg": "somato_emeg"}
    task = next(task for task in entry.task if task.name == names.get(name, name))
    assert recipe.window.length_s == task.window_s
    assert recipe.window.offset_s == task.start_s
    assert recipe.window.stride_s == task.stride_s
    assert len(recipe.classes) == len(set(task.classes.values()))
    assert (recipe.paper.official_test is not None) == (task.split == "official_eval")
    for size, value in task.published.items():
        assert recipe.published[f"brainomni-{size}-v1"] == value


def test_every_recipe_is_closed_and_survives_json_with_sorted_keys():
    for recipe in known_tasks().values():
        text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True)
        again = TaskRecipe.checked(json.loads(text), source="json")
        assert again == recipe
        assert list(again.classes) == list(recipe.classes), "the order of the classes is that of the labels"


def test_numbers_of_yaml_are_texts_and_order_is_kept():
    recipe = TaskRecipe.model_validate(HANDS)
    assert recipe.classes == {"right": ("right", "2"), "left": ("left",)}
    assert list(recipe.classes) == ["right", "left"]
    assert recipe.metric == "balanced_accuracy"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clases": {}}, "clases"),
        ({"classes": {"left": ["left"]}}, "classes"),
        ({"classes": {"left": ["a"], "right": ["a"]}}, "classes"),
        ({"kind": "regression"}, "classes"),
        ({"window": {"length_s": float("inf")}}, "length_s"),
        ({"window": {"length_s": 2, "offset_s": float("nan")}}, "offset_s"),
        ({"split": {"rule": "unseen_stimuli"}}, "unseen_stimuli"),
        ({"kind": "diagnosis", "split": {"rule": "cross_session"}}, "cross_session"),
        ({"labels": {"source": "participants", "column": "g"}, "split": {"rule": "few_shot"}}, "few_shot"),
        ({"kind": "encoding", "classes": {}, "stimulus": {"table": "t.csv", "key": "k"}}, "cross_subject"),
        ({"split": {"gap_s": float("inf")}}, "gap_s"),
        ({"split": {"official_test": "("}}, "official_test"),
        ({"paper": {"official_test": "*"}}, "official_test"),
        ({"paper": {"subject_names": [{"pattern": "S1", "to": r"\1"}]}}, "subject_names"),
        ({"labels": {"source": "path", "pattern": "["}}, "pattern"),
        ({"kind": "retrieval", "classes": {}}, "stimulus"),
        ({"labels": {"source": "participants"}}, "column"),
        ({"labels": {"source": "path", "pattern": "("}}, "pattern"),
        ({"split": {"rule": "by_window"}}, "rule"),
        ({"window": {"length_s": 0}}, "length_s"),
    ],
)
def test_a_wrong_field_is_named(changes, named, tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(HANDS | changes))
    with pytest.raises(UserError) as refused:
        load_task(str(path))
    assert "task.yaml" in str(refused.value)
    assert named in str(refused.value)


def test_tables_are_found_beside_the_file(tmp_path):
    path = tmp_path / "task.yaml"
    labels = {"source": "table", "table": "labels.csv", "column": "score"}
    path.write_text(yaml.safe_dump(HANDS | {"labels": labels}))
    recipe = load_task(str(path))
    assert recipe.labels.table == str(tmp_path / "labels.csv")
    assert "labels.csv" not in json.dumps(recipe.product_fields()), "a moved file gives the same evaluation"


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    with refusal(UserError, "arithmetics", action="arithmetic"):
        load_task("arithmetics")
    with refusal(UserError, "nothing.yaml", action="YAML"):
        load_task(str(tmp_path / "nothing.yaml"))


def test_intracranial_tasks_are_split_in_time_unless_they_say_otherwise():
    implanted = TaskRecipe(**HANDS, modality="ieeg")
    assert implanted.split.rule == "within_subject_blocks"
    assert TaskRecipe(**HANDS, modality="eeg").split.rule == "cross_subject"
    assert TaskRecipe(**HANDS, modality="ieeg", split={"rule": "cross_subject"}).split.rule == "cross_subject"
    again = TaskRecipe.checked(json.loads(json.dumps(implanted.model_dump(mode="json"))), source="json")
    assert again == implanted


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "t.yaml").write_bytes(b"id: t\xff")
    with refusal(UserError, "t.yaml", action="UTF-8"):
        load_task(str(tmp_path / "t.yaml"))
