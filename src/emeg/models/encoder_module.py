"""Base classes of encoders: embedding a signal, pretraining, parameter groups, and files.

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.config import Config
from emeg.errors import UserError
from emeg.models.draws import PretrainingDraws
from emeg.models.hub import resolve
from emeg.models.interface import Encoder, Objective, PretrainingLosses, Sources
from emeg.models.objectives.building import build_objective
from emeg.models.parameters import groups_beside_tokenizer
from emeg.models.readout.kinds import Pooling, pooling_of
from emeg.plugins import (
    ROLE_OF_KIND,
    blaming,
    default_objective,
    find_plugin,
    name_plugin,
    packages_of,
)
from emeg.tokenizers.braintokenizer.pretrained import load_strictly, load_weights, read_card, save_model
from emeg.tokenizers.braintokenizer.windows import stride_of
from emeg.tokenizers.interface import Tokenizer, TokenizerModule, Tokens, build_tokenizer

DEFAULT_ENCODER = "brainomni"
"""Kind of an encoder whose description states none."""
DEFAULT_TOKENIZER = "braintokenizer"
"""Kind of the tokenizer inside a model whose ``config.json`` states none."""


class EncoderModule(nn.Module, Encoder):
    """Base of encoders.

    A subclass defines `kind` (the name of its entry point), `n_features`, `depth`, `embed_latents`, and what its
    objective needs. Its configuration has ``overlap_ratio``, the overlap of the tokens that it reads. For masked
    prediction it defines ``mask_token`` (n_dim features), `hidden` and ``predict_head`` (a linear layer to levels ·
    codes), and its configuration has ``mask_ratio``. `emeg.models.conformance.check_encoder` tries an encoder.

    Parameters
    ----------
    config : Config
        Its own class of configuration.
    tokenizer : Tokenizer
        Frozen tokenizer whose codes it predicts.
    """

    kind: ClassVar[str] = ""
    """Name of the entry point, and ``kind`` in ``config.json``."""
    fitted: ClassVar[tuple[str, ...]] = ()
    """Names of buffers that `prepare` fits. Weights that lack them, in a transfer, are fitted again."""
    decayed: ClassVar[str] = "blocks."
    """Beginning of the names of parameters whose matrices have weight decay."""
    config: Any
    tokenizer: Any

    @property
    def default_pooling(self) -> Pooling:
        """Pooling over time that suits the features; see `pooling_of`."""
        return pooling_of(self.config)

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.objective: Objective | None = None

    # What a subclass defines

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Features of an embedding."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of blocks; `embed_latents` knows the layers 0 to `depth`."""

    def hidden(self, features: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Run all blocks: float, shape (batch, sources, steps, n_features).

        An encoder of tokens of channels takes a keyword ``sources`` as well, the sensors.

        Parameters
        ----------
        features : float, shape (batch, sources, steps, n_dim)
            Dimensionless features of the tokenizer, some of them masked.
        generator : torch.Generator, optional
            Source of the dropout draws in training mode.
        """
        raise NotImplementedError

    # What is the same for all encoders

    @property
    def n_sources(self) -> int:
        """Sources of an embedding; 1 if each channel is a source, because channels are averaged then."""
        return int(self.tokenizer.sizes.n_sources or 1)

    @property
    def n_levels(self) -> int:
        """Codes of a token that are predicted."""
        found: int = self.tokenizer.sizes.n_levels
        return found

    def embed(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        layers: Sequence[int] = (),
    ) -> Tensor:
        """Embed a signal.

        The result is deterministic in evaluation mode. The gradient reaches the encoder but not the tokenizer.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        sensor_type : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        layers : sequence of int
            Layers to return instead; see `embed_latents`.

        Returns
        -------
        float32, shape (batch, sources, steps, n_features)
        """
        tokens = self.tokenizer.tokenize(
            x, pos, sensor_type, overlap=self.config.overlap_ratio, channel_mask=channel_mask
        )
        return self.embed_tokens(tokens, self.channel_sources(pos, sensor_type, channel_mask), layers=layers)

    def embed_differentiably(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        overlap: float,
        layers: Sequence[int] = (),
        check_values: bool = True,
    ) -> Tensor:
        """Embed a signal without quantizing it, for fine-tuning: the gradient reaches the tokenizer's encoder too.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        sensor_type : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        overlap : float
            Share of a window that the next window repeats.
        layers : sequence of int
            Layers to return instead; see `embed_latents`.
        check_values : bool
            Whether to refuse values that are not finite, which synchronises the device.

        Returns
        -------
        float32, shape (batch, sources, steps, n_features)
        """
        latents = self.tokenizer.encode_latents(
            x, pos, sensor_type, overlap=overlap, channel_mask=channel_mask, check_values=check_values
        )
        return self._over_channels(latents, self.channel_sources(pos, sensor_type, channel_mask), layers)

    def embed_tokens(self, tokens: Tokens, sources: Sources | None = None, *, layers: Sequence[int] = ()) -> Tensor:
        """Embed tokens: float32, shape (batch, sources, steps, n_features).

        Parameters
        ----------
        tokens : Tokens
            Codes and features of the tokenizer.
        sources : Sources, optional
            Sensors, if each channel is a source; the result is averaged over them then, to one source.
        layers : sequence of int
            Layers to return instead; see `embed_latents`.
        """
        return self._over_channels(tokens.features, sources, layers)

    def _over_channels(self, latents: Tensor, sources: Sources | None, layers: Sequence[int]) -> Tensor:
        """Embed latents, and average over the channels if each is a source."""
        with blaming("encoder", self.kind, f"embed_latents with layers={tuple(layers)}"):
            embedded = self.embed_latents(latents, layers=layers)
        return embedded if sources is None else sources.average(embedded)

    def channel_sources(self, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None = None) -> Sources | None:
        """Return the sensors of a signal if each channel is a source, else None.

        Parameters
        ----------
        pos : float, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        """
        return Sources.of(pos, sensor_type, channel_mask) if self.tokenizer.sizes.n_sources is None else None

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise an error if a layer is asked for that the encoder does not have.

        Raises
        ------
        UserError
            The message names the layer and the layers to choose from.
        """
        if wrong := [layer for layer in layers if not 0 <= layer <= self.depth]:
            raise UserError(
                f"layers: {wrong[0]} is outside 0 to {self.depth}, the number of blocks of this model; choose one of"
                " them"
            )

    @override
    def pretraining_loss(
        self,
        features: Tensor,
        codes: Tensor,
        *,
        generator: torch.Generator | None = None,
        draws: PretrainingDraws | None = None,
        sources: Sources | None = None,
    ) -> PretrainingLosses:
        if self.objective is None:
            self.objective = build_objective(default_objective(self.kind), {}, encoder=self)
        losses: PretrainingLosses = self.objective.loss(
            self, features, codes, generator=generator, draws=draws, sources=sources
        )
        return losses

    def overlapped_steps(self, n_steps: int, device: torch.device | None = None) -> Tensor:
        """Return which steps cover samples that a neighbouring window repeats: bool, shape (steps,)."""
        sizes = self.tokenizer.sizes
        shared = sizes.window_length - stride_of(sizes.window_length, self.config.overlap_ratio)
        n_shared, per_window = -(-shared // sizes.samples_per_step), sizes.steps_per_window
        step = torch.arange(n_steps, device=device)
        within = step % per_window
        with_last = (within < n_shared) & (step >= per_window)
        with_next = (within >= per_window - n_shared) & (step < n_steps - per_window)
        found: Tensor = with_last | with_next
        return found

    def parameter_groups(self, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Group the parameters for AdamW: matrices of blocks decay; those of the frozen tokenizer are in no group."""
        decayed = {n for n, p in self.named_parameters() if p.ndim > 1 and n.startswith(self.decayed)}
        return groups_beside_tokenizer(
            self,
            [
                ("decayed", lambda name: name in decayed, learning_rate, weight_decay),
                ("plain", lambda _: True, learning_rate, 0.0),
            ],
        )

    # Without an effect here; for subclasses

    def prepare(self, batches: Iterable[Tokens]) -> None:
        """Fit what is fixed by training segments, before the first step.

        Parameters
        ----------
        batches : iterable of Tokens
            Codes and features of training segments.
        """

    def compile_layers(self) -> None:
        """Compile the blocks at their next call. Dropout draws stay outside the compiled code."""

    def checkpoint_activations(self) -> None:
        """Recompute the blocks in the backward pass from their inputs: less memory, the same numbers."""

    # Files

    def save_pretrained(self, folder: Path, *, provenance: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``, including the weights of the tokenizer."""
        extra: dict[str, Any] = {} if self.kind in ROLE_OF_KIND else {"role": "encoder"}
        if packages := packages_of({"encoder": self.kind, "tokenizer": self.tokenizer.kind}):
            extra["packages"] = packages
        if self.tokenizer.kind != DEFAULT_TOKENIZER:
            extra["tokenizer_kind"] = self.tokenizer.kind
        save_model(
            folder,
            self.state_dict(),
            kind=self.kind,
            config=self.config,
            tokenizer=self.tokenizer.config,
            provenance=provenance,
            extra=extra,
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, revision: str | None = None) -> Self:
        """Load a model folder written by `save_pretrained`, in evaluation mode.

        Parameters
        ----------
        folder : str or Path
            Folder of the model, or ``organisation/name`` on a Hugging Face hub (extra ``hub``).
        revision : str, optional
            Branch, tag or commit on the hub.

        Raises
        ------
        UserError
            A file is missing or of another kind, or names or shapes do not match the configuration.
        """
        folder = resolve(folder, revision=revision)
        config, tokenizer = encoder_parts(read_card(folder, cls.kind), cls.kind, source=f"{folder}/config.json")
        with blaming("encoder", cls.kind, "creating it"):
            model = cls(config, tokenizer)
        load_strictly(model, load_weights(folder), source=str(folder))
        return model.eval()


class MaskedEncoder(EncoderModule):
    """Base of encoders that predict the codes of masked tokens: those of the first ``num_quantizers_used`` levels.

    Parameters
    ----------
    config : Config
        Its own class of configuration, with ``num_quantizers_used``.
    tokenizer : Tokenizer
        Frozen tokenizer whose codes it predicts.

    Raises
    ------
    UserError
        The tokenizer has fewer levels.
    """

    def __init__(self, config: Any, tokenizer: Tokenizer) -> None:  # noqa: ANN401 - each encoder has a class of its own
        if config.num_quantizers_used > tokenizer.sizes.n_levels:
            raise UserError(
                f"num_quantizers_used is {config.num_quantizers_used}, but the tokenizer has"
                f" {tokenizer.sizes.n_levels}. Set it to at most that number:"
                f" --overrides '{{\"num_quantizers_used\": {tokenizer.sizes.n_levels}}}'."
            )
        super().__init__(config, tokenizer)

    @property
    @override
    def n_levels(self) -> int:
        return int(self.config.num_quantizers_used)


def overlap_of(config: Config, encoder: str) -> float:
    """Return the share of a window that the next window repeats, from the configuration of an encoder.

    Raises
    ------
    UserError
        The configuration has no number from 0 to below 1 of the name ``overlap_ratio``.
    """
    overlap = getattr(config, "overlap_ratio", None)
    if not isinstance(overlap, float | int) or not 0 <= overlap < 1:
        raise UserError(
            f"{name_plugin('encoder', encoder)}: overlap_ratio of {type(config).__name__} is {overlap!r}; define the"
            " field overlap_ratio, from 0 to below 1, the overlap of the tokens that it reads"
        )
    return float(overlap)


def encoder_parts(card: Mapping[str, Any], kind: str, *, source: str) -> tuple[Config, TokenizerModule]:
    """Return the configuration of an encoder and its tokenizer with initial weights."""
    config = find_plugin("encoder", kind).config.checked(dict(card.get("config", {})), source=f"{source}: config")
    tokenizer_kind = str(card.get("tokenizer_kind", DEFAULT_TOKENIZER))
    return config, build_tokenizer(tokenizer_kind, card.get("tokenizer", {}), source=f"{source}: tokenizer")
