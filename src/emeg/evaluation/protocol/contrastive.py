"""Linear map from features of a window to the embedding of its stimulus, for retrieval.

Shape letters: B batch, D features.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

N_STEPS = 200
"""Steps of the optimiser, over all training windows each; the loss of small tables is flat by then."""
LEARNING_RATE = 0.02
TEMPERATURE = 0.1
"""Temperature of the similarities, on cosines."""


class ContrastiveReadOut(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Linear map fitted with a contrastive and a regression loss.

    The contrastive loss asks that the mapped window is more similar to the embedding of its own stimulus than to those
    of the other training stimuli, and each stimulus to its own windows; the regression loss is the squared distance.

    Parameters
    ----------
    regression : float
        Weight of the regression loss.
    weight_decay : float
        Weight decay of the map.
    seed : int
        Seed of the initial map.

    References
    ----------
    Radford et al. 2021, arXiv 2103.00020; Benchetrit et al. 2023, arXiv 2310.19812, equation 3.
    """

    def __init__(self, regression: float = 1.0, weight_decay: float = 1e-2, *, seed: int = 0) -> None:
        self.regression = regression
        self.weight_decay = weight_decay
        self.seed = seed

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Self:
        """Fit the map.

        Parameters
        ----------
        X : float, shape (windows, features)
            Features of the windows in any unit.
        y : float64, shape (windows, stimulus features)
            Embedding of each window's stimulus, dimensionless; equal rows are one stimulus.
        """
        import torch
        from torch.nn import functional as F

        self.mean_, sd = X.mean(axis=0), X.std(axis=0)
        self.scale_ = 1.0 / np.where(sd > 0, sd, 1.0) / np.sqrt(X.shape[1])
        self.target_mean_ = y.mean(axis=0)
        stimuli, owner = np.unique(y, axis=0, return_inverse=True)
        x_BD = torch.from_numpy(self._scaled(X))
        own = torch.from_numpy(np.asarray(owner).reshape(-1))
        table = torch.from_numpy(stimuli - self.target_mean_).double()
        wanted = table[own]
        generator = torch.Generator().manual_seed(self.seed)
        weight = torch.randn(X.shape[1], y.shape[1], generator=generator, dtype=torch.float64) * 1e-2
        weight.requires_grad_()
        optimizer = torch.optim.AdamW([weight], lr=LEARNING_RATE, weight_decay=self.weight_decay)
        for _ in range(N_STEPS):
            mapped = x_BD @ weight
            similarity = F.normalize(mapped, dim=1) @ F.normalize(table, dim=1).T / TEMPERATURE
            to_stimulus = F.cross_entropy(similarity, own)
            to_window = -torch.log_softmax(similarity, dim=0)[torch.arange(len(own)), own].mean()
            loss = (to_stimulus + to_window) / 2 + self.regression * F.mse_loss(mapped, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self.coef_ = weight.detach().numpy()
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the embedding of each window's stimulus, float64 of shape (windows, stimulus features).

        Parameters
        ----------
        X : float, shape (windows, features)
            Features of the windows in the unit of those fitted.
        """
        return np.asarray(self._scaled(X) @ self.coef_ + self.target_mean_)

    def _scaled(self, x_BD: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((x_BD - self.mean_) * self.scale_, np.float64)
