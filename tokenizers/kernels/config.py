"""Configuration and presets of learned tokens of single samples."""

from pydantic import Field, PositiveFloat, PositiveInt

from emeg.config import Config
from emeg.plugins import Plugin
from emeg.tokenizers.sizes import TokenizerSizes


class KernelsConfig(Config):
    """Sizes of learned tokens of single samples."""

    n_codes: int = Field(128, ge=2, le=65536)
    """Codes, each with a kernel of its own."""
    kernel_length: PositiveInt = 10
    """Samples of a kernel."""
    width: PositiveInt = 128
    """Units of the recurrent layer that reads the signal."""
    temperature: PositiveFloat = 0.01
    """Divides squared distances to the kernels in training, where a sample may be a mixture of codes."""
    window_length: PositiveInt = 256
    """Samples after which the recurrent layer begins again; a signal is cut to whole windows."""

    @property
    def sizes(self) -> TokenizerSizes:
        """Sizes of codes and features."""
        return TokenizerSizes(None, self.kernel_length, 1, self.n_codes, self.window_length, 1)


PRESETS: dict[str, KernelsConfig] = {"default": KernelsConfig(), "nano": KernelsConfig(width=32)}
"""Configurations by name: the published sizes, and a smaller recurrent layer."""

PLUGIN = Plugin(KernelsConfig, "emeg.tokenizers.kernels.model:Kernels", PRESETS, "Learned kernels")
