import yaml
from tests.messages import check_message, refusal

from emeg.data.tasks.recipes import TaskRecipe, known_tasks
from emeg.errors import UserError
from emeg.evaluation import TasksConfig, list_tasks

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
    assert (found.n_subjects, found.n_windows, found.n_folds, found.reason) == (10, 200, 5, "")
    (missing,) = list_tasks(TasksConfig(name="pd31", root=root)).on_store
    assert "ds002778" in missing.reason
    check_message(missing.reason, "pd31", action="dataset")
    assert "cannot run" in list_tasks(TasksConfig(name="pd31", root=root)).as_text()


def test_unknown_kinds_and_names_are_refused():
    with refusal(UserError, "divination", action="kind"):
        list_tasks(TasksConfig(kind="divination"))
    with refusal(UserError, "ssveb", action="ssvep"):
        list_tasks(TasksConfig(name="ssveb"))
