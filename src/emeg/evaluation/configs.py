"""Parameters and results of ``finetune`` and ``evaluate``; importing them loads no network library."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from emeg.config import Config, option, runtime_field
from emeg.data.tasks.definition import TaskConfig
from emeg.training.configs import FinetuneFromRecipe

Mode = Literal["full", "lora", "probe"]
Device = Literal["auto", "cpu", "cuda", "mps"]
SplitMode = Literal["strict", "paper_compat"]

SEEDS = (0, 1, 2)
"""Seeds of an evaluation over tasks."""


class FinetuneConfig(FinetuneFromRecipe):
    """Fine-tune and probe an encoder on a task, fold by fold, on subjects that its corpus holds out."""

    option_group: ClassVar[str] = "training"

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    model: str | None = option(None, group="model")
    """Encoder to begin from (also --from): a model of the store, or a folder or organisation/name on a hub, which is
    copied into the store. Default: the only one in the store."""
    corpus: str | None = option(None, group="data")
    """Corpus whose held-out subjects are used; default: the corpus the model was trained on."""
    task: TaskConfig | None = None
    """Task to fit; default: inferred from the events of the held-out subjects."""
    modes: tuple[Mode, ...] = ("full", "probe")
    """full: train encoder, backbone and head; lora: train the head and small factors beside the linear layers of the
    backbone; probe: logistic regression on frozen features."""
    random_weights: bool = True
    """Also fit the same network from random weights, to measure what pretraining adds."""
    n_folds: PositiveInt = Field(5, ge=2)
    """Number of folds; every subject is tested once."""
    seed: int = Field(0, ge=0)
    """Seed of the folds, the random weights and every draw in training."""
    channel_seconds: PositiveFloat | None = 30_000.0
    """Most signal, channels × seconds, that a full fit reads; more reduces epochs and learning rates."""
    workers: PositiveInt = runtime_field(1)
    """Processes that fit folds at the same time; the results are equal for any number."""
    threads: int = runtime_field(0, ge=0)
    """Threads of each process; 0: one for networks below a million parameters, otherwise all cores. Results are equal
    bit for bit only with equal threads."""
    device: Device = runtime_field("auto")
    """Device to compute on."""

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
    """Summary of a fine-tuning."""

    model: str
    """Name of the product below <root>/models."""
    task: str
    """Name of the task."""
    n_subjects: int
    """Subjects of the task."""
    n_windows: int
    """Windows; each is tested once."""
    n_folds: int
    """Number of folds."""
    metrics: dict[str, float]
    """Mean over folds, as ``<weights>/<mode>/balanced_accuracy``."""
    done_before: bool
    """Whether the product existed before."""


class EvaluateConfig(FinetuneFromRecipe):
    """Compare a fine-tuned model with chance and classical baselines, and its reconstructions with the signal."""

    option_group: ClassVar[str] = "evaluation"

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    finetuned: str | None = option(None, group="model")
    """Fine-tuned model; default: the only one. Without one there is no task table."""
    model: str | None = option(None, group="model")
    """Encoder to evaluate if nothing was fine-tuned; not needed if the store holds only one."""
    corpus: str | None = option(None, group="data")
    """Corpus with the unseen subjects; default: the corpus the model was trained on."""
    baselines: tuple[Literal["band_power", "tangent_space", "chance"], ...] = ("band_power", "tangent_space", "chance")
    """Classical baselines to compare with."""
    segments_per_device: PositiveInt = 32
    """Held-out segments to reconstruct per device, spread over its subjects."""
    n_examples: int = Field(6, ge=0)
    """Examples of signal and reconstruction to keep, devices alternating."""
    example_channels: PositiveInt = 4
    """Channels of each example."""
    seed: int = Field(0, ge=0)
    """Seed of the choice of segments and examples."""
    threads: int = runtime_field(0, ge=0)
    """Threads; 0: one for networks below a million parameters, otherwise all cores. Results are equal bit for bit only
    with equal threads."""
    device: Device = runtime_field("auto")
    """Device to compute on."""
    tasks: tuple[str, ...] = option((), group="tasks")
    """Tasks to compare models on: names (`emeg tasks` lists them), YAML files, or all for every task that can run on
    the store. If given, the options below apply, and those of the fine-tuned model and its reconstruction do not."""
    seeds: tuple[NonNegativeInt, ...] = option(SEEDS, group="tasks", min_length=1)
    """Seeds of folds, random weights and fits."""
    modes: tuple[Literal["frozen", "lora", "full"], ...] = option(("frozen",), group="tasks", min_length=1)
    """Ways to use a network. frozen: read out its features; lora: train the head and small factors beside the linear
    layers of the backbone; full: train encoder, backbone and head. lora and full train one network for each setting,
    seed and fold, by `recipe` and `fit`."""
    read_outs: tuple[Literal["logistic", "ridge"], ...] = option(("logistic",), group="tasks")
    """Read-outs of a network's frozen features in tasks with classes."""
    rivals: tuple[str, ...] = option(("chance", "band_power", "tangent_space"), group="tasks")
    """Models to compare with, by name; all for every one that can run. Tasks of kind encoding are always compared with
    those that predict responses from the stimuli: chance, low_level, previous_stimulus, time."""
    budget: PositiveInt = option(6, group="tasks")
    """Largest number of settings that each model may choose from on validation."""
    split_mode: SplitMode = option("strict", group="tasks")
    """strict: the split rule of each task; paper_compat: the folds of the reference release."""
    pooling: Literal["mean", "mean_std", "log_std", "power", "mean_power"] | None = option(None, group="tasks")
    """Features of an embedding that the read-out sees. null: what suits the network, mean if its steps are windows and
    log_std otherwise."""
    layers: tuple[NonNegativeInt, ...] = option((), group="tasks")
    """Numbers of blocks behind the embeddings to average; empty: the last but one."""
    random_weights: bool = option(True, group="tasks")
    """Also evaluate the same network with random weights."""
    permuted_labels: bool = option(True, group="tasks")
    """Also evaluate the network on permuted labels."""
    probes: bool = option(True, group="tasks")
    """Also probe what the network's features hold: subject, device, spectrum, each layer. Each task embeds up to 240
    windows a dozen times."""
    workers: int = runtime_field(0, ge=0)
    """Processes that share the cells of the tasks; 0: one for each core."""

    @field_validator("tasks", "seeds", "modes", "read_outs", "rivals")
    @classmethod
    def _named_once(cls, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Leave out what was given twice: it would be counted as another seed or model."""
        return tuple(dict.fromkeys(given))

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result: with tasks those of the grid, without those of one task."""
        fields = super().product_fields()
        of_both = {"model"}
        if set(self.modes) == {"frozen"}:  # nothing is trained
            del fields["fit"]
        return {
            name: value for name, value in fields.items() if name in of_both or (name in _OF_GRID) == bool(self.tasks)
        }


_OF_GRID = frozenset(
    {
        "tasks",
        "seeds",
        "modes",
        "fit",
        "read_outs",
        "rivals",
        "budget",
        "split_mode",
        "pooling",
        "layers",
        "random_weights",
        "permuted_labels",
        "probes",
    }
)
"""Fields that only an evaluation over tasks uses."""


class EvaluateResult(Config):
    """Summary of an evaluation."""

    evaluation: str
    """Name of the product below <root>/evaluations."""
    finetuned: str
    """Fine-tuned model, empty if there is none."""
    task_missing_reason: str
    """Why there is no task table; empty if there is one."""
    metrics: dict[str, float]
    """``<model>/balanced_accuracy`` (mean over folds), ``reconstruction/<device>/pcc``."""
    done_before: bool
    """Whether the product existed before."""
