"""Configuration and presets of the cross-scale encoder; loads no network library."""

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from emeg.config import Config
from emeg.plugins import Plugin


class CrossScaleConfig(Config):
    """Sizes and training settings of the encoder."""

    n_dim: PositiveInt = 256
    """Width."""
    n_head: PositiveInt = 8
    """Attention heads."""
    depth: int = Field(8, ge=2)
    """Blocks. The embedding is the output of the last but one."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the feed-forward outputs set to 0 in training."""
    step_kernels: tuple[PositiveInt, ...] = (1, 3, 5)
    """Lengths of the kernels over steps, odd. The first makes half of the features, the others share the rest."""
    region_widths: tuple[PositiveFloat, ...] = (0.2, 0.6, 1.8)
    """Widths of the kernels over the sensors of a region, in units of normalised positions (a cap has radius 1): a
    sensor and its neighbours, a part of the region, the whole region."""
    window_steps: PositiveInt = 8
    """Steps of a window. Attention between windows connects the steps that have the same offset in their windows."""
    overlap_ratio: float = Field(0.25, ge=0, lt=1)
    """Share of a tokenizer window that the next window repeats."""
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Probability that a token (source, step) is masked in pretraining."""
    scaled_features: bool = False
    """Multiply the tokenizer's features, which have length 1, by √n_dim of the tokenizer, the length of the source
    vectors that are added to them. Without it, the network sees little of the codes and learns more slowly."""
    num_quantizers_used: PositiveInt = 4
    """Number of codebooks, from the first on, whose codes are predicted."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n_dim % (4 * self.n_head):
            raise ValueError(f"n_dim {self.n_dim} must be a multiple of {4 * self.n_head}, four times n_head")
        if even := [length for length in self.step_kernels if length % 2 == 0]:
            raise ValueError(f"step_kernels: {even[0]} is even; use odd lengths, whose middle is the step itself")
        for name in ("step_kernels", "region_widths"):
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name}: {len(getattr(self, name))} scales; give three, from small to large")
        return self


PRESETS: dict[str, CrossScaleConfig] = {
    "nano": CrossScaleConfig(n_dim=64, n_head=4, depth=4, scaled_features=True),
    "base": CrossScaleConfig(scaled_features=True),
}
"""Configurations by name. `nano` trains in minutes on two cores."""

PLUGIN = Plugin(
    CrossScaleConfig, "emeg.models.crossscale.encoder:CrossScale", PRESETS, "cross-scale encoder", objective="masked"
)
