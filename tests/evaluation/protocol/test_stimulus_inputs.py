"""Inputs of the models that predict responses from the stimuli, on windows of two recordings in disorder."""

from types import SimpleNamespace

import numpy as np
import pytest
from tests.messages import refusal

from emeg.data.tasks.recipes import StimulusTable
from emeg.errors import UserError
from emeg.evaluation.protocol.stimulus_inputs import previous_stimulus, time_in_recording
from emeg.evaluation.protocol.task_data import read_stimuli


class Windows(SimpleNamespace):
    def __len__(self):
        return len(self.starts)


WINDOWS = Windows(
    labels=np.array([2, 0, 1, 1, 0]),
    recordings=np.array(["a", "b", "a", "b", "a"]),
    starts=np.array([200, 50, 100, 10, 300]),
)
"""Recording a has the stimuli 1, 2, 0 in the order of time, recording b has 1, 0."""


def test_the_stimulus_before_is_that_of_the_same_recording():
    found = previous_stimulus(WINDOWS, np.array([[1.0], [2.0], [3.0]]))
    assert found[:, 0].tolist() == [2.0, 2.0, 0.0, 0.0, 3.0]


def test_time_runs_from_the_first_to_the_last_window_of_a_recording():
    found = time_in_recording(WINDOWS)
    assert found[:, 0] == pytest.approx(np.cos(np.pi * np.array([0.5, 1.0, 0.0, 0.0, 1.0])))
    assert found[:, 1] == pytest.approx([-1, 1, 1, 1, 1])


def test_low_level_features_are_apart_from_the_others(tmp_path):
    path = tmp_path / "stimuli.csv"
    path.write_text("name,a,loudness,kind\nx,1,5,tone\ny,3,9,word\n")
    table = StimulusTable(table=str(path), key="name", low_level=("loudness",))
    stimuli = read_stimuli(table)
    assert stimuli.table_BD.tolist() == [[-1.0], [1.0]]
    assert stimuli.low_level_BD.tolist() == [[-1.0], [1.0]]
    assert read_stimuli(table.model_copy(update={"low_level": ()})).low_level_BD is None
    assert read_stimuli(table.model_copy(update={"low_level": ()})).table_BD.shape == (2, 2)
    with refusal(UserError, "stimuli.csv", "kind", action="low_level"):
        read_stimuli(table.model_copy(update={"low_level": ("kind",)}))
