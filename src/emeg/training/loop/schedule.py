"""Pure functions of the step number: learning rate, loss ramp, and the seed of every random draw."""

import math

import numpy as np


def lr_factor(step: int, total: int, *, warmup: float = 0.1, start: float = 0.1, final: float = 0.05) -> float:
    """Return the factor on the learning rate: linear warm-up, then a cosine.

    Parameters
    ----------
    step : int
        Optimiser steps already taken.
    total : int
        Steps of the whole run.
    warmup : float
        Share of `total` over which the factor rises from `start` to 1.
    start, final : float
        Factor at step 0 and at step `total`.

    References
    ----------
    arXiv 2505.18185, appendix on training: warm-up over 10 % from 0.1, cosine to 0.05 (tokenizer) or 0.1.
    """
    n_warmup = round(total * warmup)
    if step < n_warmup:
        return start + (1.0 - start) * step / n_warmup
    along = min(1.0, (step - n_warmup) / max(1, total - n_warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * along))


def loss_ramp(step: int, n_steps: int) -> float:
    """Return the factor on the L1, amplitude and phase terms: min(1, step / n_steps)², or 1 without a ramp.

    At the start the gradient of L1 is thirty times that of the correlation and points to an output that does not
    depend on the input. Squared, the ramp leaves the correlation ahead of it for the first fifty steps. That alone is
    not enough with many channels, where two of three seeds stayed on the plateau (docs/decisions/0004).
    """
    return 1.0 if n_steps == 0 else min(1.0, step / n_steps) ** 2


def draw_seed(seed: int, step: int, micro_batch: int) -> int:
    """Return the seed of all draws of one micro-batch, whatever the rank that computes it.

    Returns
    -------
    int
        In [0, 2^63): torch's generators take a signed 64-bit number.
    """
    state = np.random.SeedSequence((seed, step, micro_batch)).generate_state(1, np.uint64)
    return int(state[0]) & (2**63 - 1)
