"""Parameters and results of the verbs; importing them loads no network library."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from emeg.config import Config, option, runtime_field
from emeg.data.tasks.definition import TaskConfig
from emeg.training.configs import FinetuneFromRecipe

Mode = Literal["full", "probe"]
Device = Literal["auto", "cpu", "cuda", "mps"]


class FinetuneConfig(FinetuneFromRecipe):
    """Fine-tune and probe a BrainOmni on a task, fold by fold, over people whom its corpus holds out."""

    option_group: ClassVar[str] = "training"

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    model: str | None = option(None, group="model")
    """BrainOmni to use; may be left out where the store holds one only."""
    corpus: str | None = option(None, group="data")
    """Corpus whose held-out people take part. None: the one that the model was trained on."""
    task: TaskConfig | None = None
    """What to tell apart. None: found from the events of the held-out people."""
    modes: tuple[Mode, ...] = ("full", "probe")
    """full: encoder, backbone and head are trained; probe: logistic regression on frozen features."""
    random_weights: bool = True
    """Do the same with the same network from random weights: what pretraining is worth."""
    n_folds: PositiveInt = Field(5, ge=2)
    """Folds. Every person is tested once; with fewer people than folds, a fold a person."""
    seed: int = Field(0, ge=0)
    """Seed of the folds, of random weights and of every draw while training."""
    channel_seconds: PositiveFloat | None = 30_000.0
    """Signal, channels times seconds, that one full fit may read for training: where all learning rates and epochs of
    the recipe would take more, they are fewer. None: the recipe as it is."""
    threads: int = runtime_field(0, ge=0)
    """Threads, 0: as the machine has it. Results are equal bit for bit at equal threads only."""
    device: Device = runtime_field("auto")
    """Where to compute."""

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result; `fit` under the name that it has in stored products."""
        fields = super().product_fields()
        fields["recipe"] = fields.pop("fit")
        return fields

    @classmethod
    def _completed(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(given.get("recipe"), Mapping):  # the fields of a stored product
            given = {**given, "fit": given["recipe"], "recipe": None}
        return super()._completed(given)


class FinetuneResult(Config):
    """What fine-tuning made."""

    model: str
    """Name of the product below <root>/models."""
    task: str
    """Name of the task."""
    n_subjects: int
    """People who took part."""
    n_windows: int
    """Windows, all of which are tested once."""
    n_folds: int
    """Folds."""
    metrics: dict[str, float]
    """Mean over folds: ``<weights>/<mode>/balanced_accuracy``."""
    done_before: bool
    """The product was there before."""


class EvaluateConfig(Config):
    """Put a fine-tuned model's figures beside chance and classical baselines; judge its tokenizer on unseen people."""

    option_group: ClassVar[str] = "evaluation"

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    finetuned: str | None = option(None, group="model")
    """Fine-tuned model. None: the only one; where there is none, the page has no task table and says why."""
    model: str | None = option(None, group="model")
    """BrainOmni to judge where nothing was fine-tuned; may be left out where the store holds one only."""
    corpus: str | None = option(None, group="data")
    """Corpus with the unseen people. None: the one that the model was trained on."""
    baselines: tuple[Literal["band_power", "tangent_space", "chance"], ...] = ("band_power", "tangent_space", "chance")
    """What the model is compared with."""
    segments_per_device: PositiveInt = 32
    """Held-out segments to reconstruct for each device, spread over its people."""
    n_examples: int = Field(6, ge=0)
    """Stretches kept as signal and reconstruction, the devices taking turns."""
    example_channels: PositiveInt = 4
    """Channels of an example."""
    seed: int = Field(0, ge=0)
    """Seed of the choice of segments and examples."""
    threads: int = runtime_field(0, ge=0)
    """Threads, 0: as the machine has it. Results are equal bit for bit at equal threads only."""
    device: Device = runtime_field("auto")
    """Where to compute."""


class EvaluateResult(Config):
    """What evaluating made."""

    evaluation: str
    """Name of the product below <root>/evaluations."""
    finetuned: str
    """The fine-tuned model, empty where there is none."""
    task_missing_reason: str
    """Why there is no task table, empty where there is one."""
    metrics: dict[str, float]
    """``<contestant>/balanced_accuracy`` (mean over folds), ``reconstruction/<device>/pcc``."""
    done_before: bool
    """The product was there before."""
