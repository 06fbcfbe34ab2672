"""Configuration and presets of a BrainTokenizer."""

from math import log2, prod
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from emeg.config import Config
from emeg.plugins import Plugin
from emeg.tokenizers.braintokenizer.quantization.sizes import numbers_per_level
from emeg.tokenizers.sizes import TokenizerSizes

N_OUTER_TYPES = 3
"""EEG, magnetometers, gradiometers."""
N_TYPES = 6
"""With SEEG, ECOG and DBS."""

LATER_OPTIONS = (
    "equaliser",
    "target",
    "spectral_loss",
    "crossfade",
    "projections",
    "sensor_gain",
    "signed_weights",
    "gain_harmonics",
    "leadfield",
    "intracranial",
    "regions",
    "hidden_by",
    "quantizer",
    "scalar_values",
)
"""Options that the published network does not have. Those that are off stay out of product names, so that models keep
the names that they had before the option existed."""


class BrainTokenizerConfig(Config):
    """Sizes and training settings of the network. The defaults are those of the paper."""

    window_length: PositiveInt = 512
    """Samples in a window: 2 s at 256 Hz."""
    n_filters: int = Field(32, ge=2)
    """Width of the first convolution. It doubles with every stride."""
    ratios: tuple[PositiveInt, ...] = (8, 4, 2)
    """Strides of the decoder in order; the encoder uses them in reverse. Their product is the length of a latent step,
    in samples."""
    kernel_size: PositiveInt = 5
    """Kernel of the first convolution, samples."""
    last_kernel_size: PositiveInt = 5
    """Kernel of the last convolution, steps (encoder) or samples (decoder)."""
    n_dim: PositiveInt = 256
    """Features of a latent."""
    n_neuro: PositiveInt = 16
    """Latent sources: learned queries that attend to the sensors."""
    n_head: PositiveInt = 4
    """Heads of the attention between sensors and latent sources."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of attention weights dropped while training."""
    codebook_dim: PositiveInt = 256
    """Features of a code vector. If it differs from `n_dim`, latents are projected to this size and back."""
    codebook_size: int = Field(512, ge=2, le=65536)
    """Code vectors in a codebook."""
    num_quantizers: PositiveInt = 4
    """Codebooks. Each quantizes the residual of those before it."""
    quantizer: Literal["residual", "scalar"] = "residual"
    """How latents become codes: `residual` searches the nearest vector of each codebook, as in the paper; `scalar`
    projects latents to a few numbers and rounds each to one of `scalar_values` values (arXiv 2309.15505). A level then
    has `codebook_size` codes as well, but no codebook: `codebook_dim`, `rotation_trick` and `projections` have no
    effect."""
    scalar_values: int = Field(4, ge=2, le=256)
    """Values of each number of the `scalar` quantizer. A power of it must be `codebook_size`."""
    rotation_trick: bool = True
    """Pass the gradient through the quantizer by rotation (arXiv 2410.06424); otherwise straight through."""
    hidden_ratio: float = Field(0.25, ge=0, lt=1)
    """Share of the channels of a sample, at least one, that are hidden from the encoder in a training step."""
    noise_std: float = Field(0.1, ge=0)
    """Standard deviation of the noise added to the input of the encoder in a training step, dimensionless."""
    initialisation: Literal["emeg", "release"] = "emeg"
    """Initial weights: `emeg` preserves the variance of the signal from layer to layer; `release` initialises as the
    published code does, from which a small model does not learn."""

    equaliser: float | None = Field(None, ge=0.0, le=2.0)
    """Exponent e of a fixed zero-phase filter for each sensor type, fitted on training subjects, after which mean power
    falls as frequency^(−e): 0 white, 1 equal in every octave. The decoder inverts it. None: no filter. Needs
    `target` signal."""
    target: Literal["window", "signal"] = "window"
    """Reconstruction target: `window` scales every window of every channel to mean 0 and deviation 1, as in the paper;
    `signal` keeps amplitude and offset, so that codes hold how strong a rhythm is, and where."""
    spectral_loss: Literal["angle", "complex"] = "angle"
    """Spectral term of the loss: `angle` compares magnitudes and unwrapped angles, as the paper does; `complex` is the
    L1 distance of the complex spectra."""
    crossfade: int = Field(0, ge=0)
    """Samples that successive windows of `reconstruct` share and over which it fades from one to the next, because the
    first and last three samples of a window are reconstructed worst. 0: windows are reconstructed side by side. Needs
    `target` signal."""
    sensor_gain: bool = False
    """Multiply the features of a channel, on the way to the latent sources and back, by a learned function of its
    sensor. Attention weights are positive: without it, the orientation of a sensor cannot change a sign."""
    signed_weights: bool = False
    """Multiply every attention weight between a sensor and a latent source by a learned function of the two, which may
    be negative. Attention weights alone are positive, but a source reaches sensors with both signs."""
    gain_harmonics: int = Field(0, ge=0, le=8)
    """Degree of the spherical harmonics of a sensor's direction, times its orientation, of which the gain of
    `signed_weights` is also a linear function. The learned embedding of sensors is too smooth for planar gradiometers.
    0: none."""
    leadfield: bool = False
    """Estimate sources by a linear leadfield beside the network, which then learns what is missing. The leadfield is
    linear in the functions of `gain_harmonics`, is fitted to covariances of training subjects before the first step,
    and learns on. Needs `target` signal and `gain_harmonics` above 0."""
    intracranial: bool = False
    """Know the sensor types SEEG, ECOG and DBS beside EEG and MEG. Training switches it on for a corpus with such
    sensors."""
    regions: bool = False
    """Add a learned embedding of the brain region of each sensor to that of its position. The region is found by
    position, so sensors of new people and devices need no new parameters."""
    hidden_by: Literal["channel", "region"] = "channel"
    """Channels hidden in a training step: drawn one by one, or all channels of drawn brain regions, so that no
    neighbour in the region shows what is to be predicted."""
    projections: Literal["shared", "level"] = "shared"
    """If `codebook_dim` differs from `n_dim`: one pair of projections for all codebooks (`shared`), or one for each
    level (`level`), as in the published code."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window_length % prod(self.ratios):
            raise ValueError(
                f"window_length {self.window_length} must be a multiple of {prod(self.ratios)}, the product of ratios"
            )
        if self.n_dim % self.n_head:
            raise ValueError(f"n_dim {self.n_dim} must be a multiple of n_head {self.n_head}")
        if self.quantizer == "scalar" and numbers_per_level(self.codebook_size, self.scalar_values) is None:
            raise ValueError(
                f"with quantizer 'scalar', codebook_size {self.codebook_size} must be a power of scalar_values"
                f" {self.scalar_values}"
            )
        if self.target == "window" and (self.equaliser is not None or self.crossfade):
            raise ValueError(
                "equaliser and crossfade need target 'signal', because windows scaled to 1 cannot be joined"
            )
        if self.gain_harmonics and not self.signed_weights:
            raise ValueError("gain_harmonics is part of the gain of signed_weights; set signed_weights too")
        if self.leadfield and not (self.gain_harmonics and self.target == "signal"):
            raise ValueError("leadfield needs target 'signal' and gain_harmonics above 0; set them too")
        if 2 * self.crossfade > self.window_length:
            raise ValueError(f"crossfade {self.crossfade} must be at most half of window_length {self.window_length}")
        if self.n_dim % 2 or self.n_filters % 2:
            raise ValueError(f"n_dim ({self.n_dim}) and n_filters ({self.n_filters}) must be even")
        return self

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result, without later options that are off."""
        defaults = {name: type(self).model_fields[name].default for name in LATER_OPTIONS}
        fields = super().product_fields()
        return {name: value for name, value in fields.items() if name not in defaults or value != defaults[name]}

    @property
    def sizes(self) -> TokenizerSizes:
        """Sizes of codes and features."""
        return TokenizerSizes(
            self.n_neuro,
            self.n_dim,
            self.num_quantizers,
            self.codebook_size,
            self.window_length,
            self.samples_per_step,
        )

    @property
    def n_types(self) -> int:
        """Sensor types that the network knows."""
        return N_TYPES if self.intracranial else N_OUTER_TYPES

    @property
    def needs_regions(self) -> bool:
        """Whether positions need the region of each sensor as a seventh column."""
        return self.regions or self.hidden_by == "region"

    @property
    def bits_per_step(self) -> float:
        """Bits of the codes of one latent step."""
        return self.n_neuro * self.num_quantizers * log2(self.codebook_size)

    def bits_per_second(self, sfreq: float) -> float:
        """Return the bits of the codes that `reconstruct` needs for one second, windows that share samples included.

        Parameters
        ----------
        sfreq : float
            Sampling rate of the signal, Hz.
        """
        repeated = self.window_length / (self.window_length - self.crossfade)
        return repeated * self.bits_per_step * sfreq / self.samples_per_step

    @property
    def steps_per_window(self) -> int:
        """Latent steps in a window."""
        return self.window_length // prod(self.ratios)

    @property
    def samples_per_step(self) -> int:
        """Samples in a latent step."""
        return prod(self.ratios)


EVERY_BAND: dict[str, Any] = {
    "ratios": (4, 4, 2),
    "num_quantizers": 8,
    "equaliser": 0.75,
    "target": "signal",
    "spectral_loss": "complex",
    "signed_weights": True,
    "gain_harmonics": 5,
    "leadfield": True,
    "crossfade": 16,
}
"""Options with which the codes hold every band; chosen on validation subjects (docs/explanation/study.md)."""

PRESETS: dict[str, BrainTokenizerConfig] = {
    "nano": BrainTokenizerConfig(n_filters=8, n_dim=64, codebook_dim=64, codebook_size=256),
    "paper": BrainTokenizerConfig(),
    "emeg-nano": BrainTokenizerConfig(
        n_filters=8, n_dim=64, codebook_dim=64, codebook_size=256, **{**EVERY_BAND, "n_neuro": 32, "num_quantizers": 12}
    ),
    "emeg-base": BrainTokenizerConfig(**EVERY_BAND),
}
"""Configurations by name. `nano` (319,866 parameters) trains in minutes on a laptop; `paper` (5.05 M) is the published
size. `emeg-nano` and `emeg-base` have these sizes with shorter latent steps, more codebooks, the equaliser, the complex
spectral loss and the leadfield, with which the codes hold every band (docs/explanation/study.md). `emeg-nano` has twice
as many sources and 12 codebooks, because tasks need more than bands do; `emeg-base` stays near the cost of `paper`."""

PLUGIN = Plugin(BrainTokenizerConfig, "emeg.tokenizers.braintokenizer.model:BrainTokenizer", PRESETS, "BrainTokenizer")
