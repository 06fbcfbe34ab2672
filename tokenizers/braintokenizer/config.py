"""Configuration and presets of a BrainTokenizer."""

from math import prod
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from emeg.config import Config


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
    rotation_trick: bool = True
    """Pass the gradient through the quantizer by rotation (arXiv 2410.06424); otherwise straight through."""
    hidden_ratio: float = Field(0.25, ge=0, lt=1)
    """Share of the channels of a sample, at least one, that are hidden from the encoder in a training step."""
    noise_std: float = Field(0.1, ge=0)
    """Standard deviation of the noise added to the input of the encoder in a training step, dimensionless."""
    initialisation: Literal["emeg", "release"] = "emeg"
    """Initial weights: `emeg` preserves the variance of the signal from layer to layer; `release` initialises as the
    published code does, from which a small model does not learn."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window_length % prod(self.ratios):
            raise ValueError(
                f"window_length {self.window_length} must be a multiple of {prod(self.ratios)}, the product of ratios"
            )
        if self.n_dim % self.n_head:
            raise ValueError(f"n_dim {self.n_dim} must be a multiple of n_head {self.n_head}")
        if self.n_dim % 2 or self.n_filters % 2:
            raise ValueError(f"n_dim ({self.n_dim}) and n_filters ({self.n_filters}) must be even")
        return self

    @property
    def steps_per_window(self) -> int:
        """Latent steps in a window."""
        return self.window_length // prod(self.ratios)

    @property
    def samples_per_step(self) -> int:
        """Samples in a latent step."""
        return prod(self.ratios)


PRESETS: dict[str, BrainTokenizerConfig] = {
    "nano": BrainTokenizerConfig(n_filters=8, n_dim=64, codebook_dim=64, codebook_size=256),
    "paper": BrainTokenizerConfig(),
}
"""Configurations by name: `nano` (319,866 parameters) trains in minutes on a laptop; `paper` (5.05 M) is the published
size."""
