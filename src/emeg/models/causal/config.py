"""Configuration and presets of the causal transformer."""

from typing import Self

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
    code_tables: bool = False
    """Start from the counted shares of codes, and of pairs of codes, in training segments, which the network corrects.
    For tokens of latent sources, with `across_sources`."""
    overlap_ratio: float = Field(0.0, ge=0.0, le=0.0)
    """Share of a window that the next window repeats. 0: a repeated window would reveal what is to be predicted."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % (2 * self.n_head) or self.width // self.n_head < 8:
            raise ValueError(
                f"width {self.width} must be a multiple of {2 * self.n_head}, twice n_head, with 8 features a head"
            )
        if self.code_tables and not self.across_sources:
            raise ValueError("code_tables needs across_sources: true; set it, or leave code_tables out")
        return self


PRESETS: dict[str, CausalConfig] = {
    "nano": CausalConfig(code_tables=True),
    "nano-channels": CausalConfig(across_sources=False, context_tokens=256, linear_taps=32),
}
"""Configurations by name. `nano` fits tokenizers with latent sources: counted shares of codes and their correction.
`nano-channels` predicts each channel from its
own past, by a linear prediction and its correction, and fits tokens of single samples."""

PLUGIN = Plugin(
    CausalConfig, "emeg.models.causal.transformer:CausalTransformer", PRESETS, "Causal transformer", "next_token"
)
