"""Losses of networks that are trained on a target or on the features of a stimulus, instead of on classes.

Shape letters: B batch, D features.
"""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.1
"""Temperature of the similarities of `StimulusTargets`, on cosines."""


class Targets(Protocol):
    """What a network without classes is trained on."""

    @property
    def n_outputs(self) -> int:
        """Outputs of the head."""

    def loss(self, outputs_BD: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Return the loss of a batch, a scalar.

        Parameters
        ----------
        outputs_BD : float32, shape (batch, outputs)
            Outputs of the head, dimensionless.
        indices : int64, shape (batch,)
            Indices of the windows.
        """

    def predictions(self, outputs_BD: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return outputs in the unit of the targets, float64 of shape (windows, outputs).

        Parameters
        ----------
        outputs_BD : float64, shape (windows, outputs)
            Outputs of the head, dimensionless.
        """


class NumericTargets:
    """Numbers, such as an age: the loss is the squared error after scaling by the training windows.

    Parameters
    ----------
    n_windows : int
        Windows of the task.
    rows : int64, shape (training windows,)
        Indices of the training windows.
    values : float64, shape (training windows,)
        Target of each training window in any unit.
    """

    n_outputs = 1

    def __init__(self, n_windows: int, rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        self._mean = float(values.mean())
        self._sd = float(values.std()) or 1.0
        self._scaled = torch.zeros(n_windows)
        self._scaled[torch.from_numpy(rows)] = torch.from_numpy((values - self._mean) / self._sd).float()

    def loss(self, outputs_BD: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Return the mean squared error, in variances of the target over the training windows.

        Parameters
        ----------
        outputs_BD : float32, shape (batch, 1)
            Outputs of the head, dimensionless.
        indices : int64, shape (batch,)
            Indices of the windows.
        """
        wanted = self._scaled[torch.from_numpy(indices)].to(outputs_BD.device)
        return F.mse_loss(outputs_BD[:, 0], wanted)

    def predictions(self, outputs_BD: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return predictions in the unit of the target, float64 of shape (windows, 1).

        Parameters
        ----------
        outputs_BD : float64, shape (windows, 1)
            Outputs of the head, dimensionless.
        """
        return np.asarray(outputs_BD * self._sd + self._mean)


class StimulusTargets:
    """Features of stimuli: a contrastive loss among the training stimuli plus the squared distance.

    Parameters
    ----------
    n_windows : int
        Windows of the task.
    rows : int64, shape (training windows,)
        Indices of the training windows.
    features_BD : float64, shape (training windows, stimulus features)
        Features of the stimulus of each training window, dimensionless; equal rows are one stimulus.

    References
    ----------
    Radford et al. 2021, arXiv 2103.00020; Benchetrit et al. 2023, arXiv 2310.19812, equation 3.
    """

    def __init__(self, n_windows: int, rows: NDArray[np.int64], features_BD: NDArray[np.float64]) -> None:
        self._mean = features_BD.mean(axis=0)
        stimuli, owner = np.unique(features_BD, axis=0, return_inverse=True)
        self._table = torch.from_numpy(stimuli - self._mean).float()
        self._owner = torch.zeros(n_windows, dtype=torch.int64)
        self._owner[torch.from_numpy(rows)] = torch.from_numpy(np.asarray(owner, np.int64).reshape(-1))

    @property
    def n_outputs(self) -> int:
        """Outputs of the head: one for each feature."""
        return int(self._table.shape[1])

    def loss(self, outputs_BD: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Return the sum of both losses.

        Parameters
        ----------
        outputs_BD : float32, shape (batch, stimulus features)
            Outputs of the head, dimensionless.
        indices : int64, shape (batch,)
            Indices of the windows.
        """
        table, own = self._table.to(outputs_BD.device), self._owner[torch.from_numpy(indices)].to(outputs_BD.device)
        similarity = F.normalize(outputs_BD, dim=1) @ F.normalize(table, dim=1).T / TEMPERATURE
        to_window = -torch.log_softmax(similarity, dim=0)[torch.arange(len(own), device=own.device), own].mean()
        contrastive = (F.cross_entropy(similarity, own) + to_window) / 2
        return contrastive + F.mse_loss(outputs_BD, table[own])

    def predictions(self, outputs_BD: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the features of the stimulus, float64 of shape (windows, stimulus features).

        Parameters
        ----------
        outputs_BD : float64, shape (windows, stimulus features)
            Outputs of the head, dimensionless.
        """
        return np.asarray(outputs_BD + self._mean)


def make_targets(n_windows: int, rows: NDArray[np.int64], wanted: NDArray[Any]) -> Targets:
    """Return the targets of training windows: numbers, or features of stimuli.

    Parameters
    ----------
    n_windows : int
        Windows of the task.
    rows : int64, shape (training windows,)
        Indices of the training windows.
    wanted : float64, shape (training windows,) or (training windows, stimulus features)
        Targets in any unit.
    """
    values = np.asarray(wanted, np.float64)
    return (NumericTargets if values.ndim == 1 else StimulusTargets)(n_windows, rows, values)
