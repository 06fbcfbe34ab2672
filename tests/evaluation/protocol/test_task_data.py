"""What a task on a store is refused for before anything is computed."""

import pytest
from tests.evaluation.protocol.test_run import HANDS
from tests.messages import refusal

from emeg.data.tasks.recipes import TaskRecipe
from emeg.errors import UserError
from emeg.evaluation.protocol.task_data import make_task_data
from emeg.store import Store


@pytest.mark.parametrize(
    ("changes", "named", "action"),
    [
        ({"metric": "balanced_acuracy"}, "balanced_acuracy", "balanced_accuracy"),
        ({"classes": {"left": ["left"], "right": ["right"], "feet": ["feets"]}}, "feet (feets)", "texts"),
        ({"subjects": ["d/00", "d/01"]}, "2 subjects", "more subjects"),
    ],
)
def test_a_task_that_cannot_run_names_its_fault(root, changes, named, action):
    recipe = TaskRecipe.model_validate(HANDS | changes)
    with refusal(UserError, named, action=action):
        make_task_data(Store.open(root), recipe, seeds=(0,))


def test_labels_follow_the_order_of_the_recipe_not_of_the_alphabet(root):
    store = Store.open(root)
    one = make_task_data(store, TaskRecipe.model_validate(HANDS), seeds=(0,))
    turned = {name: HANDS["classes"][name] for name in reversed(HANDS["classes"])}
    other = make_task_data(store, TaskRecipe.model_validate(HANDS | {"classes": turned}), seeds=(0,))
    assert (one.truth == 1 - other.truth).all()
