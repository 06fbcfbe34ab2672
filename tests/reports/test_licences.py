"""Licences that forbid a publication, each with its next action, and those that do not."""

import pytest
from tests.messages import check_message

from emeg.registry import Registry
from emeg.reports.licences import conditions, obstacles
from emeg.training.dataset_use import DatasetUse


def use(name="mine", *licences, stage="pretraining"):
    return DatasetUse(id=name, stage=stage, subjects=3, hours=1.0, licences=licences)


def found(*uses, licence="mit", private=True, unknown_accepted=False):
    return obstacles(uses, licence=licence, private=private, unknown_accepted=unknown_accepted)


@pytest.mark.parametrize("text", ["CC0-1.0", "CC0", "PDDL", "CC-BY-4.0", "ODC-By-1.0", "CC-BY-SA-4.0", "BSD 3-Clause"])
def test_free_licences_are_no_obstacle(text):
    assert found(use("mine", text), private=False) == []


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("CC-BY-NC-4.0", "--licence"),
        ("CC BY-NC-SA 4.0", "--licence"),
        ("for non-commercial research", "--licence"),
        ("CC-BY-ND-4.0", "train without"),
        ("not stated", "--unknown-licences-checked"),
        ("unknown", "--unknown-licences-checked"),
    ],
)
def test_an_obstacle_names_dataset_and_action(text, action):
    (obstacle,) = found(use("mine", text))
    check_message(obstacle, "mine", action=action)


def test_the_users_statements_remove_their_obstacles_alone():
    assert found(use("mine", "CC-BY-NC-4.0"), licence="cc-by-nc-4.0") == []
    assert found(use("mine", "not stated"), unknown_accepted=True) == []
    assert len(found(use("mine", "CC-BY-ND-4.0"), licence="cc-by-nc-4.0", unknown_accepted=True)) == 1
    assert len(found(use("a", "not stated"), use("b", "CC-BY-NC-4.0"), unknown_accepted=True)) == 1


def test_a_model_that_declares_nothing_is_refused_until_the_user_has_looked():
    (obstacle,) = found()
    check_message(obstacle, action="--unknown-licences-checked")
    assert found(unknown_accepted=True) == []


def test_rules_of_the_registry_count_beside_the_text():
    """Every entry that forbids redistribution is an obstacle for a public repository, as its flags say."""
    flagged = {flag: entry for entry in Registry.load() for flag in entry.licence_flags}
    closed = flagged["no_redistribution"]
    assert any("redistributed" in one for one in found(use(closed.id, "CC0-1.0"), private=False, licence="nc"))
    cloud = flagged["no_cloud_copy"]
    assert any("cloud" in one for one in found(use(cloud.id, "CC0-1.0"), licence="cc-by-nc-4.0"))
    alike = flagged["share_alike"]
    assert conditions([use(alike.id)]) == [f"{alike.id}: share alike"]
    assert conditions([use("mine", "CC0-1.0")]) == []


def test_a_licence_that_the_store_does_not_know_is_taken_from_the_registry():
    entry = next(entry for entry in Registry.load() if entry.licence == "CC0-1.0" and not entry.licence_flags)
    assert found(use(entry.id, "not stated"), private=False) == []
