"""Vector autoregression: the linear model that a network must beat.

Shape letters: C channels, N samples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_COEFFICIENT = 4
"""Least samples for each coefficient of a channel; with fewer, the order is reduced."""
RIDGE = 1e-6
"""Added to the diagonal of the normal equations, as a share of its mean: channels with a common reference are
collinear."""
MOST_GAIN = 0.999
"""Largest absolute eigenvalue; coefficients of a model that would grow are shrunk to it."""


class LinearModel(NamedTuple):
    """x(n) = mean + Σ_k A_k (x(n − k) − mean) + noise."""

    mean: NDArray[np.float64]
    """(C,)."""
    coefficients: NDArray[np.float64]
    """(order, C, C)."""
    noise: NDArray[np.float64]
    """(C, C): factor L of the covariance L Lᵀ of the noise."""


def fit_linear_model(signal_CN: NDArray[np.float64], order: int) -> LinearModel:
    """Fit a vector autoregression by least squares.

    Parameters
    ----------
    signal_CN : float64, shape (channels, samples)
        In any unit.
    order : int
        Largest order; it is reduced to a quarter of the samples by channel, but not below 1.
    """
    n_channels, n_samples = signal_CN.shape
    order = max(1, min(order, n_samples // (SAMPLES_PER_COEFFICIENT * n_channels)))
    mean = signal_CN.mean(axis=1)
    centred = signal_CN - mean[:, None]
    past = np.concatenate([centred[:, order - k : n_samples - k] for k in range(1, order + 1)])
    gram = past @ past.T
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram) + np.finfo(float).tiny
    weights = np.linalg.solve(gram, past @ centred[:, order:].T).T
    left = centred[:, order:] - weights @ past
    covariance = left @ left.T / left.shape[1]
    values, vectors = np.linalg.eigh(covariance)
    noise = vectors * np.sqrt(np.maximum(values, 0))
    coefficients = weights.reshape(n_channels, order, n_channels).transpose(1, 0, 2)
    return LinearModel(mean, _stable(coefficients), noise)


def _stable(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduce the coefficients of lag k by gain^k if the model would grow."""
    order, n_channels, _ = coefficients.shape
    companion = np.zeros((order * n_channels, order * n_channels))
    companion[:n_channels] = np.concatenate(list(coefficients), axis=1)
    companion[n_channels:, :-n_channels] = np.eye((order - 1) * n_channels)
    largest = float(np.abs(np.linalg.eigvals(companion)).max())
    gain = min(1.0, MOST_GAIN / max(largest, 1e-12))
    return coefficients * gain ** np.arange(1, order + 1)[:, None, None]


def continue_linearly(
    model: LinearModel, prompt_CN: NDArray[np.float64], n_samples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Simulate a continuation of a prompt: float64, shape (channels, n_samples), in the unit of the prompt.

    Parameters
    ----------
    model : LinearModel
    prompt_CN : float64, shape (channels, samples)
        The last samples before the continuation, at least as many as the order, in any unit, that of the fit.
    n_samples : int
    generator : numpy.random.Generator
    """
    order, n_channels, _ = model.coefficients.shape
    stacked = np.concatenate(list(model.coefficients), axis=1)
    made = np.empty((n_channels, order + n_samples))
    made[:, :order] = prompt_CN[:, -order:] - model.mean[:, None]
    noise = model.noise @ generator.standard_normal((n_channels, n_samples))
    for n in range(n_samples):
        past = made[:, n : n + order][:, ::-1].T.reshape(-1)
        made[:, order + n] = stacked @ past + noise[:, n]
    return np.asarray(made[:, order:] + model.mean[:, None])
