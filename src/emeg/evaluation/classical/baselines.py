"""Classical baselines, fitted on the training subjects of a fold only.

Chance: the class frequencies of training.
Band power: log power of every channel in the classical bands (and in bands of 1 Hz), logistic regression.
Tangent space: covariances of bands, shrunk (OAS), projected to the tangent space at the Riemannian mean
of the training windows, logistic regression.
"""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.evaluation.classical.logistic import Fitted, Rows, fit_logistic
from emeg.evaluation.classical.spectra import Spectra, log_power

MAX_COMPONENTS = 24
"""Most components of a covariance: 300 features a band, whatever the number of channels."""
MAX_NARROW_COMPONENTS = 8
"""Most components in bands of 1 Hz, where a window has 2 samples a second and there are 43 bands."""


class Baseline(NamedTuple):
    """A baseline."""

    name: str
    title: str
    package: str = ""
    """Package it needs that emeg does not install."""
    fit: Callable[[Spectra, NDArray[np.int64], int, Rows], Fitted] | None = None
    """None if it does not use signals."""


def fit_baseline(name: str, spectra: Spectra | None, labels: NDArray[np.int64], n_classes: int, rows: Rows) -> Fitted:
    """Fit one of `BASELINES` on a fold and return its probabilities for the test windows.

    Parameters
    ----------
    name : str
    spectra : Spectra or None
        All windows of the task, of the same channels; only chance does not need them.
    labels : int64, shape (windows,)
        Class indices.
    n_classes : int
    rows : Rows
        Settings are chosen on ``rows.validation``; labels of ``rows.test`` are not used.

    Raises
    ------
    UserError
        The baseline needs signals, and `spectra` is None.
    """
    fit = BASELINES[name].fit
    if fit is None:
        return chance(labels, n_classes, rows)
    if spectra is None:
        raise UserError(
            f"baseline {name} needs signals, but the recordings share no channel; choose recordings of one subject or"
            " one device"
        )
    return fit(spectra, labels, n_classes, rows)


def missing_package(name: str) -> str:
    """Return why a baseline cannot run; empty if it can."""
    package = BASELINES[name].package
    if not package or importlib.util.find_spec(package) is not None:
        return ""
    return f"not installed: {package} (pip install 'emeg[baselines]')"


def chance(labels: NDArray[np.int64], n_classes: int, rows: Rows) -> Fitted:
    """Predict the class frequencies of training for every window.

    The predicted class is the most frequent one. Guesses drawn with these frequencies have the same expected balanced
    accuracy, one over the number of classes, and the same AUROC, 0.5.

    Parameters
    ----------
    labels : int64, shape (windows,)
        Class indices.
    n_classes : int
    rows : Rows
        Windows of each side of the fold.
    """
    share = np.bincount(labels[rows.train], minlength=n_classes) / max(len(rows.train), 1)
    return Fitted(np.tile(share, (len(rows.test), 1)), None)


def expected_chance(labels: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """Return the expected balanced accuracy of random guesses, over the classes that occur.

    Parameters
    ----------
    labels : int64, shape (windows,)
        Class indices.
    shares : float64, shape (classes,)
        Probabilities with which the classes are guessed.
    """
    return float(np.mean(shares[np.unique(labels)])) if len(labels) else 0.0


def band_power(spectra: Spectra, labels: NDArray[np.int64], n_classes: int, rows: Rows) -> Fitted:
    """Classify log band power of every channel, in classical bands or bands of 1 Hz, whichever validates better.

    Parameters
    ----------
    spectra : Spectra
        All windows of the task.
    labels : int64, shape (windows,)
        Class indices.
    n_classes : int
    rows : Rows
        Windows of each side of the fold.
    """
    candidates = {"classical bands": log_power(spectra, spectra.classical_bands())}
    if narrow := spectra.narrow_bands():
        candidates["bands of 1 Hz"] = log_power(spectra, narrow)
    return fit_logistic(candidates, labels, n_classes, rows)


def tangent_space(spectra: Spectra, labels: NDArray[np.int64], n_classes: int, rows: Rows) -> Fitted:
    """Classify covariances in the tangent space: of 1 to 45 Hz, of each classical band, or of bands of 1 Hz.

    One of the three is chosen on validation.

    Parameters
    ----------
    spectra : Spectra
        All windows of the task.
    labels : int64, shape (windows,)
        Class indices.
    n_classes : int
    rows : Rows
        Windows of each side of the fold.

    References
    ----------
    Barachant et al., IEEE Trans Biomed Eng 59(4):920-928, 2012.
    """
    bands = list(spectra.classical_bands().values())
    filters = principal_filters(spectra, rows.train)
    candidates = {
        "classical bands": [_tangent(spectra, bins, filters, rows) for bins in bands],
        "1 to 45 Hz": [_tangent(spectra, np.unique(np.concatenate(bands)), filters, rows)],
        "bands of 1 Hz": [
            _tangent(spectra, bins, filters[:MAX_NARROW_COMPONENTS], rows) for bins in spectra.narrow_bands().values()
        ],
    }
    found = {name: np.concatenate(parts, axis=1) for name, parts in candidates.items() if parts}
    return fit_logistic(found, labels, n_classes, rows)


def principal_filters(spectra: Spectra, train: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return spatial filters, shape (components, channels): leading principal axes of the training windows.

    Channels are first scaled by sensor type. Axes without signal (an average reference removes one, a projection
    several) are left out, because a covariance has no logarithm there.

    Parameters
    ----------
    spectra : Spectra
        All windows of the task.
    train : int, shape (training windows,)
        Indices of the training windows.
    """
    coefficients = spectra.coefficients[train]
    scale = np.ones(len(spectra.sensor_type))
    for kind in np.unique(spectra.sensor_type):
        own = spectra.sensor_type == kind
        scale[own] = 1.0 / max(float(np.sqrt(np.mean(np.abs(coefficients[:, own]) ** 2))), 1e-300)
    scaled = coefficients * scale[:, None]
    covariance = np.einsum("bcf,bdf->cd", scaled, scaled.conj()).real / max(len(train), 1)
    size, axes = np.linalg.eigh(covariance)
    kept = np.flatnonzero(size > 1e-6 * size[-1])[::-1][:MAX_COMPONENTS]
    return np.asarray(axes[:, kept].T * scale)


def _tangent(spectra: Spectra, bins: NDArray[np.intp], filters: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    """Return tangent vectors of the covariances in one band, shape (windows, components · (components + 1) / 2)."""
    from pyriemann.tangentspace import TangentSpace

    coefficients = np.einsum("kc,bcf->bkf", filters, spectra.coefficients[..., bins])
    covariances = shrunk_covariances(coefficients)
    space = TangentSpace(metric="riemann").fit(covariances[rows.train])
    return np.asarray(space.transform(covariances), np.float64)


def shrunk_covariances(coefficients: NDArray[np.complexfloating[Any, Any]]) -> NDArray[np.float64]:
    """Compute covariances of a band from its Fourier coefficients, shrunk towards a multiple of the identity (OAS).

    Real and imaginary parts are orthogonal coordinates of the band. Their number equals its degrees of freedom, which
    the shrinkage needs (a filtered signal has more samples than degrees of freedom).

    Parameters
    ----------
    coefficients : complex, shape (windows, components, frequencies)
        Square root of power per Hz, in units of the signal (V, T or T/m), or standardised.

    Returns
    -------
    float64, shape (windows, components, components)
        Positive definite for windows that have any power.

    References
    ----------
    Chen et al., IEEE Trans Signal Process 58(10):5016-5029, 2010, eq. 23, as scikit-learn computes it.
    """
    samples = np.concatenate([coefficients.real, coefficients.imag], axis=-1).astype(np.float64)
    n_components, n_samples = samples.shape[1:]
    sample_covariance = samples @ samples.swapaxes(1, 2) / n_samples
    scale = np.trace(sample_covariance, axis1=1, axis2=2) / n_components
    mean_square = np.mean(sample_covariance**2, axis=(1, 2))
    spread = (n_samples + 1) * (mean_square - scale**2 / n_components)
    ratio = np.divide(mean_square + scale**2, spread, out=np.ones_like(spread), where=spread > 0)
    shrinkage = np.minimum(ratio, 1.0)[:, None, None]
    identity = scale[:, None, None] * np.eye(n_components)
    return np.asarray((1 - shrinkage) * sample_covariance + shrinkage * identity)


BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline("band_power", "Band power + logistic regression", fit=band_power),
        Baseline("tangent_space", "Covariances in tangent space + logistic regression", "pyriemann", tangent_space),
        Baseline("chance", "Chance"),
    )
}
"""Baselines by name, in the order of tables."""
