"""What is put on embeddings to answer a task."""

from typing import Self

import torch
from torch import Tensor, nn

from emeg.models.brainomni import BrainOmni
from emeg.tokenizers.braintokenizer.draws import dropout
from emeg.tokenizers.braintokenizer.initialise import initialise_linear


class TaskHead(nn.Module):
    """Mean over steps, flatten, standardise, dropout, linear to d, SELU, linear to the classes.

    Embeddings have norm 1 and most of it is the same in every window (with the nano networks and ten people the spread
    over windows was a twentieth of the mean): without `standardise` the classes hardly reach the first layer.

    Parameters
    ----------
    n_sources, n_dim : int
        Q and d of the embedding.
    n_classes : int
    dropout : float
        Share dropped while training.
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
        """Make a head that fits a backbone."""
        return cls(backbone.tokenizer.config.n_neuro, backbone.config.lm_dim, n_classes, dropout=dropout)

    @torch.no_grad()
    def standardise(self, pooled_NF: Tensor) -> None:
        """Take mean and standard deviation of pooled embeddings (windows, Q·d), those of the training windows."""
        self.mean.copy_(pooled_NF.mean(dim=0))
        spread_F = pooled_NF.std(dim=0, correction=0)
        self.scale.copy_(torch.where(spread_F > 0, spread_F, torch.ones_like(spread_F)))

    @staticmethod
    def pool(embedding_BQWd: Tensor) -> Tensor:
        """Mean over steps, flattened: (batch, Q·d)."""
        return embedding_BQWd.mean(dim=2).flatten(1)

    def forward(self, embedding_BQWd: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Give logits (batch, class) for embeddings (batch, Q, W, d)."""
        pooled = (self.pool(embedding_BQWd) - self.mean) / self.scale
        pooled = dropout(pooled, self.dropout_p, training=self.training, generator=generator)
        logits: Tensor = self.classes(nn.functional.selu(self.hidden(pooled)))
        return logits
