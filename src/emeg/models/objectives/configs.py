"""Parameters of the objectives, and what registers them; loads no network library."""

from pydantic import Field

from emeg.config import Config
from emeg.plugins import Plugin


class MaskedConfig(Config):
    """Prediction of masked tokens."""

    mask_ratio: float | None = Field(None, gt=0, lt=1)
    """Probability that a token (source, step) is masked; null for the ratio in the encoder's configuration."""


MASKED = Plugin(MaskedConfig, "emeg.models.objectives.masked:MaskedPrediction", {"default": MaskedConfig()}, "masked")
