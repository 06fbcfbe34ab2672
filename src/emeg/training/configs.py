"""Parameters and results of the training verbs; importing them loads no network library.

Defaults are the small ``nano`` recipes. ``recipe`` names another file of `emeg.recipes` (or a YAML file of one's own):
what it holds takes the place of the defaults, what the caller gives wins over both.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from emeg.config import Config, runtime_field
from emeg.data.sampling.plan import SamplingConfig
from emeg.errors import UserError
from emeg.training.scheduler_configs import KubernetesConfig, SlurmConfig

Precision = Literal["auto", "32-true", "bf16-mixed"]
NetworkValue = bool | int | float | str | tuple[int, ...]


class OptimiserConfig(Config):
    """AdamW with warm-up and cosine."""

    learning_rate: PositiveFloat = 2e-3
    """Peak learning rate."""
    quantizer_learning_rate: PositiveFloat = 3e-4
    """Peak learning rate of the quantiser's projections (there are none where codebook and latent sizes agree)."""
    betas: tuple[float, float] = (0.5, 0.9)
    """Decay of the gradient's mean and of its square."""
    eps: PositiveFloat = 1e-8
    """Floor of the denominator."""
    weight_decay: float = Field(0.01, ge=0.0)
    """On matrices only: norms, embeddings, heads and the quantiser have none."""
    warmup: float = Field(0.02, ge=0.0, le=1.0)
    """Share of the steps over which the learning rate rises."""
    start_factor: float = Field(0.1, gt=0.0, le=1.0)
    """Factor on the learning rate at the first step."""
    final_factor: float = Field(0.05, ge=0.0, le=1.0)
    """Factor on the learning rate at the last step."""
    gradient_clip: float = Field(1.0, ge=0.0)
    """Largest norm of the gradient; 0 leaves it as it is."""


class _Recipe(Config):
    """Fields that a recipe file may fill in."""

    recipe_kind: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _take_recipe(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        name = given.get("recipe", cls.model_fields["recipe"].default)
        recipe = read_recipe(cls.recipe_kind, str(name))
        if "steps" in given and "epochs" not in given:
            recipe.pop("epochs", None)  # a number of steps that the caller asks for is meant
        return _merged(recipe, given)


def read_recipe(kind: str, name: str) -> dict[str, Any]:
    """Read ``<name>.yaml`` of `emeg.recipes`, or the file `name` where it ends in ``.yaml``.

    Raises
    ------
    UserError
        There is no such recipe, it is for another `kind` of network, or it is not a mapping.
    """
    shelf = resources.files("emeg") / "recipes"
    known = sorted(entry.name.removesuffix(".yaml") for entry in shelf.iterdir() if entry.name.startswith(kind))
    is_own = name.endswith((".yaml", ".yml"))
    file = Path(name) if is_own else shelf / f"{name}.yaml"
    if not file.is_file() or not (is_own or name in known):
        raise UserError(f"recipe {name!r}: there is no such recipe; known are {', '.join(known)}, or give a .yaml file")
    recipe = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if not isinstance(recipe, dict):
        raise UserError(f"{file}: a recipe is a mapping of parameters, found {type(recipe).__name__}")
    return recipe


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


class TrainingConfig(_Recipe):
    """What both trainings share."""

    root: str = runtime_field(...)
    """Store: a folder or any fsspec URI."""
    recipe: str = runtime_field(...)
    """Recipe whose values are the defaults: a name, or a .yaml file."""
    network: str = "nano"
    """Preset of the network's sizes."""
    overrides: dict[str, NetworkValue] = Field(default_factory=dict)
    """Parameters of the network that differ from its preset."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """Optimiser and learning rate."""
    steps: PositiveInt = 1500
    """Optimiser steps."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training segments; where given, it sets the number of steps."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights and of every draw while training."""
    precision: Precision = "auto"
    """Arithmetic: auto is bf16-mixed on a GPU that has it, otherwise 32-true."""
    validate_every: PositiveInt = 250
    """Steps between two validations; there is one at the end besides."""
    validation_segments: PositiveInt = 64
    """Segments looked at in one validation, for each device and channel count."""
    final_segments: PositiveInt = 256
    """Segments looked at for the final figures, for each device and channel count."""
    keep: Literal["last", "best"] = "last"
    """Which weights become the model: those of the last step, or those that validated best."""
    log_every: PositiveInt = runtime_field(10)
    """Steps between two lines of the history."""
    checkpoint_every: PositiveInt = runtime_field(250)
    """Steps between two checkpoints."""
    checkpoints: str | None = runtime_field(None)
    """Folder or any fsspec URI that all nodes reach, for the checkpoints; default: in the folder of the run."""
    keep_checkpoints: PositiveInt = runtime_field(2)
    """Newest checkpoints that are kept, besides the best weights."""
    checkpoint_in_background: bool = runtime_field(True)
    """Write checkpoints in a thread, while the next steps run."""
    resume: Literal["auto", "never"] = runtime_field("auto")
    """auto: go on from the newest checkpoint of the same run; never: start anew."""
    strategy: Literal["auto", "ddp", "fsdp2"] = runtime_field("auto")
    """How ranks share the network: whole on each (ddp, auto), or in shards (fsdp2). Rounding apart, results agree."""
    stall_after_s: PositiveFloat = runtime_field(600.0)
    """Seconds without a step after which a rank counts as lost: the run ends, and names it."""
    processes: PositiveInt = runtime_field(1)
    """Ranks on each machine; over all machines they must divide the micro-batches of a step."""
    launcher: Literal["local", "slurm", "kubernetes"] = runtime_field("local")
    """local: train here, by torchrun where there are several ranks; slurm, kubernetes: hand the run to a scheduler."""
    nodes: PositiveInt = runtime_field(1)
    """Machines; with launcher=local, the same command is started on each."""
    rendezvous: str | None = runtime_field(None)
    """host:port of the first machine, where several meet; schedulers fill it in."""
    slurm: SlurmConfig = runtime_field(SlurmConfig())
    """How the run is handed to Slurm."""
    kubernetes: KubernetesConfig = runtime_field(KubernetesConfig())
    """How the run is handed to Kubeflow."""
    compile: bool = runtime_field(False)
    """Compile convolutions (tokenizer) or blocks (BrainOmni) when they first run: minutes; equal up to rounding."""
    checkpoint_activations: bool = runtime_field(False)
    """Keep fewer activations for the way back and compute them twice: less memory, about a third more time."""
    threads: int = runtime_field(0, ge=0)
    """Threads of one rank, 0: as the machine has it. Results are equal bit for bit at equal threads only."""
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime_field("auto")
    """Where to train."""
    run_dir: str | None = runtime_field(None)
    """Folder of the work in progress; default <root>/runs, or a temporary folder where the root is a bucket."""
    launched: bool = runtime_field(True)
    """Train in a process of its own; off: in the calling process, for debugging."""

    def total_steps(self, steps_per_epoch: int) -> int:
        """Count the steps of the whole run."""
        return self.steps if self.epochs is None else max(1, round(self.epochs * steps_per_epoch))


class TrainTokenizerConfig(TrainingConfig):
    """Train a BrainTokenizer on a corpus."""

    recipe_kind: ClassVar[str] = "braintokenizer"

    recipe: str = runtime_field("braintokenizer-nano")
    """Recipe whose values are the defaults: braintokenizer (the paper's), braintokenizer-nano, or a .yaml file."""
    corpus: str | None = None
    """Corpus to train on; may be left out where the store holds one only."""
    sampling: SamplingConfig = SamplingConfig(
        budget_channel_seconds=304.0, crop_s=2.0, max_channels=16, weights={"meg": 3.0}
    )
    """What a step sees: budget, crop, micro-batches, mixture."""
    ramp_steps: int = Field(300, ge=0)
    """Steps over which the L1, amplitude and phase terms come in; without it the network stays on a plateau."""


class PretrainConfig(TrainingConfig):
    """Train BrainOmni on stored tokens."""

    recipe_kind: ClassVar[str] = "brainomni"

    recipe: str = runtime_field("brainomni-nano")
    """Recipe whose values are the defaults: brainomni-tiny, brainomni-base (the paper's), brainomni-nano, or a .yaml
    file."""
    tokens: str | None = None
    """Tokens to train on; may be left out where the store holds one set only."""
    optimiser: OptimiserConfig = OptimiserConfig(
        learning_rate=1e-3, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.05, warmup=0.1, final_factor=0.1
    )
    """Optimiser and learning rate."""
    batch_segments: PositiveInt = 8
    """Segments in a micro-batch."""
    micro_batches: PositiveInt = 1
    """Micro-batches in a step."""
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """How often an epoch shows each segment of a dataset or modality (eeg, meg, eeg+meg). Absent: once."""
    steps: PositiveInt = 300
    """Optimiser steps."""
    validate_every: PositiveInt = 50
    """Steps between two validations; there is one at the end besides."""
    keep: Literal["last", "best"] = "best"
    """Which weights become the model: those of the last step, or those that validated best."""


class TokenizeConfig(Config):
    """Write the codes of a corpus, once."""

    root: str = runtime_field(...)
    """Store: a folder or any fsspec URI."""
    corpus: str | None = None
    """Corpus to tokenize; may be left out where the store holds one only."""
    tokenizer: str | None = None
    """BrainTokenizer to use; may be left out where the store holds one only."""
    overlap: float = Field(0.25, ge=0.0, lt=1.0)
    """Share of a window that its successor sees too."""
    batch_channel_seconds: PositiveFloat = runtime_field(4000.0)
    """Work in one batch, channels times seconds: bounds memory."""
    workers: PositiveInt = runtime_field(1)
    """Processes; with several GPUs they take turns at them."""
    run_dir: str | None = runtime_field(None)
    """Folder of the work in progress; default <root>/runs, or a temporary folder where the root is a bucket."""
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime_field("auto")
    """Where to compute; always in float32, since bf16 would change codes."""


class TrainResult(Config):
    """What a training made."""

    model: str
    """Name of the product below <root>/models."""
    run: str
    """Name of the work below <root>/runs: checkpoints, logs."""
    steps: int
    """Optimiser steps taken."""
    seconds: float
    """Seconds of training, those before a resume included; 0 where the model was there before."""
    metrics: dict[str, float]
    """Final figures: ``<split>/<name>``, ``<split>/<name>/<device>/<channels>``."""
    done_before: bool
    """The model was there before."""
    job: str = ""
    """Scheduler's job that trains the model, or the file to submit; empty where it was trained here."""


class TokenizeResult(Config):
    """What tokenizing made."""

    tokens: str
    """Name of the product below <root>/tokens."""
    n_segments: int
    """Segments in it."""
    tokenizer: str
    """Model that made the codes."""
    corpus: str
    """Corpus that was read."""
    done_before: bool
    """The tokens were there before."""


class FinetuneRecipe(Config):
    """How a classifier is fitted to one fold of a task."""

    mode: Literal["full", "probe"] = "full"
    """full: encoder, backbone and head are trained; probe: logistic regression on frozen features."""
    backbone_learning_rates: tuple[PositiveFloat, ...] = (3e-5, 1e-5)
    """Learning rates of encoder and backbone to choose from, by balanced accuracy on the validation people."""
    head_factor: PositiveFloat = 30.0
    """Learning rate of the head, in units of the backbone's."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the gradient's mean and of its square."""
    eps: PositiveFloat = 1e-6
    """Floor of the denominator."""
    weight_decay: float = Field(0.05, ge=0.0)
    """On matrices only."""
    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    """Share of the target spread over all classes."""
    head_dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """Dropout before the head."""
    epochs: PositiveInt = 10
    """Passes over the training windows, at most."""
    patience: PositiveInt = 4
    """Epochs without a better balanced accuracy on validation after which training ends."""
    batch_size: PositiveInt = 16
    """Windows in a step."""
    max_channels: PositiveInt | None = 16
    """Windows of more channels are thinned to so many, evenly over the head, the same ones each time, in training,
    validation and test. None: all."""
    standardise: bool = True
    """Give the head embeddings whose mean and spread over the training windows are 0 and 1, before training."""
    backbone_dropout: bool = False
    """Dropout in the backbone too. In the nano networks its noise is far above what differs between windows."""
    gradient_clip: float = Field(1.0, ge=0.0)
    """Largest norm of the gradient; 0 leaves it as it is."""
    penalties: tuple[PositiveFloat, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """Inverse strengths C of the probe's penalty to choose from, on the validation people."""
    overlap: float = Field(0.25, ge=0.0, lt=1.0)
    """Share of a tokenizer window that its successor sees too."""
    seed: int = Field(0, ge=0)
    """Seed of the head's weights, the order of windows and dropout."""
