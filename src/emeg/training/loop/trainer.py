"""Run Lightning with checkpoints and resume, for the tokenizer and for BrainOmni."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from emeg.errors import UserError
from emeg.progress import Progress
from emeg.training.configs import TrainingConfig
from emeg.training.device import pick_device, pick_precision
from emeg.training.loop.batches import FixedLoader, StepLoader
from emeg.training.loop.checkpoints import AtomicCheckpointIO, CheckpointFolder, read_checkpoint
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.rank import RunContext
from emeg.training.loop.save_checkpoints import SaveCheckpoints
from emeg.training.loop.stop_signal import StopOnSignal
from emeg.training.loop.strategies import make_strategy
from emeg.training.loop.watchdog import Watchdog
from emeg.training.tracking.loggers import make_logger
from emeg.uri import locate

T = TypeVar("T", bound=Callback)

logger = logging.getLogger(__name__)

SIGNAL_CHECK_STEPS = 5
"""Steps between two checks whether any rank received a stop signal; each is one small all-reduce."""


class ReportProgress(Callback):
    """Report the step of the run to `progress`."""

    def __init__(self, progress: Progress, total: int, *, every_n_steps: int) -> None:
        self._progress = progress
        self._total = total
        self._every_n_steps = every_n_steps
        self._step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Report after each few steps, from rank 0."""
        step = trainer.global_step
        if trainer.is_global_zero and step != self._step and (step % self._every_n_steps == 0 or step == self._total):
            self._step = step
            self._progress(step, self._total, str(getattr(pl_module, "headline", "")))


def make_trainer(
    config: TrainingConfig,
    run: RunContext,
    *,
    n_steps: int,
    micro_batches: int,
    monitor: tuple[str, str],
    progress: Progress,
    probes: Sequence[Callback] = (),
) -> Trainer:
    """Build the trainer of one run.

    Parameters
    ----------
    n_steps : int
        Optimiser steps of the whole run.
    micro_batches : int
        In a step, over all ranks.
    monitor : tuple of str
        Validation metric that says which weights are best, and ``"min"`` or ``"max"``.
    probes : sequence of Callback
        Further callbacks; called before a checkpoint is saved, so that it has what they record.
    """
    device = pick_device(config.device)
    share = micro_batches // run.world
    folder = checkpoint_folder(config, run)
    io = AtomicCheckpointIO(in_background=config.checkpoint_in_background, after=folder.prune)
    validate_every = min(config.validate_every, n_steps)
    watchdog = Watchdog(run, stall_after_s=config.stall_after_s)
    saving = SaveCheckpoints(
        folder,
        io,
        every_n_steps=config.checkpoint_every,
        validate_every=validate_every,
        share=share,
        monitor=monitor,
        after_save=watchdog.note_waiting,
    )
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", str(run.world)))
    with quiet():
        return Trainer(
            accelerator=device.type if device.type != "cuda" else "gpu",
            devices=local_world,
            num_nodes=run.world // local_world,
            strategy=make_strategy(config, run, nodes=run.world // local_world),
            precision=pick_precision(config.precision, device),
            deterministic=config.deterministic,
            max_steps=n_steps,
            max_epochs=-1,
            accumulate_grad_batches=share,
            val_check_interval=validate_every * share,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            # named, so that Lightning does not take the ranks and the requeue of a Slurm job into its own hands
            plugins=[io, TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()],
            callbacks=[
                *probes,
                StopOnSignal(saving, every_n_steps=SIGNAL_CHECK_STEPS),
                watchdog,
                ReportProgress(progress, n_steps, every_n_steps=config.log_every),
                saving,
            ],
            logger=make_logger(config, run),
            default_root_dir=run.folder,
            log_every_n_steps=config.log_every,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def locations_of_run(config: TrainingConfig, run: RunContext) -> tuple[str, ...]:
    """List the folders and URIs with files of a run: its own, and that of its checkpoints where it is another."""
    checkpoints = checkpoint_folder(config, run).location
    return (str(run.folder),) if config.checkpoints is None else (str(run.folder), str(checkpoints))


def checkpoint_folder(config: TrainingConfig, run: RunContext) -> CheckpointFolder:
    """Return the folder of the run's checkpoints: beside its logs, or below ``checkpoints``."""
    base = run.checkpoints if config.checkpoints is None else f"{config.checkpoints.rstrip('/')}/{run.folder.name}"
    return CheckpointFolder(locate(base), keep=config.keep_checkpoints)


def fit(
    trainer: Trainer,
    module: Training,
    train: StepLoader,
    validation: FixedLoader,
    *,
    config: TrainingConfig,
    run: RunContext,
) -> None:
    """Train from the newest checkpoint of this run, or from the start.

    Raises
    ------
    InterruptedRunError
        The run received a stop signal; a checkpoint is complete.
    UserError
        A loss is not finite.
    """
    newest = choose_checkpoint(trainer, module, config=config, run=run)
    if newest is not None:
        logger.info("going on from %s", newest)
    watchdog, saving = _callback(trainer, Watchdog), _callback(trainer, SaveCheckpoints)
    if validation.is_empty:
        saving.expect_no_validation()
    with quiet(), watchdog.naming_lost_ranks():
        trainer.fit(
            module,
            train_dataloaders=train,
            val_dataloaders=None if validation.is_empty else validation,
            ckpt_path=newest,
            weights_only=True,
        )


def choose_checkpoint(
    trainer: Trainer, module: LightningModule, *, config: TrainingConfig, run: RunContext
) -> str | None:
    """Return the checkpoint to resume from, the same on every rank: the newest that rank 0 finds.

    Raises
    ------
    UserError
        Other ranks cannot read it.
    """
    newest = checkpoint_folder(config, run).newest() if run.is_first and config.resume == "auto" else None
    if run.world == 1:
        return newest
    trainer.strategy.connect(module)
    trainer.strategy.setup_environment()  # the process group, which `Trainer.fit` would create later
    newest = trainer.strategy.broadcast(newest)
    is_missing = newest is not None and not locate(newest).exists()
    missing = trainer.strategy.reduce(
        torch.tensor(float(is_missing), device=trainer.strategy.root_device), reduce_op="sum"
    )
    if float(missing):
        raise UserError(
            f"{newest}: {float(missing):.0f} of {run.world} ranks cannot read this checkpoint of rank 0. Give a folder"
            " or URI that all machines can reach with --checkpoints"
        )
    return newest


def _callback(trainer: Trainer, kind: type[T]) -> T:
    """Return the trainer's callback of a class."""
    (found,) = (callback for callback in trainer.callbacks if isinstance(callback, kind))  # type: ignore[attr-defined]
    return found


def final_metrics(
    trainer: Trainer, module: Training, batches: Mapping[str, FixedLoader], *, keep: str
) -> dict[str, dict[str, float]]:
    """Compute the metrics of the finished weights on each split that has segments."""
    module.gather()
    if keep == "best":
        module.load_state_dict(best_weights(trainer))
    metrics = {}
    for split, loader in batches.items():
        if loader.is_empty:
            continue
        module.split = f"final_{split}"
        with quiet():
            trainer.validate(module, dataloaders=loader, verbose=False)
        metrics[split] = module.history.latest(module.split)
    module.gather()
    return metrics


def best_weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Load the state of the module with the best validation: rank 0 reads it and sends it to the others.

    Raises
    ------
    UserError
        No validation has run.
    """
    path = _callback(trainer, SaveCheckpoints).best_path
    if path is None:
        raise UserError("keep=best needs a validation; there was none, so choose keep=last or more steps")
    state: dict[str, torch.Tensor] = read_checkpoint(path)["state_dict"] if trainer.is_global_zero else {}
    return trainer.strategy.broadcast(state)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Lightning's lines about its ranks, and its advice on workers and samplers, which are not used."""
    lightning = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in lightning]
    for one in lightning:
        one.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for text in (
            ".*isinstance\\(treespec, LeafSpec\\).*",
            ".*srun.*command is available.*",
            ".*does not have many workers.*",
            ".*GPU available but not used.*",
            ".*module\\(s\\) in eval mode at the start of training.*",  # the frozen tokenizer, on purpose
            ".*Checkpoint directory .* exists and is not empty.*",
            ".*number of training batches .* is smaller than the logging interval.*",
        ):
            warnings.filterwarnings("ignore", message=text)
        try:
            yield
        finally:
            for one, level in zip(lightning, levels, strict=True):
                one.setLevel(level)
