"""Diffusion spectral entropy and mutual information of features, and mutual information of Gaussian variables.

All values are in bits.

Shape letters: B batch, D features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from emeg.errors import UserError

N_NEIGHBOURS = 10
"""Neighbour whose median distance is the width of the kernel."""
MOST_WINDOWS = 500
"""Most windows of a diffusion matrix; more are sampled, since eigenvalues take the third power of their number."""
N_SAMPLES = 8
"""Random samples of windows that the entropy of a class is compared with."""


def diffusion_entropy(
    features_BD: NDArray[np.floating[Any]], *, steps: int = 1, width: float | None = None, seed: int = 0
) -> float:
    """Compute the diffusion spectral entropy: the entropy of the eigenvalues of a random walk among windows, bits.

    It is 0 where all windows are alike, and the logarithm of the number of groups where windows form groups far apart.

    Parameters
    ----------
    features_BD : float, shape (windows, features)
        Features in any unit.
    steps : int
        Steps of the random walk; more steps weaken small structure.
    width : float, optional
        Standard deviation of the Gaussian kernel, in units of the features; by default `kernel_width`.
    seed : int
        Seed of the sample where there are more than `MOST_WINDOWS`.

    References
    ----------
    Liao et al., arXiv 2312.04823, definitions 3.1 and 3.2.
    """
    features = _sample(np.asarray(features_BD, np.float64), MOST_WINDOWS, np.random.default_rng(seed))
    if width is None:
        width = kernel_width(features)
    eigenvalues = diffusion_eigenvalues(features, width) ** steps
    shares = eigenvalues / eigenvalues.sum()
    shares = shares[shares > 0]
    return float(max(-np.sum(shares * np.log2(shares)), 0.0))


def diffusion_information(
    features_BD: NDArray[np.floating[Any]],
    labels: NDArray[Any],
    *,
    steps: int = 1,
    width: float | None = None,
    seed: int = 0,
) -> float:
    """Compute the diffusion spectral mutual information of features and labels, bits.

    It is the entropy of all windows minus the mean entropy of the windows of a class. Entropy grows with the number of
    windows, so the first is that of samples of as many windows as the class has, with one kernel width for all.

    Parameters
    ----------
    features_BD : float, shape (windows, features)
        Features in any unit.
    labels : any dtype, shape (windows,)
        Class of each window, an index or a name.
    steps : int
        Steps of the random walk.
    width : float, optional
        Standard deviation of the Gaussian kernel, in units of the features; by default `kernel_width` of all windows.
    seed : int
        Seed of the samples.

    References
    ----------
    Liao et al., arXiv 2312.04823, section 3.3.
    """
    features = np.asarray(features_BD, np.float64)
    generator = np.random.default_rng(seed)
    if width is None:
        width = kernel_width(_sample(features, MOST_WINDOWS, generator))
    found = 0.0
    for value in np.unique(labels):
        own = _sample(features[labels == value], MOST_WINDOWS, generator)
        of_class = diffusion_entropy(own, steps=steps, width=width)
        of_all = [
            diffusion_entropy(_sample(features, len(own), generator), steps=steps, width=width)
            for _ in range(N_SAMPLES)
        ]
        found += float(np.mean(labels == value)) * (float(np.mean(of_all)) - of_class)
    return found


def kernel_width(features_BD: NDArray[np.float64]) -> float:
    """Return the median distance of a window to its `N_NEIGHBOURS`-th neighbour; a tiny value if windows coincide.

    Parameters
    ----------
    features_BD : float64, shape (windows, features)
        Features in any unit.
    """
    distances = np.sort(cdist(features_BD, features_BD), axis=1)
    k = min(N_NEIGHBOURS, len(features_BD) - 1)
    return max(float(np.median(distances[:, k])), 1e-12)


def diffusion_eigenvalues(features_BD: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return the absolute eigenvalues of the diffusion matrix of windows, shape (windows,); the largest is 1.

    Parameters
    ----------
    features_BD : float64, shape (windows, features)
        Features in any unit.
    width : float
        Standard deviation of the Gaussian kernel, in units of the features.
    """
    kernel = np.exp(-0.5 * cdist(features_BD, features_BD, "sqeuclidean") / width**2)
    density = kernel.sum(axis=1)
    kernel /= np.outer(density, density)  # anisotropic: the density of sampling does not count
    degree = np.sqrt(kernel.sum(axis=1))
    # similar to the matrix of transition probabilities, but symmetric
    return np.asarray(np.abs(np.linalg.eigvalsh(kernel / np.outer(degree, degree))))


def gaussian_information(first_BD: NDArray[np.floating[Any]], second_BD: NDArray[np.floating[Any]]) -> float:
    """Compute the mutual information of two sets of features as if they were jointly Gaussian, bits.

    Parameters
    ----------
    first_BD, second_BD : float, shape (windows, features)
        Features in any unit.

    Raises
    ------
    UserError
        There are not more windows than features of both sets.

    References
    ----------
    Cover and Thomas, Elements of Information Theory, 2006, section 8.4: −½ log det of the identity minus the squared
    canonical correlations.
    """
    first, second = (np.asarray(one, np.float64) for one in (first_BD, second_BD))
    if len(first) <= first.shape[1] + second.shape[1]:
        raise UserError(
            f"information: {len(first)} windows do not determine {first.shape[1]} and {second.shape[1]} features; use"
            " more windows or fewer features"
        )
    bases = [np.linalg.qr(one - one.mean(axis=0))[0] for one in (first, second)]
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    return float(-0.5 * np.sum(np.log2(np.maximum(1.0 - correlations**2, 1e-15))))


def _sample(features: NDArray[np.float64], n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    if len(features) <= n:
        return features
    return features[np.sort(generator.choice(len(features), n, replace=False))]
