"""What is put on embeddings to answer a task."""

from typing import Self

import torch
from torch import Tensor, nn

from emeg.models.brainomni import BrainOmni
from emeg.tokenizers.braintokenizer.draws import dropout
from emeg.tokenizers.braintokenizer.initialise import initialise_linear


class TaskHead(nn.Module):
    """Mean over steps, flatten, dropout, linear to d, SELU, linear to the classes.

    Parameters
    ----------
    n_sources, n_dim : int
        Q and d of the embedding.
    n_classes : int
    dropout : float
        Share dropped while training.
    """

    def __init__(self, n_sources: int, n_dim: int, n_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout_p = dropout
        self.hidden = nn.Linear(n_sources * n_dim, n_dim)
        self.classes = nn.Linear(n_dim, n_classes)
        initialise_linear(self, "emeg")

    @classmethod
    def of(cls, backbone: BrainOmni, n_classes: int, *, dropout: float = 0.1) -> Self:
        """Make a head that fits a backbone."""
        return cls(backbone.tokenizer.config.n_neuro, backbone.config.lm_dim, n_classes, dropout=dropout)

    def forward(self, embedding_BQWd: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Give logits (batch, class) for embeddings (batch, Q, W, d)."""
        pooled = embedding_BQWd.mean(dim=2).flatten(1)
        pooled = dropout(pooled, self.dropout_p, training=self.training, generator=generator)
        logits: Tensor = self.classes(nn.functional.selu(self.hidden(pooled)))
        return logits
