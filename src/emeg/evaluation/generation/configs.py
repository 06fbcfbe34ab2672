"""Parameters and result of the verb ``generate``."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from emeg.config import Config, option, runtime_field


class GenerateConfig(Config):
    """Continue recordings of unseen subjects and compare the continuations with what was recorded."""

    option_group: ClassVar[str] = "generation"

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    model: str | None = option(None, group="model")
    """Model that predicts the next token; default: the only encoder of the store."""
    corpus: str | None = option(None, group="data")
    """Corpus whose subjects are used; default: the corpus the model was trained on."""
    recordings: PositiveInt = option(8, group="data")
    """Most recordings to continue, spread over the subjects."""
    split: Literal["held_out", "validation"] = option("held_out", group="data")
    """Subjects whose recordings are continued; choose temperature and top_p on those of validation."""
    datasets: tuple[str, ...] = option((), group="data")
    """Datasets whose recordings are continued; default: all of the corpus."""
    prompt_s: PositiveFloat = 10.0
    """Length of the prompt, s; rounded up to whole windows of the tokenizer."""
    continuation_s: PositiveFloat = 10.0
    """Length of the continuation, s; rounded up to whole windows of the tokenizer."""
    contexts_s: tuple[PositiveFloat, ...] = (1.0, 3.0, 10.0, 30.0, 60.0)
    """Lengths of further prompts for the controls, s. A length is left out where a recording is too short for it."""
    temperature: float = Field(1.0, ge=0)
    """Divides the logits before a code is drawn; 0 takes the most likely code."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the most likely codes whose probabilities together reach this value."""
    hold_scale: bool = False
    """Hold the scale of each channel's innovations at its average over the prompt. Otherwise the network changes it
    after its own draws, and a continuation may become weaker and weaker. For networks that correct a linear
    prediction."""
    ar_order: PositiveInt = 20
    """Largest order of the autoregressive linear model that is fitted to each prompt."""
    draws: PositiveInt = 1
    """Continuations of each prompt. Power, bursts and covariances are averaged over them before they are compared, so
    that chance makes smaller differences."""
    seed: int = Field(0, ge=0)
    """Seed of all draws."""
    examples: int = Field(2, ge=0)
    """Recordings whose signals the report draws."""
    threads: int = runtime_field(0, ge=0)
    """Threads; 0: one for networks below a million parameters, otherwise all cores."""
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime_field("auto")
    """Device to compute on."""


class GenerateResult(Config):
    """Summary of a generation."""

    evaluation: str
    """Name of the product below <root>/evaluations."""
    model: str
    """Model that continued the recordings."""
    n_recordings: int
    """Number of recordings."""
    metrics: dict[str, float]
    """Means over recordings, as ``<source>/<metric>``."""
    done_before: bool
    """Whether the product existed before."""
