"""What every encoder and every objective can do, and a base class with the parts that encoders share.

features ──hidden──▶ hidden ──objective, predict_head──▶ loss          (pretraining, from stored codes)
signal ──tokenizer──▶ latents ──embed_latents──▶ embedding             (tasks)

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.config import Config
from emeg.models.draws import PretrainingDraws
from emeg.models.hub import resolve
from emeg.plugins import ROLE_OF_KIND, find_plugin, load_network
from emeg.tokenizers.braintokenizer.parameters import group_parameters
from emeg.tokenizers.braintokenizer.pretrained import load_strictly, load_weights, read_card, save_model
from emeg.tokenizers.braintokenizer.windows import stride_of
from emeg.tokenizers.interface import Tokenizer, Tokens, build_tokenizer

DEFAULT_ENCODER = "brainomni"
"""Kind of an encoder whose description states none."""
DEFAULT_TOKENIZER = "braintokenizer"
"""Kind of the tokenizer inside a model whose ``config.json`` states none."""


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


class EncoderModule(nn.Module, Encoder):
    """Base of encoders.

    A subclass defines `kind` (the name of its entry point), `n_features`, `depth`, `embed_latents`, and what its
    objective needs. For masked prediction this is ``mask_token`` (n_dim features), `hidden` and ``predict_head`` (a
    linear layer to levels · codes), with ``mask_ratio`` and ``overlap_ratio`` in the configuration.

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
    config: Any
    tokenizer: Any

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
        """Sources of an embedding."""
        found: int = self.tokenizer.sizes.n_sources
        return found

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
        return self.embed_latents(self._features(x, pos, sensor_type, channel_mask), layers=layers)

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
        return self.embed_latents(latents, layers=layers)

    def embed_tokens(self, tokens: Tokens, sources: Sources | None = None, *, layers: Sequence[int] = ()) -> Tensor:
        """Embed tokens: float32, shape (batch, sources, steps, n_features).

        Parameters
        ----------
        tokens : Tokens
            Codes and features of the tokenizer.
        sources : Sources, optional
            Sensors, if each channel is a source.
        layers : sequence of int
            Layers to return instead; see `embed_latents`.
        """
        del sources
        return self.embed_latents(tokens.features, layers=layers)

    def _features(self, x: Tensor, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None) -> Tensor:
        features: Tensor = self.tokenizer.tokenize(
            x, pos, sensor_type, overlap=self.config.overlap_ratio, channel_mask=channel_mask
        ).features
        return features

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
            self.objective = build_objective(find_plugin("encoder", self.kind).objective, {}, encoder=self)
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
        decayed = {n for n, p in self.named_parameters() if p.ndim > 1 and n.startswith("blocks.")}
        groups = group_parameters(
            self,
            [
                ("tokenizer", lambda name: name.startswith("tokenizer."), learning_rate, 0.0),
                ("decayed", lambda name: name in decayed, learning_rate, weight_decay),
                ("plain", lambda _: True, learning_rate, 0.0),
            ],
        )
        return [group for group in groups if group["name"] != "tokenizer"]

    # Without an effect here; for subclasses

    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Fit what is fixed by training segments, before the first step.

        Parameters
        ----------
        batches : iterable of float32 tensors, shape (batch, sources, steps, n_dim)
            Features of training segments, dimensionless.
        """

    def compile_layers(self) -> None:
        """Compile the blocks at their next call. Dropout draws stay outside the compiled code."""

    def checkpoint_activations(self) -> None:
        """Recompute the blocks in the backward pass from their inputs: less memory, the same numbers."""

    # Files

    def save_pretrained(self, folder: Path, *, provenance: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``, including the weights of the tokenizer."""
        extra = {} if self.kind in ROLE_OF_KIND else {"role": "encoder"}
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
        config, tokenizer = _parts(read_card(folder, cls.kind), cls.kind, source=f"{folder}/config.json")
        model = cls(config, tokenizer)
        load_strictly(model, load_weights(folder), source=str(folder))
        return model.eval()


def build_objective(name: str, options: Mapping[str, Any], *, encoder: Any) -> Objective:  # noqa: ANN401 - any encoder
    """Create an objective by its name and check that the encoder can be trained with it.

    Parameters
    ----------
    name : str
        Name of its entry point.
    options : mapping
        Parameters that differ from their defaults.
    encoder : Encoder

    Raises
    ------
    UserError
        No package registers the name, an option is refused, or the encoder lacks what the objective needs.
    """
    config = find_plugin("objective", name).config.checked(dict(options), source=f"objective {name}")
    objective: Objective = load_network("objective", name)(config)
    objective.check(encoder)
    return objective


def build_encoder(card: Mapping[str, Any], *, source: str) -> EncoderModule:
    """Create an encoder and its tokenizer with initial weights.

    Parameters
    ----------
    card : mapping
        As in ``config.json``: ``config`` and ``tokenizer``, and ``kind`` and ``tokenizer_kind`` unless they are a
        BrainOmni and a BrainTokenizer.
    source : str
        Where the mapping comes from, for errors.

    Raises
    ------
    UserError
        No package registers the encoder or the tokenizer, or a configuration is refused.
    """
    kind = str(card.get("kind", DEFAULT_ENCODER))
    config, tokenizer = _parts(card, kind, source=source)
    made: EncoderModule = load_network("encoder", kind)(config, tokenizer)
    return made


def _parts(card: Mapping[str, Any], kind: str, *, source: str) -> tuple[Config, Tokenizer]:
    """Return the configuration of an encoder and its tokenizer with initial weights."""
    config = find_plugin("encoder", kind).config.checked(dict(card.get("config", {})), source=f"{source}: config")
    tokenizer_kind = str(card.get("tokenizer_kind", DEFAULT_TOKENIZER))
    return config, build_tokenizer(tokenizer_kind, card.get("tokenizer", {}), source=f"{source}: tokenizer")


def load_encoder(folder: Path) -> EncoderModule:
    """Load an encoder of any kind, with its tokenizer, in evaluation mode.

    Raises
    ------
    UserError
        The folder holds no encoder, or the package of its kind is not installed.
    """
    kind = str(read_card(folder, "encoder")["kind"])
    loaded: EncoderModule = load_network("encoder", kind).from_pretrained(folder)
    return loaded


def with_random_weights(encoder: EncoderModule) -> EncoderModule:
    """Return an encoder and a tokenizer of the same sizes with initial weights, in evaluation mode."""
    tokenizer = build_tokenizer(encoder.tokenizer.kind, encoder.tokenizer.config, source="tokenizer")
    return type(encoder)(encoder.config, tokenizer).eval()
