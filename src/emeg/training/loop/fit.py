"""Run a training around its step: loaders, trainer, final metrics, publishing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lightning.pytorch import Callback

from emeg.data import Corpus, MicroBatch, SamplingPlan
from emeg.progress import Progress
from emeg.store import Store
from emeg.store.runs import RunNote, note_run
from emeg.training.configs import TrainingConfig, TrainResult
from emeg.training.loop.batches import FixedLoader, SignalReader, StepLoader, TokenReader
from emeg.training.loop.history import History
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.publish import publish
from emeg.training.loop.rank import RunContext
from emeg.training.loop.trainer import final_metrics, fit, locations_of_run, make_trainer
from emeg.training.threads import n_threads, torch_threads

FINAL_SPLITS = ("validation", "held_out")
"""Splits of the final metrics; the second is used only here."""


class Adjustable(Protocol):
    """Methods of both networks that save time or memory."""

    def compile_layers(self) -> None:
        """Compile at the next call."""

    def checkpoint_activations(self) -> None:
        """Recompute activations instead of keeping them."""


def adjust(network: Adjustable, config: TrainingConfig) -> None:
    """Apply the settings of a run to a network."""
    if config.compile:
        network.compile_layers()
    if config.checkpoint_activations:
        network.checkpoint_activations()


def carry_out(
    config: TrainingConfig,
    store: Store,
    corpus: Corpus,
    name: str,
    run: RunContext,
    *,
    plan: SamplingPlan,
    reader: SignalReader | TokenReader,
    build: Callable[[int, History], Training],
    choose: Callable[[str, int], list[MicroBatch]],
    monitor: tuple[str, str],
    inputs: Mapping[str, str],
    progress: Progress,
    probes: Sequence[Callback] = (),
) -> TrainResult:
    """Train in this process (one of the ranks, where there are several) and publish the model.

    A network without parameters to train is published after 0 steps, with its metrics.

    Parameters
    ----------
    build : callable
        Function that builds the module from the number of steps and the history.
    choose : callable
        Function that returns micro-batches of a split with a limit of segments for each device and channel count.
    monitor : tuple of str
        Validation metric that decides which weights are best, and ``"min"`` or ``"max"``.
    inputs : mapping
        Products used besides the corpus, for the provenance.
    probes : sequence of Callback
        Callbacks that measure the network during the training.
    """
    if run.is_first:
        made_from = {"corpus": corpus.name, **inputs}
        note_run(store, name, RunNote(inputs=made_from, places=locations_of_run(config, run)))
    n_steps = config.total_steps(plan.n_steps())
    with torch_threads(config.threads or 1):  # initial weights must not depend on the number of cores
        module = build(n_steps, History(run.metrics_file))
    trainer = make_trainer(
        config,
        run,
        n_steps=n_steps,
        micro_batches=plan.config.micro_batches,
        monitor=monitor,
        progress=progress,
        probes=probes,
    )

    def look_at(split: str, limit: int) -> FixedLoader:
        return FixedLoader(choose(split, limit), reader, run)

    n_parameters = sum(parameter.numel() for parameter in module.network.parameters())
    with torch_threads(n_threads(n_parameters, config.threads)):
        device = trainer.strategy.root_device
        train = StepLoader(plan, reader, n_steps=n_steps, run=run, device=device, waiting=module.waiting)
        if module.learns:
            fit(trainer, module, train, look_at("validation", config.validation_segments), config=config, run=run)
        final = {split: look_at(split, config.final_segments) for split in FINAL_SPLITS}
        metrics = final_metrics(trainer, module, final, keep=config.keep if module.learns else "last")
    return publish(
        store, name, trainer, module, run, corpus=corpus, config=config, by_split=metrics, inputs=dict(inputs)
    )
