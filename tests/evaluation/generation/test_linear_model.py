"""The autoregressive linear model against a simulated process."""

import numpy as np
import pytest
from scipy.signal import welch

from emeg.evaluation.generation.linear_model import continue_linearly, fit_linear_model

LAG_1 = np.array([[1.2, 0.2], [0.0, 0.5]])
LAG_2 = np.array([[-0.7, 0.0], [0.1, -0.3]])


@pytest.fixture(scope="module")
def process():
    noise = np.random.default_rng(0).standard_normal((2, 20_000))
    x = np.zeros((2, 20_000))
    for n in range(2, x.shape[1]):
        x[:, n] = LAG_1 @ x[:, n - 1] + LAG_2 @ x[:, n - 2] + noise[:, n]
    return x + 5.0


def test_coefficients_mean_and_noise_are_found(process):
    model = fit_linear_model(process, order=2)
    assert np.allclose(model.coefficients, [LAG_1, LAG_2], atol=0.03)
    assert np.allclose(model.mean, 5.0, atol=0.1)
    assert np.allclose(model.noise @ model.noise.T, np.eye(2), atol=0.05)


def test_a_continuation_has_the_spectrum_of_the_process_and_follows_its_prompt(process):
    model = fit_linear_model(process, order=6)
    made = continue_linearly(model, process[:, -10:], 20_000, np.random.default_rng(1))
    decibels = [10 * np.log10(welch(x, 100.0, nperseg=128)[1]) for x in (made, process)]
    assert np.abs(decibels[0] - decibels[1])[:, 1:].mean() < 0.5
    quiet = model._replace(noise=np.zeros((2, 2)))
    expected = 5.0 + LAG_1 @ (process[:, -1] - 5) + LAG_2 @ (process[:, -2] - 5)
    assert np.allclose(continue_linearly(quiet, process, 1, np.random.default_rng(0))[:, 0], expected, atol=0.3)


def test_a_short_prompt_gives_a_low_order_and_nothing_grows():
    growing = np.exp(np.arange(40) / 8) * np.random.default_rng(0).standard_normal((3, 40))
    model = fit_linear_model(growing, order=20)
    assert len(model.coefficients) == 3
    made = continue_linearly(model, growing, 5_000, np.random.default_rng(0))
    assert np.isfinite(made).all()
    assert np.abs(made[:, -100:]).max() < 100 * np.abs(growing).max()
