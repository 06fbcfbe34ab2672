"""Losses on targets against closed forms."""

import numpy as np
import pytest
import torch

from emeg.training.finetune.targets import NumericTargets, StimulusTargets, make_targets


def test_numbers_are_scaled_by_the_training_windows_and_back():
    targets = make_targets(5, np.array([4, 1]), np.array([20.0, 40.0]))
    assert isinstance(targets, NumericTargets)
    assert targets.loss(torch.tensor([[-1.0], [1.0]]), np.array([4, 1])).item() == 0.0
    assert targets.loss(torch.tensor([[0.0], [0.0]]), np.array([4, 1])).item() == pytest.approx(1.0)
    assert targets.predictions(np.array([[-1.0], [0.0]])).tolist() == [[20.0], [30.0]]
    same = make_targets(2, np.array([0, 1]), np.array([7.0, 7.0]))
    assert same.predictions(np.array([[0.0]])).tolist() == [[7.0]]


def test_the_loss_of_stimuli_prefers_the_right_one():
    features = np.array([[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
    targets = make_targets(3, np.array([0, 1, 2]), features)
    assert isinstance(targets, StimulusTargets)
    assert targets.n_outputs == 2
    rows = np.array([0, 1, 2])
    centred = torch.from_numpy(features - features.mean(axis=0)).float()
    right, wrong = targets.loss(centred, rows).item(), targets.loss(centred.flip(0)[[0, 2, 1]], rows).item()
    assert right < wrong
    # cosines are 1 and -1: the windows of one stimulus share its column
    expected = (np.log1p(np.exp(-20.0)) + np.mean([np.log(2), 0.0, np.log(2)])) / 2
    assert right == pytest.approx(expected, abs=1e-5)
    assert targets.predictions(centred.double().numpy()) == pytest.approx(features)
