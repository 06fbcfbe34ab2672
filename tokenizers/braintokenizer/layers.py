"""Small layers that both networks use.

Shape letters: B batch, C channels, D features.
"""

import torch
from torch import Tensor, nn

from emeg.tokenizers.braintokenizer.draws import dropout

NORM_EPS = 1e-6


class FeedForward(nn.Module):
    """Linear to four times the width, SELU, linear back, dropout."""

    def __init__(self, n_dim: int, dropout_p: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(n_dim, 4 * n_dim), nn.SELU(), nn.Linear(4 * n_dim, n_dim))
        self.dropout_p = dropout_p

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Apply the two layers to every feature vector.

        Parameters
        ----------
        x : float, shape (..., n_dim)
            Dimensionless features.
        generator : torch.Generator, optional
            Source of the dropout draws; PyTorch's default generator if omitted.

        Returns
        -------
        float, shape (..., n_dim)
        """
        return dropout(self.layer(x), self.dropout_p, training=self.training, generator=generator)


class SensorEmbedding(nn.Module):
    """Embed each sensor by its position, orientation and type."""

    def __init__(self, n_dim: int, dropout_p: float) -> None:
        super().__init__()
        self.sensor_embedding_layer = nn.Embedding(3, n_dim)
        self.pos_embedding_layer = nn.Sequential(nn.Linear(6, n_dim // 2), nn.SELU(), nn.Linear(n_dim // 2, n_dim))
        self.aggregate_mlp = FeedForward(n_dim, dropout_p)
        self.norm = nn.RMSNorm(n_dim, eps=NORM_EPS)

    def forward(self, pos: Tensor, sensor_type_BC: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Embed sensors.

        Parameters
        ----------
        pos : float, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        sensor_type_BC : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, channels, n_dim)
        """
        x_BCD = self.pos_embedding_layer(pos) + self.sensor_embedding_layer(sensor_type_BC)
        out: Tensor = self.norm(x_BCD + self.aggregate_mlp(x_BCD, generator))
        return out
