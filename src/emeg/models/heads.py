"""Classification heads on embeddings.

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

from typing import Self

import torch
from torch import Tensor, nn

from emeg.models.brainomni import BrainOmni
from emeg.tokenizers.braintokenizer.draws import dropout
from emeg.tokenizers.braintokenizer.initialise import initialise_linear


class TaskHead(nn.Module):
    """Mean over steps, flatten, standardise, dropout, linear, SELU, linear to the classes.

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
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_sources: int, n_dim: int, n_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout_p = dropout
        self.register_buffer("mean", torch.zeros(n_sources * n_dim))
        self.register_buffer("scale", torch.ones(n_sources * n_dim))
        self.hidden = nn.Linear(n_sources * n_dim, n_dim)
        self.classes = nn.Linear(n_dim, n_classes)
        initialise_linear(self, "emeg")

    @classmethod
    def of(cls, backbone: BrainOmni, n_classes: int, *, dropout: float = 0.1) -> Self:
        """Create a head that fits a backbone."""
        return cls(backbone.tokenizer.config.n_neuro, backbone.config.lm_dim, n_classes, dropout=dropout)

    @torch.no_grad()
    def standardise(self, pooled_BD: Tensor) -> None:
        """Set mean and standard deviation to those of the training windows.

        Parameters
        ----------
        pooled_BD : float32, shape (windows, sources · features)
            Output of `pool`, dimensionless features.
        """
        self.mean.copy_(pooled_BD.mean(dim=0))
        spread_D = pooled_BD.std(dim=0, correction=0)
        self.scale.copy_(torch.where(spread_D > 0, spread_D, torch.ones_like(spread_D)))

    @staticmethod
    def pool(embedding_BSTD: Tensor) -> Tensor:
        """Average over steps and flatten.

        Parameters
        ----------
        embedding_BSTD : float, shape (batch, sources, steps, features)
            Embedding, dimensionless.

        Returns
        -------
        float, shape (batch, sources · features)
        """
        return embedding_BSTD.mean(dim=2).flatten(1)

    def forward(self, embedding_BSTD: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Compute the logits of the classes.

        Parameters
        ----------
        embedding_BSTD : float, shape (batch, sources, steps, features)
            Embedding, dimensionless.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, classes)
        """
        pooled = (self.pool(embedding_BSTD) - self.mean) / self.scale
        pooled = dropout(pooled, self.dropout_p, training=self.training, generator=generator)
        logits: Tensor = self.classes(nn.functional.selu(self.hidden(pooled)))
        return logits
