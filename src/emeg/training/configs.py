"""Parameters and results of the training verbs; importing them loads no network library.

Fields declared by `recipe_field` have no default here: their values stand in the recipes (`emeg/recipes/*.yaml`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from emeg.config import Config, option, runtime_field
from emeg.data.sampling.plan import SamplingConfig
from emeg.training.recipes import FromRecipe, RecipeKind, merge_values, read_recipe, recipe_field
from emeg.training.scheduler_configs import KubernetesConfig, SlurmConfig

Precision = Literal["auto", "32-true", "bf16-mixed"]
NetworkValue = bool | int | float | str | tuple[int, ...]


class AdamWConfig(Config):
    """Settings of AdamW."""

    betas: tuple[float, float] = recipe_field()
    """Decay of the running means of the gradient and of its square."""
    eps: PositiveFloat = recipe_field()
    """Term added to AdamW's denominator."""
    weight_decay: float = recipe_field(ge=0.0)
    """Weight decay of matrices; norms, embeddings, heads and the quantizer have none."""
    gradient_clip: float = recipe_field(ge=0.0)
    """Largest norm of the gradient; 0 switches clipping off."""


class OptimiserConfig(AdamWConfig):
    """AdamW with a warm-up and a cosine schedule."""

    learning_rate: PositiveFloat = recipe_field()
    """Peak learning rate."""
    warmup: float = recipe_field(ge=0.0, le=1.0)
    """Share of the steps over which the learning rate rises."""
    start_factor: float = recipe_field(gt=0.0, le=1.0)
    """Factor on the learning rate at the first step."""
    final_factor: float = recipe_field(ge=0.0, le=1.0)
    """Factor on the learning rate at the last step."""


class TokenizerOptimiserConfig(OptimiserConfig):
    """AdamW for a BrainTokenizer."""

    quantizer_learning_rate: PositiveFloat = recipe_field()
    """Peak learning rate of the quantizer's projections; no effect where codebook and latent sizes agree."""


class TrainingConfig(FromRecipe):
    """Parameters of both trainings."""

    option_group: ClassVar[str] = "training"

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    recipe: str = runtime_field(..., group="training")
    """Recipe with the values of all other options: a name, or a .yaml file."""
    network: str = recipe_field(group="model")
    """Preset of the network's sizes."""
    overrides: dict[str, NetworkValue] = option({}, group="model")
    """Parameters of the network that differ from its preset."""
    from_model: str | None = option(None, group="model")
    """Model to begin from (also --from): a model of the store, a folder, or organisation/name on a hub. Default:
    initial weights."""
    transfer: bool = option(False, group="model")
    """Load only the weights of the other model whose names and shapes agree; the differences are recorded."""
    optimiser: OptimiserConfig = recipe_field()
    """Optimiser and learning rate."""
    steps: PositiveInt | None = None
    """Optimiser steps; replaces the recipe's epochs."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training segments; replaces the recipe's steps."""
    seed: int = Field(0, ge=0)
    """Seed of the initial weights and of every random draw in training."""
    precision: Precision = "auto"
    """Arithmetic; auto is bf16-mixed on a GPU that supports it, otherwise 32-true."""
    validate_every: PositiveInt = recipe_field()
    """Steps between two validations; the last step is always validated."""
    validation_segments: PositiveInt = 64
    """Segments in one validation, for each device and channel count."""
    final_segments: PositiveInt = 256
    """Segments for the final metrics, for each device and channel count."""
    keep: Literal["last", "best"] = recipe_field()
    """Weights that become the model: those of the last step, or those with the best validation."""
    log_every: PositiveInt = recipe_field(runtime=True, group="training")
    """Steps between two rows of the history."""
    tracking: Literal["tensorboard", "mlflow", "wandb", "none"] = runtime_field("tensorboard", group="training")
    """Tool that draws the curves of the metrics. Weights & Biases (wandb) works offline unless WANDB_MODE is online;
    MLflow logs to MLFLOW_TRACKING_URI. metrics.csv is written in any case."""
    probe_every: int = runtime_field(0, ge=0, group="training")
    """Steps between two linear probes of the network on validation subjects, with a task inferred from events; 0:
    none."""
    checkpoint_every: PositiveInt = recipe_field(runtime=True, group="training")
    """Steps between two checkpoints."""
    checkpoints: str | None = runtime_field(None, group="cluster")
    """Folder or URI for checkpoints that all machines can reach; default: the run's folder."""
    keep_checkpoints: PositiveInt = runtime_field(2, group="training")
    """Number of newest checkpoints to keep, besides the best weights."""
    checkpoint_in_background: bool = runtime_field(True)
    """Write checkpoints in a thread while the next steps run."""
    resume: Literal["auto", "never"] = runtime_field("auto", group="training")
    """auto: continue from the newest checkpoint of the same run; never: start again."""
    strategy: Literal["auto", "ddp", "fsdp2", "hybrid"] = runtime_field("auto")
    """How ranks share the network: a whole copy on each (ddp, auto), shards over all ranks (fsdp2), or shards over the
    ranks of each machine (hybrid)."""
    stall_after_s: PositiveFloat = runtime_field(600.0)
    """Seconds without a step after which a rank counts as lost and the run ends."""
    processes: PositiveInt = runtime_field(1, group="cluster")
    """Ranks on each machine; the ranks of all machines share the micro-batches of a step evenly."""
    launcher: Literal["local", "slurm", "kubernetes"] = runtime_field("local", group="cluster")
    """Where the ranks start: on this machine, or through a scheduler."""
    nodes: PositiveInt = runtime_field(1, group="cluster")
    """Machines; with launcher=local, start the same command on each."""
    rendezvous: str | None = runtime_field(None, group="cluster")
    """host:port of the first machine where several meet; schedulers fill it in."""
    slurm: SlurmConfig = runtime_field(SlurmConfig(), group="cluster")
    """Settings of launcher=slurm."""
    kubernetes: KubernetesConfig = runtime_field(KubernetesConfig(), group="cluster")
    """Settings of launcher=kubernetes."""
    gpu_memory_gib: PositiveFloat | None = runtime_field(None, group="cluster")
    """Memory of a GPU, GiB: micro-batches that do not fit by forecast are divided further, and the step stays the same.
    Default: the memory of this machine's GPU; 80 GB where a scheduler chooses the machine."""
    compile: bool = runtime_field(False)
    """Compile convolutions (tokenizer) or blocks (BrainOmni): minutes at the start, equal up to rounding."""
    checkpoint_activations: bool = runtime_field(False)
    """Recompute activations in the backward pass: less memory, about a third more time."""
    threads: int = runtime_field(0, ge=0)
    """CPU threads of one rank; 0: one for networks below a million parameters, otherwise PyTorch's default. Results are
    bitwise equal only at equal threads."""
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime_field("auto")
    """Device to train on."""
    deterministic: bool = runtime_field(False)
    """Use only operations that repeat bit for bit on a GPU, which are slower; a CPU repeats in any case."""
    run_dir: str | None = runtime_field(None)
    """Folder for work in progress; default: runs in the store, or a temporary folder if the store is a bucket."""
    launched: bool = runtime_field(True)
    """Train in a separate process; off: in the calling process, for debugging."""

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of steps of the whole run."""
        if self.epochs is not None:
            return max(1, round(self.epochs * steps_per_epoch))
        if self.steps is None:
            raise ValueError("steps and epochs: give exactly one of them")
        return self.steps


class TrainTokenizerConfig(TrainingConfig):
    """Parameters of the verb train-tokenizer."""

    recipe_kind: ClassVar[RecipeKind] = "tokenizer"

    recipe: str = runtime_field("braintokenizer-emeg-nano", group="training")
    """Recipe with the values of all other options: braintokenizer-emeg-nano, braintokenizer-emeg-base, braintokenizer
    (the paper), braintokenizer-nano (its small form), mulaw (tokens of single samples), kernels-nano (learned tokens of
    single samples), or a .yaml file."""
    tokenizer: str = option("braintokenizer", group="model")
    """Tokenizer to train: braintokenizer, kernels, mulaw, or the name under which a package registers another."""
    corpus: str | None = option(None, group="data")
    """Corpus to train on; default: the only one in the store."""
    optimiser: TokenizerOptimiserConfig = recipe_field()
    """Optimiser and learning rates."""
    sampling: SamplingConfig = recipe_field(group="data")
    """Contents of a step: batch budget, crop, micro-batches, mixture."""
    ramp_steps: int = recipe_field(ge=0)
    """Steps over which the L1, amplitude and phase losses rise to full weight."""
    late_channels: PositiveInt | None = option(None, group="data")
    """Channels of each training sample in the later steps, if they are more than `sampling.max_channels`. A step then
    shows fewer windows, so that it costs the same. Planar gradiometers need more of their neighbours."""
    late_from: float = option(0.5, ge=0.0, le=1.0, group="data")
    """Share of the steps after which `late_channels` applies."""

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result, without later ones that have their default."""
        return without_defaults(self, super().product_fields(), ("tokenizer", "late_channels", "late_from"))


class PretrainConfig(TrainingConfig):
    """Parameters of the verb pretrain."""

    recipe_kind: ClassVar[RecipeKind] = "encoder"

    recipe: str = runtime_field("brainomni-emeg-nano", group="training")
    """Recipe with the values of all other options: brainomni-emeg-nano, brainomni-tiny and brainomni-base (the paper),
    brainomni-nano (their small form), brainomni-window-nano (log power of windows), crossscale-nano, nexttoken-nano (a
    causal encoder), or a .yaml file."""
    encoder: str = option("brainomni", group="model")
    """Encoder to train: brainomni, causal, or the name under which a package registers another."""
    objective: str | None = option(None, group="model")
    """What it predicts: masked, next_token, or the name under which a package registers another; default: the objective
    that the encoder is made for."""
    objective_options: dict[str, NetworkValue] = option({}, group="model")
    """Parameters of the objective that differ from its defaults."""
    tokens: str | None = option(None, group="data")
    """Tokens to train on; default: the only ones in the store."""
    step_segments: PositiveInt | None = runtime_field(None, group="data")
    """Segments in a step over all ranks; default: micro_batches times batch_segments."""
    batch_segments: PositiveInt = recipe_field(group="data")
    """Largest number of segments in a micro-batch."""
    micro_batches: PositiveInt = recipe_field(group="data")
    """Least number of micro-batches in a step over all ranks; a multiple of it is used where the ranks need one."""
    weights: dict[str, NonNegativeFloat] = option({}, group="data")
    """Times an epoch shows each segment of a dataset or modality (eeg, meg, eeg+meg, ieeg); 1 where
    absent."""

    def product_fields(self) -> dict[str, Any]:
        """Return the fields that can change a result, without later ones that have their default."""
        return without_defaults(self, super().product_fields(), ("encoder", "objective", "objective_options"))


def without_defaults(config: Config, fields: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Leave out fields that have their default, so that products keep the names they had before the fields existed."""
    defaults = {name: type(config).model_fields[name].default for name in names}
    return {name: value for name, value in fields.items() if name not in defaults or value != defaults[name]}


def token_sampling(config: PretrainConfig, segment_s: float) -> SamplingConfig:
    """Return the sampling of a token set: its batches are counted in segments, whatever their channels.

    Parameters
    ----------
    config : PretrainConfig
    segment_s : float
        Length of a segment, s.
    """
    return SamplingConfig(
        seed=config.seed,
        budget_channel_seconds=config.batch_segments * segment_s,
        micro_batches=config.micro_batches,
        weights=config.weights,
    )


class TokenizeConfig(Config):
    """Parameters of the verb tokenize."""

    option_group: ClassVar[str] = "data"

    root: str = runtime_field(..., group="data")
    """Store: a folder or any fsspec URI."""
    corpus: str | None = option(None, group="data")
    """Corpus to tokenize; default: the only one in the store."""
    tokenizer: str | None = option(None, group="model")
    """Model of the tokenizer to use; default: the only one in the store."""
    overlap: float = Field(0.25, ge=0.0, lt=1.0)
    """Share of a window that the next window contains too."""
    batch_channel_seconds: PositiveFloat = runtime_field(4000.0)
    """Signal in one batch, channels times seconds; bounds memory."""
    workers: PositiveInt = runtime_field(1)
    """Processes; with several GPUs they take turns at them."""
    run_dir: str | None = runtime_field(None)
    """Folder for work in progress; default: runs in the store, or a temporary folder if the store is a bucket."""
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime_field("auto")
    """Device to compute on, always in float32: bf16 would change codes."""


class TrainResult(Config):
    """Result of a training."""

    model: str
    """Name of the model below <root>/models."""
    run: str
    """Name of the run below <root>/runs, which has checkpoints and logs."""
    steps: int
    """Optimiser steps taken."""
    seconds: float
    """Seconds of training, those before a resume included; 0 if the model existed before."""
    metrics: dict[str, float]
    """Final metrics: ``<split>/<name>``, ``<split>/<name>/<device>/<channels>``."""
    done_before: bool
    """Whether the model existed before."""
    job: str = ""
    """Scheduler's job that trains the model, or the file to submit; empty for a training on this machine."""


class TokenizeResult(Config):
    """Result of tokenizing a corpus."""

    tokens: str
    """Name of the tokens below <root>/tokens."""
    n_segments: int
    """Number of segments."""
    tokenizer: str
    """Model of the tokenizer that computed the codes."""
    corpus: str
    """Corpus that was tokenized."""
    done_before: bool
    """Whether the tokens existed before."""


class FinetuneRecipe(AdamWConfig):
    """How a classifier is fitted to one fold of a task."""

    mode: Literal["full", "lora", "probe"] = "full"
    """full: train encoder, backbone and head; lora: train the head and small factors beside the linear layers of the
    backbone; probe: logistic regression on frozen features."""
    backbone_learning_rates: tuple[PositiveFloat, ...] = recipe_field()
    """Learning rates of encoder and backbone to try; the best on the validation subjects is used."""
    head_factor: PositiveFloat = recipe_field()
    """Learning rate of the head as a multiple of the backbone's."""
    label_smoothing: float = recipe_field(ge=0.0, lt=1.0)
    """Share of the target that is spread over all classes."""
    head_dropout: float = recipe_field(ge=0.0, lt=1.0)
    """Dropout before the head."""
    epochs: PositiveInt = recipe_field()
    """Largest number of passes over the training windows."""
    patience: PositiveInt = recipe_field()
    """Epochs without a better validation after which training ends."""
    batch_size: PositiveInt = recipe_field()
    """Windows in a step."""
    max_channels: PositiveInt | None = recipe_field()
    """Channels of a window to use, spread evenly over the head; null for all."""
    standardise: bool = recipe_field()
    """Standardise the head's input over the training windows before training."""
    backbone_dropout: bool = recipe_field()
    """Use dropout in the backbone too; its noise swamps the nano networks."""
    pooling: Literal["mean", "mean_std", "log_std", "power", "mean_power", "attention"] | None = recipe_field()
    """Features of an embedding that the classifier reads: mean over time, mean and standard deviation, logarithm of the
    standard deviation, log power over time in 8 bands, mean and power, or (full only) learned attention. null: what
    suits the encoder, mean if its steps are windows and log_std otherwise."""
    layers: tuple[int, ...] = recipe_field()
    """Number of blocks behind each embedding to use. Several are averaged, with learned weights in full. Empty: the
    last but one."""
    penalties: tuple[PositiveFloat, ...] = recipe_field()
    """Inverse strengths C of the probe's penalty to try on the validation subjects."""
    overlap: float | None = recipe_field(ge=0.0, lt=1.0)
    """Share of a tokenizer window that the next window contains too. null: as the encoder was pretrained."""
    seed: int = Field(0, ge=0)
    """Seed of the head's weights, the order of windows and dropout."""

    @classmethod
    def of(cls, name: str = "finetune-nano", **changes: Any) -> "FinetuneRecipe":  # noqa: ANN401 - any field
        """Return the settings of a recipe, with some of them changed.

        Parameters
        ----------
        name : str
            Recipe: finetune-nano, finetune-paper, or a .yaml file.
        **changes
            Fields and their values.
        """
        return cls.checked(merge_values(cls, finetune_values(name), changes), source=f"recipe {name}")


class FinetuneFromRecipe(FromRecipe):
    """Base of a configuration that contains how a fold is fitted."""

    recipe_kind: ClassVar[RecipeKind] = "finetune"

    recipe: str = runtime_field("finetune-nano", group="training")
    """Recipe with the settings of a fit: finetune-nano, finetune-paper, or a .yaml file."""
    fit: FinetuneRecipe = recipe_field()
    """How a fold is fitted; the verb sets its mode and seed."""


def finetune_values(name: str) -> Mapping[str, Any]:
    """Read the values of a fine-tuning recipe.

    Raises
    ------
    UserError
        There is no such recipe.
    """
    values: Mapping[str, Any] = read_recipe(FinetuneFromRecipe, name)["fit"]
    return values
