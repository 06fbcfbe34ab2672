"""Configuration and presets of the causal transformer."""

from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from emeg.config import Config
from emeg.plugins import Plugin


class CausalConfig(Config):
    """Sizes of the causal transformer."""

    width: PositiveInt = 64
    """Features of a token."""
    n_head: PositiveInt = 4
    """Attention heads."""
    depth: int = Field(4, ge=2)
    """Blocks."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of feed-forward outputs set to 0 in training."""
    context_tokens: PositiveInt = 1024
    """Most tokens that are read together: longer segments are cropped in training and read in parts otherwise."""
    across_sources: bool = True
    """Flatten time, source and level into one sequence, so that a source is predicted from all sources; false: each
    source is predicted from its own past, which is faster and allows a longer context."""
    linear_taps: int = Field(0, ge=0)
    """Past samples of a channel in a linear prediction that adapts to the recording, and that the network corrects; 0:
    none. For tokens of single samples."""
    heavy_tail: bool = False
    """The linear prediction has innovations of a narrow and a wide normal distribution, fitted to training segments,
    instead of one normal distribution and a floor; the network changes the weight and the width of the wide one."""
    code_tables: bool = False
    """Start from the counted shares of codes, and of pairs of codes, in training segments, which the network corrects.
    Latent sources have shares of their own, channels share theirs."""
    latent_prediction: bool = False
    """Start from a linear prediction of each latent as well, from all sources one step earlier and from the sources
    before it at the same step. With `code_tables` and `across_sources`."""
    overlap_ratio: float = Field(0.0, ge=0.0, le=0.0)
    """Share of a window that the next window repeats. 0: a repeated window would reveal what is to be predicted."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % (2 * self.n_head) or self.width // self.n_head < 8:
            raise ValueError(
                f"width {self.width} must be a multiple of {2 * self.n_head}, twice n_head, with 8 features a head"
            )
        if self.heavy_tail and not self.linear_taps:
            raise ValueError("heavy_tail needs a linear prediction; set linear_taps, or leave heavy_tail out")
        if self.code_tables and self.linear_taps:
            raise ValueError(
                "code_tables and linear_taps are two starting points; set code_tables: false or linear_taps: 0"
            )
        if self.latent_prediction and not (self.code_tables and self.across_sources):
            raise ValueError(
                "latent_prediction needs code_tables: true and across_sources: true; set them, or leave it out"
            )
        return self

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result, without later ones that have their default.

        Models then keep the names that they had before these options existed.
        """
        later = ("heavy_tail", "latent_prediction")
        return {name: value for name, value in super().product_fields().items() if value or name not in later}


PRESETS: dict[str, CausalConfig] = {
    "nano": CausalConfig(code_tables=True, latent_prediction=True),
    "nano-channels": CausalConfig(across_sources=False, context_tokens=256, linear_taps=32),
    "nano-samples": CausalConfig(across_sources=False, context_tokens=256, code_tables=True),
}
"""Configurations by name. `nano` fits tokenizers with latent sources: counted shares of codes, a linear prediction of
latents, and their correction. `nano-channels` predicts each channel from its
own past, by a linear prediction and its correction, and fits µ-law tokens. `nano-samples` does so by counts, and fits
learned tokens of single samples."""

PLUGIN = Plugin(
    CausalConfig, "emeg.models.causal.transformer:CausalTransformer", PRESETS, "Causal transformer", "next_token"
)
