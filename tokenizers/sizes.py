"""Sizes of a tokenizer; loads no network library."""

from typing import NamedTuple


class TokenizerSizes(NamedTuple):
    """Sizes that encoders, stores and reports need to know of a tokenizer."""

    n_sources: int | None
    """Latent sources of a signal; None if each channel is a source."""
    n_dim: int
    """Features of a latent."""
    n_levels: int
    """Codes of a source at a latent step."""
    n_codes: int
    """Codes to choose from at each level, at most 65,536."""
    window_length: int
    """Samples that are encoded together."""
    samples_per_step: int
    """Samples in a latent step; a divisor of `window_length`."""

    @property
    def steps_per_window(self) -> int:
        """Latent steps in a window."""
        return self.window_length // self.samples_per_step
