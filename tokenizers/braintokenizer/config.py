"""Size and habits of a BrainTokenizer."""

from math import prod
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from emeg.config import Config


class BrainTokenizerConfig(Config):
    """Everything that fixes the network's parameters and how it is trained; defaults are the paper's size."""

    window_length: PositiveInt = 512
    """Samples in a window: 2 s at 256 Hz."""
    n_filters: int = Field(32, ge=2)
    """Width of the first convolution; it doubles with every stride."""
    ratios: tuple[PositiveInt, ...] = (8, 4, 2)
    """Strides of the decoder in order; the encoder takes them reversed. Their product is the samples of a step."""
    kernel_size: PositiveInt = 5
    """Kernel of the first convolution, samples."""
    last_kernel_size: PositiveInt = 5
    """Kernel of the last convolution, steps (encoder) or samples (decoder)."""
    n_dim: PositiveInt = 256
    """Features of a latent."""
    n_neuro: PositiveInt = 16
    """Latent sources: learned queries that gather the sensors."""
    n_head: PositiveInt = 4
    """Heads of the attention between sensors and latent sources."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of attention weights dropped while training."""
    codebook_dim: PositiveInt = 256
    """Features of a code vector; where it differs from `n_dim`, latents are projected in and out."""
    codebook_size: int = Field(512, ge=2, le=65536)
    """Code vectors in a codebook."""
    num_quantizers: PositiveInt = 4
    """Codebooks, each quantising what the ones before left over."""
    rotation_trick: bool = True
    """Carry the gradient through the quantizer by rotation (arXiv 2410.06424); otherwise straight through."""
    hidden_ratio: float = Field(0.25, ge=0, lt=1)
    """Share of a sample's channels that the encoder doesn't see in a training step (at least one)."""
    noise_std: float = Field(0.1, ge=0)
    """Standard deviation of the noise added to what the encoder sees in a training step, in normalised units."""
    initialisation: Literal["emeg", "release"] = "emeg"
    """Start values: `emeg` keeps the signal's variance from layer to layer; `release` is the published code's start,
    from which a small model does not learn."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window_length % prod(self.ratios):
            raise ValueError(
                f"window_length {self.window_length} is no multiple of {prod(self.ratios)}, the ratios' product"
            )
        if self.n_dim % self.n_head:
            raise ValueError(f"n_dim {self.n_dim} cannot be dealt out to {self.n_head} heads")
        if self.n_dim % 2 or self.n_filters % 2:
            raise ValueError(f"n_dim ({self.n_dim}) and n_filters ({self.n_filters}) must be even")
        return self

    @property
    def steps_per_window(self) -> int:
        """Latent steps in a window."""
        return self.window_length // prod(self.ratios)

    @property
    def samples_per_step(self) -> int:
        """Samples behind one latent step."""
        return prod(self.ratios)


PRESETS: dict[str, BrainTokenizerConfig] = {
    "nano": BrainTokenizerConfig(n_filters=8, n_dim=64, codebook_dim=64, codebook_size=256),
    "paper": BrainTokenizerConfig(),
}
"""Sizes by name: `nano` learns in minutes on a laptop (319,866 parameters), `paper` is the published one (5.05 M)."""
