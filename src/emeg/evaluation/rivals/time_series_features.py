"""Time-series features after catch22, for the channels of single windows, written from their formulas.

Every feature is computed for all channels of all windows at once. Channels are first scaled to mean 0 and standard
deviation 1, so that features do not depend on the unit.

Shape letters: B batch, C channels, N samples.

References
----------
Lubba et al., catch22: CAnonical Time-series CHaracteristics. Data Min Knowl Disc 33:1821-1852, 2019, table 1; the names
of that table are given in parentheses below. Fulcher and Jones, hctsa. Cell Systems 5:527-531, 2017.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.rivals.row_cache import CACHE
from emeg.evaluation.rivals.unfitted import UnfittedFeatures

MAX_CHANNELS = 16
"""Most channels to describe, spread evenly over the rows."""
MOST_LAGS = 40
"""Lags among which the first minimum of the automutual information is sought, as in catch22."""
SMALL_CHANGE = 0.04
"""Change between samples that counts as large, in standard deviations (pNN40)."""
WORDS = 3
"""Letters of the alphabet of quantiles."""

Rows = NDArray[np.float64]


class TimeSeriesFeatures(UnfittedFeatures):
    """The features of `FEATURES` and the logarithm of the standard deviation, of each channel.

    Parameters
    ----------
    max_channels : int
        Most channels to use.
    """

    def __init__(self, max_channels: int = MAX_CHANNELS) -> None:
        self.max_channels = max_channels

    def transform(self, X: NDArray[np.floating[Any]]) -> Rows:
        """Compute the features, float64 of shape (windows, channels · (features + 1)).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        chosen = np.unique(np.linspace(0, X.shape[1] - 1, min(self.max_channels, X.shape[1])).round().astype(int))
        return CACHE.features("time_series", X[:, chosen], self._compute)

    def _compute(self, X: NDArray[np.floating[Any]]) -> Rows:
        rows_BN = np.asarray(X, np.float64).reshape(-1, X.shape[-1])
        spread = rows_BN.std(axis=-1)
        scaled_BN = (rows_BN - rows_BN.mean(axis=-1, keepdims=True)) / np.where(spread > 0, spread, 1.0)[:, None]
        found = np.stack([compute(scaled_BN) for compute in FEATURES.values()], axis=-1)
        found[spread == 0] = 0.0  # a flat channel has no such features
        power = np.log(np.maximum(spread, 1e-30))
        return np.concatenate([found, power[:, None]], axis=-1).reshape(len(X), -1)


def histogram_mode(scaled_BN: Rows, n_bins: int) -> Rows:
    """Return the middle of the fullest of `n_bins` equal bins; the mean of several (DN_HistogramMode).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    n_bins : int
    """
    low, high = scaled_BN.min(axis=-1), scaled_BN.max(axis=-1)
    width = np.maximum(high - low, 1e-30) / n_bins
    bins = _equal_bins(scaled_BN, n_bins)
    counts = np.stack([(bins == k).sum(axis=-1) for k in range(n_bins)], axis=-1)
    fullest = counts == counts.max(axis=-1, keepdims=True)
    middles = low[:, None] + width[:, None] * (np.arange(n_bins) + 0.5)
    return np.asarray((middles * fullest).sum(axis=-1) / fullest.sum(axis=-1))


def autocorrelation(scaled_BN: Rows) -> Rows:
    """Return the autocorrelation at lags from 0, divided by the number of samples at every lag.

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.

    References
    ----------
    Box and Jenkins, Time Series Analysis, equation 2.1.11; by the Wiener-Khinchin theorem.
    """
    n_samples = scaled_BN.shape[-1]
    spectrum = np.fft.rfft(scaled_BN, 2 * n_samples, axis=-1)
    found = np.fft.irfft(np.square(np.abs(spectrum)), axis=-1)[:, :n_samples]
    return np.asarray(found / np.maximum(found[:, :1], 1e-30))


def first_below(values: Rows, level: float) -> Rows:
    """Return the position at which rows first fall below a level, by linear interpolation; the length if they do not.

    Parameters
    ----------
    values : float64, shape (rows, lags)
        No unit.
    level : float
    """
    below = values < level
    after = below.argmax(axis=-1)
    rows = np.arange(len(values))
    before = np.maximum(after - 1, 0)
    drop = values[rows, before] - values[rows, after]
    part = (values[rows, before] - level) / np.where(drop > 0, drop, 1.0)
    return np.where(below.any(axis=-1), before + part, float(values.shape[-1]))


def first_minimum(values: Rows) -> Rows:
    """Return the position of the first value that is lower than both neighbours; the length if there is none.

    Parameters
    ----------
    values : float64, shape (rows, lags)
        No unit.
    """
    lower = (values[:, 1:-1] < values[:, :-2]) & (values[:, 1:-1] < values[:, 2:])
    return np.where(lower.any(axis=-1), lower.argmax(axis=-1) + 1.0, float(values.shape[-1]))


def decay_time(scaled_BN: Rows) -> Rows:
    """Return the lag at which the autocorrelation falls below 1/e, samples (CO_f1ecac).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    return first_below(autocorrelation(scaled_BN), 1.0 / np.e)


def first_autocorrelation_minimum(scaled_BN: Rows) -> Rows:
    """Return the lag of the first minimum of the autocorrelation, samples (CO_FirstMin_ac).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    return first_minimum(autocorrelation(scaled_BN))


def time_asymmetry(scaled_BN: Rows) -> Rows:
    """Return the mean cubed change between samples, which is 0 for signals that look alike reversed (CO_trev_1_num).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    return np.asarray((np.diff(scaled_BN, axis=-1) ** 3).mean(axis=-1))


def large_changes(scaled_BN: Rows) -> Rows:
    """Return the share of changes between samples above 0.04 standard deviations (MD_hrv_classic_pnn40).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    return np.asarray((np.abs(np.diff(scaled_BN, axis=-1)) > SMALL_CHANGE).mean(axis=-1))


def longest_run(marked: NDArray[np.bool_]) -> Rows:
    """Return the length of the longest run of true values in each row.

    Parameters
    ----------
    marked : bool, shape (rows, samples)
        No unit.
    """
    positions = np.arange(1, marked.shape[-1] + 1)
    last_false = np.maximum.accumulate(np.where(marked, 0, positions), axis=-1)
    return np.asarray(np.where(marked, positions - last_false, 0).max(axis=-1), np.float64)


def longest_above(scaled_BN: Rows) -> Rows:
    """Return the longest stretch above the mean, samples (SB_BinaryStats_mean_longstretch1).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    return longest_run(scaled_BN > 0)


def longest_decrease(scaled_BN: Rows) -> Rows:
    """Return the longest stretch of decreases, samples (SB_BinaryStats_diff_longstretch0).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    return longest_run(np.diff(scaled_BN, axis=-1) < 0)


def low_frequency_share(scaled_BN: Rows) -> Rows:
    """Return the share of power in the lowest fifth of the frequencies (SP_Summaries_welch_rect_area_5_1).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    power = _power(scaled_BN)
    n_low = -(-power.shape[-1] // 5)
    return np.asarray(power[:, :n_low].sum(axis=-1) / np.maximum(power.sum(axis=-1), 1e-30))


def middle_frequency(scaled_BN: Rows) -> Rows:
    """Return the frequency below which half of the power lies, radians per sample (SP_Summaries_welch_rect_centroid).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    power = np.cumsum(_power(scaled_BN), axis=-1)
    half = (power >= power[:, -1:] / 2).argmax(axis=-1)
    return np.asarray(2 * np.pi * half / scaled_BN.shape[-1])


def forecast_error(scaled_BN: Rows) -> Rows:
    """Return the standard deviation of the error of the mean of three samples as a forecast (FC_LocalSimple_mean3).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    forecast = (scaled_BN[:, :-3] + scaled_BN[:, 1:-2] + scaled_BN[:, 2:-1]) / 3
    return np.asarray((scaled_BN[:, 3:] - forecast).std(axis=-1))


def change_decay_ratio(scaled_BN: Rows) -> Rows:
    """Return the first zero of the autocorrelation of changes, relative to that of the signal (FC_LocalSimple_mean1).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    changes = np.diff(scaled_BN, axis=-1)
    changes = changes - changes.mean(axis=-1, keepdims=True)
    of_changes = first_below(autocorrelation(changes), 0.0)
    return np.asarray(of_changes / first_below(autocorrelation(scaled_BN), 0.0))


def gaussian_information_minimum(scaled_BN: Rows) -> Rows:
    """Return the lag of the first minimum of the automutual information, samples (IN_AutoMutualInfoStats_40_gaussian).

    The information between samples at a lag is that of Gaussian variables, -log(1 - r²)/2.

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.

    References
    ----------
    Cover and Thomas, Elements of Information Theory, example 8.5.1.
    """
    n_lags = min(MOST_LAGS, scaled_BN.shape[-1] // 2)
    correlation = np.stack(
        [_correlation(scaled_BN[:, :-lag], scaled_BN[:, lag:]) for lag in range(1, n_lags + 1)], axis=-1
    )
    information = -0.5 * np.log(np.maximum(1.0 - correlation**2, 1e-12))
    return first_minimum(information) + 1.0


def histogram_information(scaled_BN: Rows) -> Rows:
    """Return the mutual information of samples two apart, in five equal bins, nats (CO_HistogramAMI_even_2_5).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    bins = _equal_bins(scaled_BN, 5)
    joint = _pairs(bins[:, :-2], bins[:, 2:], 5)
    entropy = _entropy(joint.sum(axis=-1)) + _entropy(joint.sum(axis=-2))
    return np.asarray(entropy - _entropy(joint.reshape(len(joint), -1)))


def motif_entropy(scaled_BN: Rows) -> Rows:
    """Return the entropy of words of two letters, each one of three quantiles, nats (SB_MotifThree_quantile_hh).

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.
    """
    ranks = scaled_BN.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
    letters = ranks * WORDS // scaled_BN.shape[-1]
    joint = _pairs(letters[:, :-1], letters[:, 1:], WORDS)
    return _entropy(joint.reshape(len(joint), -1))


def fluctuation_exponent(scaled_BN: Rows) -> Rows:
    """Return the exponent of detrended fluctuations over time (SC_FluctAnal_2_dfa): 0.5 for white noise.

    Parameters
    ----------
    scaled_BN : float64, shape (channels of windows, samples)
        Mean 0 and standard deviation 1.

    References
    ----------
    Peng et al., Physical Review E 49:1685-1689, 1994, equations 1 to 3.
    """
    profile = np.cumsum(scaled_BN, axis=-1)
    sizes = np.unique(np.geomspace(5, max(profile.shape[-1] // 4, 6), 8).astype(int))
    fluctuation = []
    for size in sizes:
        cut = profile[:, : profile.shape[-1] // size * size].reshape(len(profile), -1, size)
        time = np.arange(size) - (size - 1) / 2
        slope = (cut * time).sum(axis=-1, keepdims=True) / (time**2).sum()
        rest = cut - cut.mean(axis=-1, keepdims=True) - slope * time
        fluctuation.append(np.sqrt((rest**2).mean(axis=(-2, -1))))
    logs = np.log(np.maximum(np.stack(fluctuation, axis=-1), 1e-30))
    scale = np.log(sizes) - np.log(sizes).mean()
    return np.asarray((logs * scale).sum(axis=-1) / (scale**2).sum())


FEATURES: dict[str, Callable[[Rows], Rows]] = {
    "mode_5": lambda scaled_BN: histogram_mode(scaled_BN, 5),
    "mode_10": lambda scaled_BN: histogram_mode(scaled_BN, 10),
    "decay_time": decay_time,
    "first_autocorrelation_minimum": first_autocorrelation_minimum,
    "time_asymmetry": time_asymmetry,
    "large_changes": large_changes,
    "longest_above": longest_above,
    "longest_decrease": longest_decrease,
    "low_frequency_share": low_frequency_share,
    "middle_frequency": middle_frequency,
    "forecast_error": forecast_error,
    "change_decay_ratio": change_decay_ratio,
    "gaussian_information_minimum": gaussian_information_minimum,
    "histogram_information": histogram_information,
    "motif_entropy": motif_entropy,
    "fluctuation_exponent": fluctuation_exponent,
}
"""Features by name, in their order."""


def _equal_bins(scaled_BN: Rows, n_bins: int) -> NDArray[np.int64]:
    low = scaled_BN.min(axis=-1, keepdims=True)
    width = np.maximum(scaled_BN.max(axis=-1, keepdims=True) - low, 1e-30) / n_bins
    return np.asarray(np.clip(((scaled_BN - low) / width).astype(np.int64), 0, n_bins - 1))


def _power(scaled_BN: Rows) -> Rows:
    return np.asarray(np.square(np.abs(np.fft.rfft(scaled_BN, axis=-1))), np.float64)


def _correlation(one: Rows, other: Rows) -> Rows:
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (one, other))
    size = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.asarray((a * b).sum(axis=-1) / np.maximum(size, 1e-30))


def _pairs(one: NDArray[np.int64], other: NDArray[np.int64], n_letters: int) -> Rows:
    """Return the share of every pair of letters, shape (rows, letters, letters)."""
    words = one * n_letters + other
    counts = np.stack([(words == k).mean(axis=-1) for k in range(n_letters**2)], axis=-1)
    return np.asarray(counts.reshape(len(one), n_letters, n_letters))


def _entropy(shares: Rows) -> Rows:
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=-1))
