import numpy as np
import pytest
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.probes import diffusion_entropy, diffusion_information, gaussian_information
from emeg.evaluation.probes.information import diffusion_eigenvalues


@pytest.mark.parametrize("n_groups", [1, 2, 4, 8])
def test_the_entropy_of_groups_far_apart_is_the_logarithm_of_their_number(n_groups):
    generator = np.random.default_rng(0)
    centres = 1e3 * np.arange(n_groups)[:, None]
    features = np.repeat(centres, 30, axis=0) + 1e-6 * generator.normal(size=(30 * n_groups, 3))
    assert diffusion_entropy(features, width=1.0) == pytest.approx(np.log2(n_groups), abs=1e-3)


def test_windows_that_are_all_apart_have_the_largest_entropy():
    features = 1e3 * np.arange(64)[:, None]
    assert diffusion_entropy(features, width=1.0) == pytest.approx(6.0, abs=1e-6)
    assert diffusion_entropy(features, width=1.0, steps=100) == pytest.approx(6.0, abs=1e-6)


def test_more_steps_leave_less_entropy():
    features = np.random.default_rng(0).normal(size=(200, 4))
    found = [diffusion_entropy(features, steps=steps) for steps in (1, 2, 8, 64)]
    assert sorted(found, reverse=True) == found
    assert found[-1] < 1.0


def test_eigenvalues_are_those_of_the_transition_matrix():
    features = np.random.default_rng(0).normal(size=(40, 2))
    kernel = np.exp(-0.5 * np.square(np.linalg.norm(features[:, None] - features[None], axis=-1)) / 0.49)
    density = kernel.sum(axis=1)
    kernel /= density[:, None] * density[None]
    transition = kernel / kernel.sum(axis=1, keepdims=True)
    expected = np.sort(np.abs(np.linalg.eigvals(transition)))
    found = np.sort(diffusion_eigenvalues(features, 0.7))
    assert found == pytest.approx(expected, abs=1e-8)
    assert found[-1] == pytest.approx(1.0)


def test_information_is_that_of_labels_which_are_groups_and_none_for_labels_at_random():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    groups = np.eye(4)[labels] * 100 + generator.normal(size=(200, 4))
    # with a kernel wider than a group, each group is one point; samples of 50 hold the groups nearly equally often
    assert diffusion_information(groups, labels, width=20.0) == pytest.approx(2.0, abs=0.05)
    assert diffusion_information(groups, labels) > 0.8
    assert abs(diffusion_information(groups, generator.permutation(labels))) < 0.1
    assert abs(diffusion_information(generator.normal(size=(200, 4)), labels)) < 0.15


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_gaussian_information_is_the_closed_form(correlation):
    generator = np.random.default_rng(0)
    x = generator.normal(size=20000)
    y = correlation * x + np.sqrt(1 - correlation**2) * generator.normal(size=20000)
    expected = -0.5 * np.log2(1 - correlation**2)
    assert gaussian_information(x[:, None], y[:, None]) == pytest.approx(expected, abs=0.02)
    # independent pairs add up, and no invertible mixing changes it
    a, b = np.stack([x, y[::-1]], axis=1), np.stack([y, x[::-1]], axis=1)
    mixing = generator.normal(size=(2, 2))
    assert gaussian_information(a @ mixing, b) == pytest.approx(2 * expected, abs=0.04)


def test_too_few_windows_are_refused():
    with refusal(UserError, "5 windows", action="more windows"):
        gaussian_information(np.ones((5, 3)), np.ones((5, 2)))
