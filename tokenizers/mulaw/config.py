"""Configuration of µ-law tokens."""

from pydantic import Field, PositiveFloat, PositiveInt

from emeg.config import Config
from emeg.plugins import Plugin
from emeg.tokenizers.sizes import TokenizerSizes


class MuLawConfig(Config):
    """Scale of the codes."""

    n_codes: int = Field(128, ge=2, le=65536)
    """Codes, equal steps of the compressed amplitude."""
    mu: PositiveFloat = 255.0
    """Compression µ: amplitude y becomes sign(y) ln(1 + µ|y|) / ln(1 + µ)."""
    limit: PositiveFloat = 6.0
    """Largest amplitude, in standard deviations of the segment; larger ones are clipped."""
    window_length: PositiveInt = 256
    """Samples in a window of `reconstruct`; a signal is cut to whole windows."""

    @property
    def sizes(self) -> TokenizerSizes:
        """Sizes of codes and features."""
        return TokenizerSizes(None, 1, 1, self.n_codes, self.window_length, 1)


PLUGIN = Plugin(MuLawConfig, "emeg.tokenizers.mulaw.companding:MuLaw", {"default": MuLawConfig()}, "µ-law")
