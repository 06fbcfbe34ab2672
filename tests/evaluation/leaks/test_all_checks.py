import numpy as np
import pytest
from benchmarks.leaks import KINDS, clean_setup
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.leaks import CHECKS, run_checks, stop_on_leaks


def test_an_evaluation_without_a_leak_passes_every_check(setup):
    checks = run_checks(setup)
    assert [check.name for check in checks] == list(CHECKS)
    assert [check.name for check in checks if not check.passed] == []
    stop_on_leaks(checks, task="t")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_planted_leak_fails_its_check(kind):
    name, plant = KINDS[kind]
    failed = {check.name for check in run_checks(plant(np.random.default_rng([2000, len(kind)]))) if not check.passed}
    assert name in failed


@pytest.mark.parametrize("seed", range(2000, 2008))
def test_clean_evaluations_of_all_rules_raise_no_alarm(seed):
    assert [check for check in run_checks(clean_setup(np.random.default_rng(seed))) if not check.passed] == []


def test_a_leak_stops_the_evaluation_and_names_check_example_and_action(moved, setup):
    checks = run_checks(moved(train=np.union1d(setup.folds[0].train, setup.folds[0].test[:2])))
    names = ("arithmetic", "subjects_apart", "windows_disjoint", "d/e", CHECKS["windows_disjoint"].action)
    with refusal(UserError, *names, action="accepted_checks"):
        stop_on_leaks(checks, task="arithmetic")


def test_a_task_may_accept_a_check_by_name_and_descriptions_never_stop(moved, setup):
    checks = run_checks(moved(train=np.union1d(setup.folds[0].train, setup.folds[0].test[:2])))
    stop_on_leaks(checks, task="t", accepted=("subjects_apart", "windows_disjoint"))
    described = [check._replace(passed=check.stops) for check in run_checks(setup)]
    assert not all(check.passed for check in described)
    stop_on_leaks(described, task="t")


def test_many_examples_are_counted_and_not_listed(moved, setup):
    (check,) = (
        one
        for one in run_checks(moved(train=np.union1d(setup.folds[0].train, setup.folds[0].validation)))
        if one.name == "windows_disjoint"
    )
    assert len(check.found) <= 7
