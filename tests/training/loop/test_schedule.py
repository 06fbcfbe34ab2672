import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emeg.training.loop.schedule import draw_seed, loss_ramp, lr_factor


def test_learning_rate_follows_the_closed_form():
    factors = [lr_factor(step, 1000) for step in range(1001)]
    np.testing.assert_allclose(factors[:100], 0.1 + 0.9 * np.arange(100) / 100)
    along = np.arange(901) / 900
    np.testing.assert_allclose(factors[100:], 0.05 + 0.95 * (1 + np.cos(math.pi * along)) / 2)


@given(st.integers(1, 5000), st.floats(0.0, 0.5), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_learning_rate_has_its_start_peak_and_end(total, warmup, start, final):
    def factor(step):
        return lr_factor(step, total, warmup=warmup, start=start, final=final)

    n_warmup = round(total * warmup)
    assert factor(n_warmup) == pytest.approx(1.0) or n_warmup == total
    assert factor(total) == pytest.approx(final) or n_warmup == total
    if n_warmup:
        assert factor(0) == pytest.approx(start)
    assert factor(10 * total) == pytest.approx(final) or n_warmup == total


def test_ramp_rises_to_one_and_stays():
    assert [loss_ramp(step, 300) for step in (0, 150, 300, 4000)] == [0.0, 0.25, 1.0, 1.0]
    assert loss_ramp(0, 0) == 1.0


def test_draws_differ_by_seed_step_and_micro_batch_and_fit_a_generator():
    seeds = {draw_seed(seed, step, micro) for seed in range(3) for step in range(50) for micro in range(4)}
    assert len(seeds) == 600
    assert draw_seed(1, 2, 3) == draw_seed(1, 2, 3)
    for seed in seeds:
        torch.Generator().manual_seed(seed)
