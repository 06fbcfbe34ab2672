"""Names of logged metrics, and the metrics that several rooms compute, each defined once.

Training writes a metric under one of these names and the report reads it under the same name. A metric of one codebook
carries the number of its quantizer level after a slash.

Shape letters: B batch, N samples, D features, Q quantizer levels, K codes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError

LOSS = "loss"
PCC = "pcc"
"""Pearson correlation of a signal with its reconstruction from codes."""
TOKENIZER_LOSSES = ("time", "amplitude", "phase", "commitment")
"""Terms of the tokenizer's loss."""
LATENT_COSINE = "latent_cosine"
"""Mean cosine of all pairs of latents: 1 where all are the same."""
GRADIENT_NORM = "gradient_norm"
LEARNING_RATE = "learning_rate"
SEGMENTS_PER_S = "segments_per_s"
DATA_WAIT = "data_wait"
"""Share of the time that steps waited for data."""
TERAFLOPS = "teraflops"
MFU = "mfu"
"""Model FLOP utilisation: share of the device's peak."""
ACCURACY = "accuracy"
"""Share of masked codes that BrainOmni predicts, over all levels."""
EXPLAINED = "explained_variance"
"""Share of the variance of masked tokens that an encoder of window power predicts."""
BALANCED_ACCURACY = "balanced_accuracy"
EFFECTIVE_RANK = "effective_rank"
"""Number of directions that features use: the exponential of the entropy of their singular values."""
_CODES, _PERPLEXITY, _DEAD = "codes/", "perplexity/", "dead/"


def codes_in_use(level: int) -> str:
    """Return the name of the number of codes in use at a quantizer level."""
    return f"{_CODES}{level}"


def perplexity_of(level: int) -> str:
    """Return the name of the perplexity of the codes of a quantizer level."""
    return f"{_PERPLEXITY}{level}"


def dead_codes(level: int) -> str:
    """Return the name of the number of codes replaced because they had died out at a quantizer level."""
    return f"{_DEAD}{level}"


def is_codes_in_use(name: str) -> bool:
    """Return whether a name is that of `codes_in_use`, at any level."""
    return name.startswith(_CODES)


def level_of(name: str) -> int:
    """Return the quantizer level of a metric of one codebook."""
    return int(name.rpartition("/")[2])


def group_pcc(group: str) -> str:
    """Return the name of the correlation over one group of recordings, such as ``ctf275/274``."""
    return f"{PCC}/{group}"


def level_accuracy(level: int) -> str:
    """Return the name of the share of masked codes predicted at one quantizer level."""
    return f"{ACCURACY}_{level}"


def is_accuracy(name: str) -> bool:
    """Return whether a name is that of `ACCURACY` or of a part of it."""
    return name == ACCURACY or name.startswith(f"{ACCURACY}_")


def pearson(a_N: NDArray[np.floating[Any]], b_N: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the Pearson correlation along the last axis.

    The tokenizer's loss has a differentiable form of its own, with the floor of the reference release.

    Parameters
    ----------
    a_N, b_N : float, shape (..., samples)
        Signals in any unit, the same or different ones.

    Returns
    -------
    float64, shape (...)
        NaN where `a_N` has no variance, 0 where only `b_N` has none.
    """
    a_N, b_N = np.asarray(a_N, np.float64), np.asarray(b_N, np.float64)
    a_N = a_N - a_N.mean(axis=-1, keepdims=True)
    b_N = b_N - b_N.mean(axis=-1, keepdims=True)
    return normalised_product(np.sum(a_N * b_N, axis=-1), np.sum(a_N * a_N, axis=-1), np.sum(b_N * b_N, axis=-1))


def normalised_product(
    product: NDArray[np.float64], power_a: NDArray[np.float64], power_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a correlation from sums of products and powers: NaN where `power_a` is 0, 0 where only `power_b` is.

    Parameters
    ----------
    product, power_a, power_b : float64, shape (...)
        Sums over the same samples or frequencies, in squared units of the signals (dimensionless where standardised).
    """
    scale = np.sqrt(power_a * power_b)
    found = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
    return np.where(power_a > 0, found, np.nan)


def perplexity(counts_K: NDArray[np.integer[Any] | np.floating[Any]]) -> float:
    """Return two to the entropy in bits of the shares of codes: n codes used equally often give n.

    Parameters
    ----------
    counts_K : int or float, shape (codes,)
        How often each code of a codebook was used.

    Returns
    -------
    float
        0 where nothing was counted.
    """
    used = np.asarray(counts_K, np.float64)
    used = used[used > 0]
    if not len(used):
        return 0.0
    share = used / used.sum()
    return float(np.exp(-np.sum(share * np.log(share))))


def balanced_accuracy(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the mean recall over the classes that occur in `labels`.

    Parameters
    ----------
    labels, predicted : int64, shape (windows,)
        True and predicted class index of every window; at least one window.
    """
    return float(np.mean([np.mean(predicted[labels == k] == k) for k in np.unique(labels)]))


def effective_rank(features_BD: NDArray[np.floating[Any]]) -> float:
    """Return the exponential of the entropy of the normalised singular values of centred features.

    Parameters
    ----------
    features_BD : float, shape (windows, features)
        Dimensionless features, one row for each window.

    Returns
    -------
    float
        Between 1 (all rows differ along one direction) and the smaller side of the matrix; 0 if all rows are equal.

    References
    ----------
    O. Roy and M. Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007, equation 2.
    """
    centred_BD = np.asarray(features_BD, np.float64)
    centred_BD = centred_BD - centred_BD.mean(axis=0)
    return perplexity(np.linalg.svd(centred_BD, compute_uv=False))


def code_agreement(codes_a_Q: NDArray[np.integer[Any]], codes_b_Q: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the share of equal codes at each quantizer level.

    Parameters
    ----------
    codes_a_Q, codes_b_Q : int, shape (..., quantizer levels)
        Codes of the same stretch of the same source activity, for instance from two devices.

    Returns
    -------
    float64, shape (quantizer levels,)
        1 where every code is the same; `chance_agreement` is what independent codes give.

    Raises
    ------
    UserError
        Shapes differ, or there are no codes.
    """
    if codes_a_Q.shape != codes_b_Q.shape or codes_a_Q.size == 0:
        raise UserError(
            f"codes of shape {codes_a_Q.shape} and {codes_b_Q.shape}: pass two of one shape that are not empty"
        )
    equal = (codes_a_Q == codes_b_Q).reshape(-1, codes_a_Q.shape[-1])
    return np.asarray(equal.mean(axis=0), np.float64)


def chance_agreement(
    codes_a_Q: NDArray[np.integer[Any]], codes_b_Q: NDArray[np.integer[Any]], n_codes: int
) -> NDArray[np.float64]:
    """Return the share of equal codes to expect at each level if both sides drew their codes independently.

    Parameters
    ----------
    codes_a_Q, codes_b_Q : int, shape (..., quantizer levels)
        Codes whose shares are taken.
    n_codes : int
        Codes of a codebook.

    Returns
    -------
    float64, shape (quantizer levels,)
        Sum over the codes of the product of both shares.
    """
    shares = [
        np.stack([np.bincount(level, minlength=n_codes) / len(level) for level in codes.reshape(-1, codes.shape[-1]).T])
        for codes in (codes_a_Q, codes_b_Q)
    ]
    return np.asarray(np.sum(shares[0] * shares[1], axis=1), np.float64)
