import numpy as np
import pytest
from benchmarks.leaks import PROCEDURES, procedure
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.leaks import check_isolation, stop_on_leaks


def result(kind):
    generator = np.random.default_rng(3)
    labels = generator.permutation(np.arange(90) % 2)
    features = generator.normal(size=(90, 5)) + 0.5 * labels[:, None]
    train, validation, test = np.split(generator.permutation(90), [50, 70])
    return check_isolation(procedure(kind, train, validation, test), features, labels, test)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (PROCEDURES[0], "predictions of test windows depend on other test windows"),
        (PROCEDURES[1], "the setting depends on the labels of test windows"),
        (PROCEDURES[2], "predictions of test windows depend on other test windows"),
        (PROCEDURES[3], "predictions depend on the labels of test windows"),
    ],
)
def test_a_leak_inside_a_procedure_is_found(kind, words):
    check = result(kind)
    assert not check.passed
    assert any(words in text for text in check.found)


def test_a_procedure_without_a_leak_passes():
    assert result("") == ("isolation", result("").title, True, True, ())


def test_a_leaking_procedure_stops_an_evaluation():
    with refusal(UserError, "isolation", "labels of", action="fit"):
        stop_on_leaks([result(PROCEDURES[1])], task="t")
