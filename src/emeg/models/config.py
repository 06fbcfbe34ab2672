"""Configuration and presets of BrainOmni."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from emeg.config import Config
from emeg.models.readout.kinds import LATENT_POOLING, Pooling
from emeg.plugins import Plugin


class BrainOmniConfig(Config):
    """Sizes and training settings of the transformer. The defaults are those of the paper's tiny size."""

    lm_dim: PositiveInt = 256
    """Width. Half of it attends over time, half over latent sources."""
    lm_head: PositiveInt = 8
    """Attention heads, half of them over time and half over sources."""
    lm_depth: int = Field(12, ge=2)
    """Blocks. The embedding is the output of the last but one."""
    lm_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of attention weights and of feed-forward outputs set to 0 in training."""
    overlap_ratio: float = Field(0.25, ge=0, lt=1)
    """Share of a window that the next window repeats."""
    mask_ratio: float = Field(0.5, gt=0, lt=1)
    """Probability that a token (source, step) is masked in pretraining."""
    num_quantizers_used: PositiveInt = 4
    """Number of codebooks, from the first on, whose codes are predicted."""
    rotary: Literal["complex", "cosine"] = "complex"
    """Rotary positions of attention over time: `complex` rotates by an angle; `cosine` scales by its cosine, as the
    published checkpoints do, whose tables lost their imaginary part."""
    initialisation: Literal["emeg", "release"] = "emeg"
    """Initial weights: linear layers of standard deviation 1 / √inputs (`emeg`) or 0.02 (`release`)."""

    token: Literal["step", "window", "waveform"] = "step"
    """What the transformer reads of each source: the features of every latent step, as in the paper (`step`), or the
    log power in every window of the tokenizer, of the features (`window`) or of the waveform of the source in bands of
    2 Hz (`waveform`, which needs a tokenizer with a leadfield). Power changes slowly and has no phase, so it can be
    predicted where codes cannot; masked prediction then predicts it instead of codes."""

    scaled_features: bool = False
    """Multiply the tokenizer's features, which have length 1, by √n_dim of the tokenizer, the length of the source
    vectors that are added to them. Published checkpoints do not, and see little of the codes. Only with
    `token` step."""

    @property
    def default_pooling(self) -> Pooling:
        """Pooling over time that suits the features. Log powers of windows have no phase: their mean is not near 0."""
        return LATENT_POOLING if self.token == "step" else "mean"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lm_head % 2:
            raise ValueError(f"lm_head is {self.lm_head}: it must be even, because half of the heads attend over time")
        if self.lm_dim % (2 * self.lm_head):
            raise ValueError(f"lm_dim {self.lm_dim} must be a multiple of {2 * self.lm_head}, twice lm_head")
        if self.scaled_features and self.token != "step":
            raise ValueError("scaled_features has no effect on tokens of windows; set it to false, or token to step")
        return self

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result, without `token` and `scaled_features` if they have their default.

        Models then keep the names that they had before these options existed.
        """
        later = {"token": "step", "scaled_features": False}
        fields = super().product_fields()
        return {name: value for name, value in fields.items() if name not in later or value != later[name]}


PRESETS: dict[str, BrainOmniConfig] = {
    "nano": BrainOmniConfig(lm_dim=64, lm_head=4, lm_depth=4),
    "emeg-nano": BrainOmniConfig(lm_dim=64, lm_head=4, lm_depth=4, scaled_features=True),
    "nano-window": BrainOmniConfig(lm_dim=64, lm_head=4, lm_depth=4, overlap_ratio=0.0, token="window"),
    "nano-waveform": BrainOmniConfig(lm_dim=64, lm_head=4, lm_depth=4, overlap_ratio=0.0, token="waveform"),
    "tiny": BrainOmniConfig(),
    "base": BrainOmniConfig(lm_dim=512, lm_head=16),
}
"""Configurations by name. `nano`, `emeg-nano`, `nano-window` and `nano-waveform` fit the nano tokenizers. `tiny` (8.42
M parameters) and `base` (32.7 M) are the sizes of the paper and fit its tokenizer."""

PLUGIN = Plugin(BrainOmniConfig, "emeg.models.brainomni:BrainOmni", PRESETS, "BrainOmni", objective="masked")
