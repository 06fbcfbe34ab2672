"""Kinds of pooling over time, and which of them suits an encoder; without PyTorch."""

from typing import Literal, get_args

from emeg.config import Config

Pooling = Literal["mean", "mean_std", "log_std", "power", "mean_power"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
"""`mean` over steps; `mean_std`: mean and standard deviation; `log_std`: logarithm of the
standard deviation; `power`: log power of every feature over time in `N_BINS`
bands; `mean_power`: mean and power. All of them keep the sources apart."""
LATENT_POOLING: Pooling = "log_std"
"""Pooling that suits latents and their predictions, whose mean is near 0 whatever their power; chosen on validation
subjects (docs/explanation/study.md)."""


def pooling_of(config: Config) -> Pooling:
    """Return the pooling over time that suits an encoder: ``default_pooling`` of its configuration if it states one."""
    found: Pooling = getattr(config, "default_pooling", LATENT_POOLING)
    return found
