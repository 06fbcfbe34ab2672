"""What every tokenizer can do, and a base class with the parts that most of them share.

signal ──encode_latents──▶ latents ──quantize──▶ codes ──features_from_codes──▶ features      (input of encoders)
                                                   └──────decode──────▶ signal

Shape letters: B batch, C channels, N samples, W windows, L samples in a window, S latent sources, T latent steps,
D features, Q quantizer levels.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.config import Config
from emeg.errors import UserError
from emeg.plugins import ROLE_OF_KIND, blaming, create, find_plugin, load_network, packages_of, reading_model
from emeg.tokenizers.braintokenizer.checks import check_input
from emeg.tokenizers.braintokenizer.parameters import group_parameters
from emeg.tokenizers.braintokenizer.precision import exact_float32
from emeg.tokenizers.braintokenizer.pretrained import load_strictly, load_weights, read_card, save_model
from emeg.tokenizers.braintokenizer.windows import count_windows, cut_windows, join_windows, stride_of
from emeg.tokenizers.sizes import TokenizerSizes as TokenizerSizes


class Tokens(NamedTuple):
    """Codes of a signal, and their features."""

    features: Tensor
    """float32 (batch, sources, steps, n_dim): sums of code vectors."""
    codes: Tensor
    """int64 (batch, sources, steps, levels)."""


@runtime_checkable
class Tokenizer(Protocol):
    """What encoders, evaluation and inference need of a tokenizer."""

    config: Any

    @property
    @abstractmethod
    def sizes(self) -> TokenizerSizes:
        """Sizes of codes and features."""

    @abstractmethod
    def tokenize(
        self, x: Tensor, pos: Tensor, sensor_type: Tensor, overlap: float = 0.0, channel_mask: Tensor | None = None
    ) -> Tokens:
        """Encode a signal as codes and features, in float32.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        overlap : float
            Share of a window that the next window repeats. A signal shorter than a window is padded with zeros.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.

        Returns
        -------
        Tokens
            ``features`` equals ``features_from_codes(codes)`` bit for bit.

        Raises
        ------
        UserError
            Shapes, types or values cannot be used.
        """

    @abstractmethod
    def features_from_codes(self, codes: Tensor) -> Tensor:
        """Compute the features that codes stand for.

        Parameters
        ----------
        codes : any integer type, shape (..., levels)
            Codes.

        Returns
        -------
        float32, shape (..., n_dim)

        Raises
        ------
        UserError
            The codes cannot be those of this tokenizer.
        """

    @abstractmethod
    def decode(
        self,
        codes: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        overlap: float = 0.0,
    ) -> Tensor:
        """Compute the signal that codes stand for.

        Parameters
        ----------
        codes : int64, shape (batch, sources, steps, levels)
            Codes of whole windows.
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels; the result is 0 in the others.
        overlap : float
            Share of a window that the next window repeats, as in `tokenize`.

        Returns
        -------
        float32, shape (batch, channels, samples)
            In the scale of `normalise_signal`, dimensionless.
        """


class TokenizerModule(nn.Module, Tokenizer):
    """Base of tokenizers.

    A subclass defines `kind` (the name of its entry point), `sizes`, `encode_latents`, `quantize`,
    `features_from_codes` and `decode`. One that learns defines `training_loss` too; without parameters, it is published
    without training. `emeg.tokenizers.conformance.check_tokenizer` tries all of them on a signal.

    Parameters
    ----------
    config : Config
        Its own class of configuration.
    """

    kind: ClassVar[str] = ""
    """Name of the entry point, and ``kind`` in ``config.json``."""
    fitted: ClassVar[tuple[str, ...]] = ()
    """Names of the weights that `prepare` sets; another model may bring them."""
    by_sensor_type: ClassVar[tuple[str, ...]] = ()
    """Names of the weights with a row for each sensor type. A training may begin from a model with fewer types."""
    config: Any

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    # What a subclass defines

    @abstractmethod
    def encode_latents(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        overlap: float = 0.0,
        channel_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        check_values: bool = True,
    ) -> Tensor:
        """Encode a signal as features before quantization, differentiable where the tokenizer is.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        overlap : float
            Share of a window that the next window repeats. A signal shorter than a window is padded with zeros.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        generator : torch.Generator, optional
            Source of the dropout draws in training mode.
        check_values : bool
            Whether to refuse values that are not finite, which synchronises the device.

        Returns
        -------
        float32, shape (batch, sources, steps, n_dim)
        """

    @abstractmethod
    def quantize(self, latents: Tensor) -> Tensor:
        """Return the codes of latents: int64, shape (batch, sources, steps, levels).

        Parameters
        ----------
        latents : float32, shape (batch, sources, steps, n_dim)
            Dimensionless.
        """

    # What is the same for most tokenizers

    def code_edges(self) -> Tensor | None:
        """Return the intervals of amplitude that codes stand for, if a code is a sample of a channel; None here.

        Returns
        -------
        float32, shape (codes + 1,), or None
            Edges in the scale of `normalise_signal`, dimensionless; −∞ first and ∞ last. Code k lies between the edges
            k and k + 1.
        """
        return None

    @property
    def needs_regions(self) -> bool:
        """Whether positions need the brain region of each sensor as a seventh column."""
        return bool(getattr(self.config, "needs_regions", False))

    @property
    def intracranial(self) -> bool | None:
        """Whether signals can be those of intracranial electrodes; None if only their sensor types tell."""
        known: bool | None = getattr(self.config, "intracranial", None)
        return known

    @override
    def tokenize(
        self, x: Tensor, pos: Tensor, sensor_type: Tensor, overlap: float = 0.0, channel_mask: Tensor | None = None
    ) -> Tokens:
        check_input(x, pos, sensor_type, channel_mask)
        with torch.no_grad(), exact_float32(x.device.type), blaming("tokenizer", self.kind, "tokenize"):
            codes_BSTQ = self.quantize(self.encode_latents(x, pos, sensor_type, overlap, channel_mask))
            return Tokens(self.features_from_codes(codes_BSTQ), codes_BSTQ)

    def reconstruct(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Encode, quantize and decode a signal.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        seen : bool, shape (batch, channels), optional
            True for channels that the encoder reads (default: all real channels). The others are reconstructed from
            these.

        Returns
        -------
        float32, shape (batch, channels, windows, samples)
            In the units of `targets`; 0 in padded channels.
        """
        codes_BSTQ = self.tokenize(x, pos, sensor_type, 0.0, channel_mask if seen is None else seen).codes
        with torch.no_grad(), exact_float32(x.device.type):
            made_BCN = self.decode(codes_BSTQ, pos, sensor_type, channel_mask)
        return cut_windows(made_BCN, self.sizes.window_length, 0.0)

    def targets(self, x: Tensor) -> Tensor:
        """Return the windows that `reconstruct` approximates.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.

        Returns
        -------
        float32, shape (batch, channels, windows, samples)
        """
        return cut_windows(x, self.sizes.window_length, 0.0).float()

    def steps_of(self, n_samples: int, overlap: float = 0.0) -> int:
        """Count the latent steps that `tokenize` makes of a signal."""
        return count_windows(n_samples, self.sizes.window_length, overlap) * self.sizes.steps_per_window

    def join(self, windows_BCWL: Tensor, overlap: float) -> Tensor:
        """Join decoded windows to a signal, fading where they overlap: float32, shape (batch, channels, samples).

        Parameters
        ----------
        windows_BCWL : float32, shape (batch, channels, windows, samples in a window)
            Dimensionless.
        overlap : float
            Share of a window that the next window repeats.
        """
        length = self.sizes.window_length
        return join_windows(windows_BCWL, length - stride_of(length, overlap))

    @property
    def source_features(self) -> Tensor:
        """Vectors that tell the sources apart, added to their features: float32, shape (sources, n_dim)."""
        sizes = self.sizes
        drawn = torch.randn(sizes.n_sources or 1, sizes.n_dim, generator=torch.Generator().manual_seed(0))
        return drawn.div(sizes.n_dim**0.5)

    @property
    def has_waveforms(self) -> bool:
        """Whether `waveforms` can be called."""
        return False

    def waveforms(self, features: Tensor) -> Tensor:
        """Return the waveforms of the sources, dimensionless; by default there are none.

        Parameters
        ----------
        features : float, shape (batch, sources, steps, n_dim)
            Dimensionless features of whole windows.

        Returns
        -------
        float, shape (batch, sources, windows, samples of a window)

        Raises
        ------
        UserError
            The sources have no waveforms.
        """
        raise UserError(
            f"tokenizer {self.kind!r}: its sources have no waveforms. Choose a BrainTokenizer with a leadfield (recipe"
            " braintokenizer-emeg-nano)."
        )

    # Training; methods without an effect here are for subclasses

    @property
    def learns(self) -> bool:
        """Whether there are parameters to train."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def training_loss(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        loss_ramp: float = 1.0,
        follow: bool = True,
    ) -> Any:  # noqa: ANN401 - each tokenizer has a named tuple of its own
        """Compute the loss of a micro-batch; a tokenizer with parameters to train defines it.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        generator : torch.Generator, optional
            Source of all draws.
        loss_ramp : float
            Rises from 0 to 1 over the first steps, for terms that would disturb the start.
        follow : bool
            Whether to update codebooks at once. Training passes False and calls `update_codebooks` after each step.

        Returns
        -------
        named tuple of float tensors, scalars
            The first field is ``total``, which is minimised; the others are logged.
        """
        raise UserError(f"tokenizer {self.kind!r}: it defines no training_loss; define it, or train nothing")

    def prepare(self, segments: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set what is estimated from training segments before the first step.

        Parameters
        ----------
        segments : iterable of (float32, float32, int64), shapes (1, channels, samples), (1, channels, 6), (1, channels)
            Normalised signal, positions and sensor types of training segments of every device, dimensionless. They can
            be iterated several times.
        """

    def parameter_groups(
        self, *, learning_rate: float, quantizer_learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Group the parameters for AdamW. By default matrices decay and the others do not."""
        del quantizer_learning_rate
        matrices = {name for name, parameter in self.named_parameters() if parameter.ndim > 1}
        return group_parameters(
            self,
            [
                ("decayed", lambda name: name in matrices, learning_rate, weight_decay),
                ("plain", lambda _: True, learning_rate, 0.0),
            ],
        )

    def update_codebooks(self) -> None:
        """Update the codebooks from all batches of `training_loss` since the last call, on all ranks."""

    def watched(self) -> dict[str, Tensor]:
        """Return counts of codes and latents since the last log, for the monitor."""
        return {}

    def watch_on(self, watched: Mapping[str, Tensor]) -> None:
        """Restore or reset the counts of the monitor.

        Parameters
        ----------
        watched : mapping of tensors, any shape and dtype
            Output of `watched`, or an empty mapping; dimensionless.
        """

    def compile_layers(self) -> None:
        """Compile layers at their next call, which takes minutes for each shape."""

    def checkpoint_activations(self) -> None:
        """Recompute activations in the backward pass, which needs less memory."""

    # Files

    def save_pretrained(self, folder: Path, *, provenance: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, which is created if needed."""
        extra: dict[str, Any] = {} if self.kind in ROLE_OF_KIND else {"role": "tokenizer"}
        if packages := packages_of({"tokenizer": self.kind}):
            extra["packages"] = packages
        save_model(folder, self.state_dict(), kind=self.kind, config=self.config, provenance=provenance, extra=extra)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Load a model folder written by `save_pretrained`, in evaluation mode.

        Raises
        ------
        UserError
            A file is missing or of another kind, or names or shapes do not match the configuration.
        """
        card = read_card(folder, cls.kind)
        config = find_plugin("tokenizer", cls.kind).config.checked(
            card["config"], source=f"{folder}/config.json: config"
        )
        with blaming("tokenizer", cls.kind, "creating it"):
            model = cls(config)
        load_strictly(model, load_weights(folder), source=str(folder))
        return model.eval()


def build_tokenizer(kind: str, config: Mapping[str, Any] | Config, *, source: str) -> TokenizerModule:
    """Create a tokenizer with initial weights from its name and its configuration.

    Parameters
    ----------
    kind : str
        Name of its entry point.
    config : mapping or Config
    source : str
        Where the configuration comes from, for errors.

    Raises
    ------
    UserError
        No package registers the name, or the configuration is refused.
    """
    if not isinstance(config, Config):
        config = find_plugin("tokenizer", kind).config.checked(dict(config), source=source)
    made: TokenizerModule = create("tokenizer", kind, TokenizerModule, config)
    return made


def load_tokenizer(folder: Path) -> TokenizerModule:
    """Load a tokenizer of any kind from its folder, in evaluation mode.

    Raises
    ------
    UserError
        The folder holds no tokenizer, or the package of its kind is not installed.
    """
    card = read_card(folder, "tokenizer")
    with reading_model(card, source=folder):
        loaded: TokenizerModule = load_network("tokenizer", str(card["kind"]), TokenizerModule).from_pretrained(folder)
    return loaded
