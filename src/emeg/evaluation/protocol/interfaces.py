"""Inputs and interface of a model that is compared on a task.

Shape letters: B batch, C channels, N samples, D features.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from emeg.sensors import SensorType

Kind = Literal["classification", "regression", "retrieval", "encoding", "diagnosis"]
"""Kind of a task."""

Family = Literal["reference", "handcrafted", "supervised", "published", "network"]
"""Group of models: reference (chance, guesses), handcrafted (features with a linear read-out), supervised (networks
trained from scratch), published (weights of others), network (the evaluated network, and its random weights)."""

Input = Literal["signal", "features", "windows", "none", "low_level", "previous_stimulus", "time"]
"""What a model reads of a window. signal; features: of a frozen network, or of the stimulus for encoding; windows: its
index among the windows of the task; none: nothing. For encoding also low_level: low-level features of the stimulus;
previous_stimulus: features of the stimulus before; time: its time in the recording."""

Setting = Mapping[str, float | int | str]
"""One choice of the parameters of a model, by name; written as JSON into the results."""


class Channel(NamedTuple):
    """A channel that all recordings of a task share."""

    name: str
    """Standard name where there is one."""
    type: SensorType
    """EEG, magnetometer or gradiometer."""
    position: tuple[float, float, float]
    """Position in head coordinates, m; of the first recording."""


class Windows(NamedTuple):
    """Windows of a task, as every model compared receives them.

    All arrays have one entry for each of the B windows.
    """

    signal_BCN: NDArray[np.float32] | None  # noqa: N815
    """V, T or T/m by sensor type; the channels that all recordings share. None for models that do not use it."""
    features_BD: NDArray[np.float32] | None  # noqa: N815
    """Features of a frozen network, or of a table; None for models that do not use them."""
    labels: NDArray[Any]
    """int64 class index, float64 target (regression), or int64 stimulus index (retrieval, encoding)."""
    subjects: NDArray[np.str_]
    """Global names ``dataset/subject``."""
    sessions: NDArray[np.str_]
    """Session labels; empty text where a dataset has none."""
    datasets: NDArray[np.str_]
    """Names of the datasets."""
    devices: NDArray[np.str_]
    """Amplifier or helmet."""
    recordings: NDArray[np.str_]
    """Recording ids."""
    starts: NDArray[np.int64]
    """First sample of the window in its recording."""
    channels: tuple[Channel, ...]
    """The C channels of ``signal_BCN``."""
    sfreq: float
    """Sampling rate, Hz."""


class Estimator(Protocol):
    """Estimator of a model, with the methods of scikit-learn; X is ``signal_BCN`` or ``features_BD``."""

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Any:  # noqa: ANN401 - scikit-learn's signature
        """Fit to the training windows.

        Parameters
        ----------
        X : float32, shape (windows, channels, samples) or (windows, features)
            Signal in V, T or T/m, or features without a unit.
        y : shape (windows,), dtype int64 or float64
            Labels: class indices, or targets in the unit of the task.
        """

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predict classes or targets.

        Parameters
        ----------
        X : float32, shape (windows, channels, samples) or (windows, features)
            Signal in V, T or T/m, or features without a unit.
        """


class Rival(Protocol):
    """A model in the comparison. Estimators of classification and diagnosis have ``predict_proba`` as well."""

    @property
    def name(self) -> str:
        """Name in results, such as ``band_power``."""

    @property
    def title(self) -> str:
        """Name shown to readers."""

    @property
    def family(self) -> Family:
        """Group of models that it belongs to."""

    @property
    def package(self) -> str:
        """Package it needs that emeg does not install; empty if none."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds of tasks that it can do."""

    @property
    def input(self) -> Input:
        """What X is; windows: int64 indices of windows of the task."""

    def settings(self, budget: int) -> Sequence[Setting]:
        """Return the settings to choose from on validation, at most `budget`, the most plausible first."""

    def estimator(
        self, setting: Setting, *, kind: Kind, n_classes: int, channels: Sequence[Channel], sfreq: float, seed: int
    ) -> Estimator:
        """Create an estimator that is not fitted yet.

        Parameters
        ----------
        setting : mapping
            One of `settings`.
        kind : str
            Kind of the task.
        n_classes : int
            Number of classes; 0 for regression.
        channels : sequence of Channel
        sfreq : float
            Sampling rate, Hz.
        seed : int
            Seed of every draw.
        """
