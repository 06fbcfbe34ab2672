"""What tasks and pretraining need of every encoder and of every objective.

features ──hidden──▶ hidden ──objective, predict_head──▶ loss          (pretraining, from stored codes)
signal ──tokenizer──▶ latents ──embed_latents──▶ embedding             (tasks)

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from emeg.models.draws import PretrainingDraws


class PretrainingLosses(NamedTuple):
    """Loss and metrics of one pretraining step."""

    total: Tensor
    """Mean cross-entropy over the predicted codes."""
    figures: dict[str, Tensor]
    """Metrics. With masked prediction: shares of correctly predicted codes of masked tokens, ``accuracy`` over all
    codebooks, ``accuracy_0`` … for each. If windows overlap, also ``accuracy_overlapped`` for steps whose samples a
    neighbouring window repeats, and ``accuracy_other`` for the other steps."""


class Sources(NamedTuple):
    """Sensors of the sources, where each channel is one."""

    pos: Tensor
    """float32 (batch, sources, 6 or 7): normalised positions and orientations, dimensionless; then the region."""
    sensor_type: Tensor
    """int64 (batch, sources): codes of `SensorType`."""
    mask: Tensor
    """bool (batch, sources): True for channels that are there."""

    @classmethod
    def of(cls, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None = None) -> Self:
        """Create sources from the channels of a signal, all of which are there if there is no mask.

        Parameters
        ----------
        pos : float, shape (batch, channels, 6 or 7)
            Normalised positions and orientations, dimensionless.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        """
        mask = torch.ones_like(sensor_type, dtype=torch.bool) if channel_mask is None else channel_mask
        return cls(pos, sensor_type, mask)

    def average(self, embedded: Tensor) -> Tensor:
        """Average embeddings over the channels that are there, so that heads and probes fit every cap.

        Parameters
        ----------
        embedded : float, shape (..., batch, sources, steps, features)
            Dimensionless.

        Returns
        -------
        float, shape (..., batch, 1, steps, features)
        """
        mask = self.mask[:, :, None, None].to(embedded)
        return (embedded * mask).sum(dim=-3, keepdim=True) / mask.sum(dim=-3, keepdim=True)


class Objective(Protocol):
    """What an encoder predicts in pretraining."""

    config: Any

    @abstractmethod
    def check(self, encoder: Any) -> None:  # noqa: ANN401 - any encoder
        """Raise a UserError if the encoder cannot be trained with this objective."""

    @abstractmethod
    def metric_names(self, encoder: Any) -> tuple[str, ...]:  # noqa: ANN401 - any encoder
        """Return the names of all metrics that `loss` may return, the loss first. Ranks add them up in this order."""

    @abstractmethod
    def loss(
        self,
        encoder: Any,  # noqa: ANN401 - any encoder
        features: Tensor,
        codes: Tensor,
        *,
        generator: torch.Generator | None = None,
        draws: PretrainingDraws | None = None,
        sources: Sources | None = None,
    ) -> PretrainingLosses:
        """Compute the loss of one micro-batch; all random draws come from `generator`.

        Parameters
        ----------
        encoder : Encoder
        features : float32, shape (batch, sources, steps, n_dim)
            Features of `codes`, dimensionless.
        codes : int, shape (batch, sources, steps, levels)
            Codes of the tokenizer.
        generator : torch.Generator, optional
            Source of all draws; PyTorch's default generator if omitted. On other devices than a CPU, dropout draws from
            the device's default generator, as fused kernels do: seed it for each micro-batch.
        draws : PretrainingDraws, optional
            Masks, instead of drawing them.
        sources : Sources, optional
            Sensors, if each channel is a source; where their positions have a seventh column, it is the region.
        """


@runtime_checkable
class Encoder(Protocol):
    """What tasks and pretraining need of a network that embeds the tokens of a frozen tokenizer."""

    config: Any
    tokenizer: Any

    @abstractmethod
    def embed_latents(
        self, latents: Tensor, *, generator: torch.Generator | None = None, layers: Sequence[int] = ()
    ) -> Tensor:
        """Embed latents. Differentiable.

        Parameters
        ----------
        latents : float, shape (batch, sources, steps, n_dim)
            Dimensionless features of the tokenizer, quantized or not.
        generator : torch.Generator, optional
            Source of the dropout draws in training mode; PyTorch's default generator if omitted.
        layers : sequence of int
            Number of blocks behind each embedding, from 0 to the number of blocks; their results are stacked in front.
            Empty: the embedding that tasks use by default, not stacked.

        Returns
        -------
        float32, shape (batch, sources, steps, n_features) or (layers, batch, sources, steps, n_features)

        Raises
        ------
        UserError
            There is no such layer, or the latents are not those of this model's tokenizer.
        """

    @abstractmethod
    def pretraining_loss(
        self,
        features: Tensor,
        codes: Tensor,
        *,
        generator: torch.Generator | None = None,
        draws: PretrainingDraws | None = None,
        sources: Sources | None = None,
    ) -> PretrainingLosses:
        """Compute the loss of the objective.

        Parameters
        ----------
        features : float32, shape (batch, sources, steps, n_dim)
            The features ``tokenizer.features_from_codes(codes)``, dimensionless.
        codes : int, shape (batch, sources, steps, levels)
            Codes of the tokenizer at the overlap of this encoder.
        generator : torch.Generator, optional
            Source of all draws; see the objective.
        draws : PretrainingDraws, optional
            Masks, instead of drawing them.
        sources : Sources, optional
            Sensors, if each channel is a source.
        """
