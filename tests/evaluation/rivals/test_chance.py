import numpy as np
from sklearn.dummy import DummyClassifier

from emeg.evaluation.rivals.chance import ChanceClassifier, DummyOutput


def test_chance_is_the_shares_of_training():
    chance = ChanceClassifier(3).fit(None, np.array([0, 0, 0, 1]))
    assert chance.predict_proba(np.zeros((2, 5))).tolist() == [[0.75, 0.25, 0.0]] * 2
    assert chance.predict(np.zeros((2, 5))).tolist() == [0, 0]


def test_guesses_have_a_column_for_each_class_of_the_task():
    dummy = DummyOutput(DummyClassifier(strategy="stratified", random_state=0), 3).fit(None, np.array([0, 0, 2, 2]))
    found = dummy.predict_proba(np.zeros((400, 5)))
    assert found.shape == (400, 3)
    assert found[:, 1].sum() == 0
    assert 0.4 < found[:, 2].mean() < 0.6
