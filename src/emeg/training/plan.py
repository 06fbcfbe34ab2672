"""The verb ``plan``: compute what a training will read and need, before it is launched."""

from pydantic import PositiveFloat, PositiveInt

from emeg.config import Config, option
from emeg.data.corpus.corpus import Corpus
from emeg.data.reading.forecast import Forecast, forecast
from emeg.data.sampling.plan import SamplingPlan
from emeg.errors import UserError
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.training.configs import PretrainConfig, TrainTokenizerConfig, token_sampling
from emeg.training.division import divide, fit_memory
from emeg.training.product_names import with_sensor_kinds
from emeg.training.recipes import kind_of
from emeg.training.scaling import SEGMENT_S, GpuForecast, forecast_training

MIB, GIB = 2**20, 2**30


class PlanConfig(Config):
    """Parameters of the verb plan."""

    root: str = option(group="data")
    """Store: a folder or any fsspec URI."""
    recipe: str = "braintokenizer-emeg-nano"
    """Recipe of the training: braintokenizer, braintokenizer-nano, brainomni-tiny, …, or a .yaml file."""
    corpus: str | None = option(None, group="data")
    """Corpus to train on; default: the only one in the store."""
    micro_batches: PositiveInt | None = None
    """Least number of micro-batches of a step, in place of the recipe's."""
    ranks: PositiveInt = 1
    """Processes that train together, on all nodes."""
    nodes: PositiveInt = 1
    """Machines that the processes are spread over."""
    memory_gib: PositiveFloat = 80.0
    """Memory of a GPU, GiB. Micro-batches that do not fit it are divided further."""
    bandwidth_mib_s: PositiveFloat | None = None
    """Bandwidth between the store and one machine, MiB/s."""
    gpus: PositiveInt | None = None
    """GPUs to forecast steps for, besides 1, 8, 64 and 512; without it, there is no such forecast."""
    step_s: PositiveFloat | None = None
    """Seconds that a step is expected to take."""


class PlanResult(Config):
    """Forecast of an epoch on these ranks."""

    corpus: str
    """Corpus that is read."""
    steps_per_epoch: int
    """Steps of an epoch, the same on every rank."""
    segments_per_epoch: int
    """Segments shown, repeats counted."""
    micro_batches: int
    """Micro-batches of a step, over all ranks."""
    batches: dict[str, int]
    """Micro-batches of an epoch by channel count; tokens have none."""
    batches_per_rank: int
    """Micro-batches of an epoch that each rank gets."""
    gib_per_epoch: float
    """Data that all ranks together read in an epoch, GiB."""
    requests_per_1000: float
    """Reads from a bucket for 1,000 samples; none for tokens, which are copied first and mapped."""
    padding: float
    """Share of a batch that is padding."""
    shown: float
    """Share of the data read that crops and channel choice keep."""
    batch_mib: float
    """Size of the largest micro-batch on the device, MiB, without activations."""
    held_mib: float
    """Most data of a bucket that a rank holds, MiB: blocks that are read but not used up."""
    mib_per_step: float
    """Data that one machine reads for a step, MiB."""
    parameters_m: float
    """Trained parameters, millions."""
    state_gib: float
    """Weights, gradients and optimizer of a rank with a whole copy of the network (ddp), GiB."""
    strategy: str
    """Strategy with the least communication whose state leaves half of a GPU's memory: ddp, hybrid or fsdp2."""
    strategy_gib: float
    """Weights, gradients and optimizer of a rank with that strategy, GiB."""
    fastest_step_s: float | None = None
    """Shortest step that the bandwidth keeps up with."""
    on_gpus: GpuForecast | None = None
    """Forecast of memory and steps on GPUs, with `gpus`."""
    suffices: bool | None = None
    """Whether the bandwidth keeps up with `step_s`."""


def plan_training(config: PlanConfig, *, progress: Progress = silent) -> PlanResult:
    """Plan the first epoch of a training and return what it needs.

    Raises
    ------
    UserError
        The ranks cannot share a step, the nodes do not divide the ranks, or the recipe is unknown.
    """
    from emeg.training.state_memory import count_parameters, state_memory  # loads torch

    del progress  # it takes seconds
    if config.ranks % config.nodes:
        raise UserError(f"ranks={config.ranks} cannot be spread evenly over nodes={config.nodes}; choose a multiple")
    store = Store.open(config.root)
    training = fit_memory(_given(read_training(config), config), memory_gib=config.memory_gib)
    training = divide(training, config.ranks)
    tokenizer = None
    if isinstance(training, PretrainConfig):
        corpus, plan, found, tokenizer = _forecast_tokens(store, config, training)
    else:
        corpus = Corpus.open(store, config.corpus)
        plan = SamplingPlan(corpus, training.sampling)
        found = forecast(corpus, plan, n_ranks=config.ranks)
    mib_per_step = found.n_bytes / found.n_steps / config.nodes / MIB
    n_parameters = count_parameters(store, with_sensor_kinds(store, training), tokenizer)
    state = state_memory(n_parameters, ranks=config.ranks, nodes=config.nodes, micro_batches=plan.config.micro_batches)
    strategy = state.choose(config.memory_gib * GIB, nodes=config.nodes)
    fastest = None if config.bandwidth_mib_s is None else mib_per_step / config.bandwidth_mib_s
    return PlanResult(
        corpus=corpus.name,
        steps_per_epoch=found.n_steps,
        segments_per_epoch=found.n_segments,
        micro_batches=plan.config.micro_batches,
        batches={str(channels): n for channels, n in found.batches.items()},
        batches_per_rank=found.n_steps * plan.config.micro_batches // config.ranks,
        gib_per_epoch=found.n_bytes / GIB,
        requests_per_1000=1000 * found.n_requests / found.n_segments,
        padding=found.padding,
        shown=found.shown,
        batch_mib=found.batch_bytes / MIB,
        held_mib=found.held_bytes / MIB,
        mib_per_step=mib_per_step,
        parameters_m=n_parameters / 1e6,
        state_gib=state.ddp / GIB,
        strategy=strategy,
        strategy_gib=getattr(state, strategy) / GIB,
        fastest_step_s=fastest,
        on_gpus=None if config.gpus is None else _forecast_gpus(config.gpus, training, plan, found),
        suffices=None if fastest is None or config.step_s is None else fastest <= config.step_s,
    )


def _forecast_gpus(
    gpus: int, training: TrainTokenizerConfig | PretrainConfig, plan: SamplingPlan, found: Forecast
) -> GpuForecast:
    is_tokens = isinstance(training, PretrainConfig)
    units = plan.config.budget_channel_seconds
    return forecast_training(
        training.encoder if isinstance(training, PretrainConfig) else training.tokenizer,
        training.network,
        gpus=gpus,
        micro_batches=plan.config.micro_batches,
        units=units / SEGMENT_S if is_tokens else units,
        bytes_per_step=found.n_bytes / found.n_steps,
    )


def read_training(config: PlanConfig) -> TrainTokenizerConfig | PretrainConfig:
    """Load the recipe's configuration. A custom recipe is a BrainOmni recipe if it sets `batch_segments`."""
    config_class = PretrainConfig if kind_of(config.recipe) == "encoder" else TrainTokenizerConfig
    return config_class.checked({"root": config.root, "recipe": config.recipe}, source=config.recipe)


def _given(
    training: TrainTokenizerConfig | PretrainConfig, config: PlanConfig
) -> TrainTokenizerConfig | PretrainConfig:
    """Put the caller's number of micro-batches in place of the recipe's."""
    if config.micro_batches is None:
        return training
    given = {"micro_batches": config.micro_batches}
    if isinstance(training, PretrainConfig):
        return training.model_copy(update=given)
    return training.model_copy(update={"sampling": training.sampling.model_copy(update=given)})


def _forecast_tokens(
    store: Store, config: PlanConfig, training: PretrainConfig
) -> tuple[Corpus, SamplingPlan, Forecast, str | None]:
    """Count for stored tokens: every segment has the same size, whatever its channels. Name their tokenizer, too."""
    manifests = [store.location("tokens", name, "manifest.json").read_json() for name in store.names("tokens")]
    corpus = Corpus.open(store, config.corpus)
    sizes = {m["bytes"] / m["shape"][0] for m in manifests if m["corpus"] == corpus.name}
    if not sizes:
        raise UserError(f"{store.root}: no tokens of corpus {corpus.name}; run tokenize first, or plan the tokenizer")
    sampling = token_sampling(training, corpus.n_samples / corpus.sfreq)
    plan = SamplingPlan(corpus, sampling, channels=1)
    n_bytes = round(max(sizes) * plan.n_segments)
    # codes become int64 on the way
    batch_bytes = round(4 * max(sizes) * training.batch_segments)
    found = Forecast(plan.n_steps(), plan.n_segments, n_bytes, 0, {}, 0.0, 1.0, batch_bytes, 0)
    tokenizer = next((m.get("tokenizer") for m in manifests if m["corpus"] == corpus.name), None)
    return corpus, plan, found, tokenizer
