"""A scikit-learn estimator that trains a network on windows.

Shape letters: B batch, C channels, N samples, D features.
"""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.errors import UserError
from emeg.evaluation.rivals.networks import NETWORK_RATE, EEGNet, cosine_rate

GRADIENT_CLIP = 1.0
"""Largest norm of a gradient."""
BATCH = 16
"""Windows of a step."""
AT_ONCE = 256
"""Windows predicted at once."""
Builder = Callable[[int, int, int, float], nn.Module]
"""Function of (channels, samples, outputs, rate in Hz) that creates a network."""


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]
    """Network trained on windows from the weights that its builder returns.

    Windows are reduced to `rate`, and scaled by the standard deviation of the training windows, one value for each
    sensor type. The number of steps is fixed, so that small and large tasks cost the same; early stopping would need
    validation windows.

    Parameters
    ----------
    build : callable
        See `Builder`.
    sfreq : float
        Sampling rate of the windows, Hz.
    sensor_types : tuple of int
        `emeg.sensors.SensorType` of each channel.
    n_classes : int
        Number of classes; 0 for a regression.
    rate : float
        Sampling rate that the network reads, Hz.
    scale : float, optional
        Unit of the network's input for EEG, V (1e-6 for µV); None to standardise instead.
    learning_rate, weight_decay : float
        Of AdamW.
    steps : int
        Optimiser steps.
    seed : int
        Seed of weights, order and dropout.
    """

    def __init__(
        self,
        build: Builder,
        *,
        sfreq: float,
        sensor_types: tuple[int, ...],
        n_classes: int,
        rate: float = NETWORK_RATE,
        scale: float | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        steps: int = 300,
        seed: int = 0,
    ) -> None:
        self.build = build
        self.sfreq = sfreq
        self.sensor_types = sensor_types
        self.n_classes = n_classes
        self.rate = rate
        self.scale = scale
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.steps = steps
        self.seed = seed

    def fit(self, X: NDArray[np.floating[Any]], y: NDArray[Any]) -> Self:
        """Train the network.

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        y : int64 or float64, shape (windows,)
            Class indices, or targets in any unit.

        Raises
        ------
        UserError
            There are fewer than two windows.
        """
        if len(X) < 2:
            raise UserError(f"network: {len(X)} training windows are too few; use fewer folds, so that there are two")
        self.scales_ = self._scales(X)
        x_BCN = self._input(X)
        target, loss = self._target_and_loss(y)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            n_outputs = max(self.n_classes, 1)
            self.network_ = self.build(x_BCN.shape[1], x_BCN.shape[2], n_outputs, self.rate)
            self._train(x_BCN, target, loss)
        if self.n_classes:
            self.classes_ = np.arange(self.n_classes)
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Return the most probable class index, int64, or the target, float64, of each window.

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        if self.n_classes:
            return np.asarray(self.predict_proba(X).argmax(axis=1), np.int64)
        return np.asarray(self._outputs(X)[:, 0] * self.target_sd_ + self.target_mean_, np.float64)

    def predict_proba(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities, float64 of shape (windows, classes).

        Parameters
        ----------
        X : float, shape (windows, channels, samples)
            V, T or T/m.
        """
        probabilities = torch.from_numpy(self._outputs(X)).softmax(dim=1).numpy()
        return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))

    def _train(self, x_BCN: Tensor, target: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        parameters = [p for p in self.network_.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine_rate(step, self.steps))
        per_epoch = max(len(x_BCN) // BATCH, 1)
        self.network_.train()
        for _ in range(-(-self.steps // per_epoch)):
            # batches of nearly equal size: a batch of one window has no variance to normalise with
            for rows in torch.randperm(len(x_BCN)).tensor_split(per_epoch):
                optimiser.zero_grad()
                loss(self.network_(x_BCN[rows]), target[rows]).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
                optimiser.step()
                schedule.step()
                if isinstance(self.network_, EEGNet):
                    self.network_.constrain()
        self.network_.eval()

    def _target_and_loss(self, y: NDArray[Any]) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        if not self.n_classes:
            values = np.asarray(y, np.float64)
            self.target_mean_, self.target_sd_ = float(values.mean()), float(values.std()) or 1.0
            scaled = torch.from_numpy((values - self.target_mean_) / self.target_sd_).float()[:, None]
            return scaled, F.mse_loss
        labels = np.asarray(y, np.int64)
        count = np.bincount(labels, minlength=self.n_classes)
        weight = np.where(count > 0, len(labels) / np.maximum(count * np.count_nonzero(count), 1), 0.0)
        weights = torch.from_numpy(weight).float()

        def cross_entropy(outputs: Tensor, wanted: Tensor) -> Tensor:
            return F.cross_entropy(outputs, wanted, weight=weights)

        return torch.from_numpy(labels), cross_entropy

    def _scales(self, signal_BCN: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the unit of each channel, shape (channels, 1)."""
        types = np.array(self.sensor_types)
        scales = np.ones(len(types))
        for kind in np.unique(types):
            own = np.asarray(signal_BCN[:, types == kind], np.float64)
            spread = float(np.sqrt(np.mean(own.var(axis=-1))))
            scales[types == kind] = self.scale if self.scale is not None and kind == 0 else spread or 1.0
        return scales[:, None]

    def _input(self, signal_BCN: NDArray[np.floating[Any]]) -> Tensor:
        scaled_BCN = np.asarray(signal_BCN, np.float64) / self.scales_
        if self.rate != self.sfreq:
            scaled_BCN = resample_poly(scaled_BCN, round(self.rate), round(self.sfreq), axis=-1, padtype="mean")
        return torch.from_numpy(np.ascontiguousarray(scaled_BCN, dtype=np.float32))

    def _outputs(self, signal_BCN: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        self.network_.eval()
        with torch.inference_mode():
            parts = [self.network_(rows) for rows in torch.split(self._input(signal_BCN), AT_ONCE)]
        return np.asarray(torch.cat(parts).double().numpy())
