"""Classification heads on embeddings.

Shape letters: B batch, T tokens, D features.
"""

from typing import Literal, Self

import torch
from torch import Tensor, nn

from emeg.models.encoder_module import EncoderModule
from emeg.models.readout.pooling import n_pooled, pool
from emeg.tokenizers.braintokenizer.draws import dropout
from emeg.tokenizers.braintokenizer.initialise import initialise_linear

HeadPooling = Literal["mean", "mean_std", "log_std", "power", "mean_power", "attention"]
"""Poolings of a trained head: those of `emeg.models.readout.pooling`, and attention with learned queries."""
N_QUERIES = 4
"""Learned queries of attention pooling."""


class TaskHead(nn.Module):
    """Pool over steps, standardise, dropout, linear, SELU, linear to the classes.

    Embeddings have norm 1 and are almost the same in every window: with the nano networks and ten subjects the
    standard deviation over windows was a twentieth of the mean. Without `standardise`, differences between classes are
    too small for the first layer.

    Parameters
    ----------
    n_sources, n_dim : int
        Sources and features of the embedding.
    n_classes : int
    dropout : float
        Share of the pooled features set to 0 in training.
    pooling : str
        See `emeg.models.readout.pooling`; ``attention`` pools tokens by learned queries.
    n_layers : int
        Layers of the embedding that are averaged with learned weights; 1 for an embedding of one layer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        n_sources: int,
        n_dim: int,
        n_classes: int,
        *,
        dropout: float = 0.1,
        pooling: HeadPooling = "mean",
        n_layers: int = 1,
    ) -> None:
        super().__init__()
        self.dropout_p = dropout
        self.pooling: HeadPooling = pooling
        width = N_QUERIES * n_dim if pooling == "attention" else n_pooled(pooling, n_sources, n_dim)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.hidden = nn.Linear(width, n_dim)
        self.classes = nn.Linear(n_dim, n_classes)
        if pooling == "attention":
            self.score = nn.Linear(n_dim, N_QUERIES)
        if n_layers > 1:
            self.mix = nn.Parameter(torch.zeros(n_layers))
        self._is_mixed = n_layers > 1
        initialise_linear(self, "emeg")

    @classmethod
    def of(
        cls,
        backbone: EncoderModule,
        n_classes: int,
        *,
        dropout: float = 0.1,
        pooling: HeadPooling = "mean",
        n_layers: int = 1,
    ) -> Self:
        """Create a head that fits a backbone."""
        sizes = (backbone.n_sources, backbone.n_features)
        return cls(*sizes, n_classes, dropout=dropout, pooling=pooling, n_layers=n_layers)

    @torch.no_grad()
    def standardise(self, pooled_BD: Tensor) -> None:
        """Set mean and standard deviation to those of the training windows.

        Parameters
        ----------
        pooled_BD : float32, shape (windows, pooled features)
            Output of `pool`, dimensionless features.
        """
        self.mean.copy_(pooled_BD.mean(dim=0))
        spread_D = pooled_BD.std(dim=0, correction=0)
        self.scale.copy_(torch.where(spread_D > 0, spread_D, torch.ones_like(spread_D)))

    def pool(self, embedding: Tensor) -> Tensor:
        """Average over layers, if there are several, and pool over steps.

        Parameters
        ----------
        embedding : float, shape (batch, sources, steps, features) or (layers, batch, sources, steps, features)
            Embedding, dimensionless.

        Returns
        -------
        float, shape (batch, pooled features)
        """
        if self._is_mixed:
            embedding = torch.einsum("l,lbstd->bstd", self.mix.softmax(dim=0), embedding.float())
        if self.pooling != "attention":
            return pool(embedding, self.pooling)
        tokens_BTD = embedding.float().flatten(1, 2)
        weights = self.score(tokens_BTD * tokens_BTD.shape[-1] ** 0.5).softmax(dim=1)
        return torch.einsum("btq,btd->bqd", weights, tokens_BTD).flatten(1)

    def forward(self, embedding: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Compute the logits of the classes.

        Parameters
        ----------
        embedding : float, shape (batch, sources, steps, features) or (layers, batch, sources, steps, features)
            Embedding, dimensionless.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, classes)
        """
        pooled = (self.pool(embedding) - self.mean) / self.scale
        pooled = dropout(pooled, self.dropout_p, training=self.training, generator=generator)
        logits: Tensor = self.classes(nn.functional.selu(self.hidden(pooled)))
        return logits
