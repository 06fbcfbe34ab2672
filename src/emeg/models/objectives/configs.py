"""Parameters of the objectives, and what registers them; loads no network library."""

from typing import Literal

from pydantic import Field

from emeg.config import Config
from emeg.plugins import Plugin


class MaskedConfig(Config):
    """Prediction of masked tokens: their codes, or the log power of their window if the encoder has `token` window."""

    mask_ratio: float | None = Field(None, gt=0, lt=1)
    """Probability that a token (source, step) is masked; null for the ratio in the encoder's configuration."""
    mask_by: Literal["token", "region"] = "token"
    """What is masked: single tokens, or all tokens of the sensors of whole brain regions. Regions need a tokenizer
    whose sources are channels; for others, hide regions while the tokenizer is trained (hidden_by region)."""


MASKED = Plugin(MaskedConfig, "emeg.models.objectives.masked:MaskedPrediction", {"default": MaskedConfig()}, "masked")


class NextTokenConfig(Config):
    """Prediction of the next token."""

    corruption: float = Field(0.0, ge=0, lt=1)
    """Share of latent steps whose codes are replaced by random ones in the input, in training only, so that the network
    learns to recover from its own errors."""


NEXT_TOKEN = Plugin(
    NextTokenConfig,
    "emeg.models.objectives.next_token:NextTokenPrediction",
    {"default": NextTokenConfig()},
    "next token",
)
