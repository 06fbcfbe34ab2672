"""Decide when a run is saved, what a checkpoint holds besides the network, and how other ranks restore it."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from emeg.training.loop.checkpoints import AtomicCheckpointIO, CheckpointFolder

BATCHES = "epoch_loop.batch_progress"
"""Where Lightning keeps how many batches this rank has seen."""


class SaveCheckpoints(Checkpoint):
    """Save every few steps and at the end, and the weights that validate best.

    Lightning's own callback keeps the list of the last N inside the checkpoint: files that a killed run wrote later are
    never removed, and the best weights that an older checkpoint names may be missing. Here the folder is listed.

    Parameters
    ----------
    folder : CheckpointFolder
    io : AtomicCheckpointIO
        The `CheckpointIO` of the trainer.
    every_n_steps : int
    validate_every : int
        Steps between two validations.
    share : int
        Micro-batches of a step on this rank.
    monitor : tuple of str
        Validation metric and ``"min"`` or ``"max"``.
    after_save : callable, optional
        Called with the step after each checkpoint.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        io: AtomicCheckpointIO,
        *,
        every_n_steps: int,
        validate_every: int,
        share: int,
        monitor: tuple[str, str],
        after_save: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.folder = folder
        self._io = io
        self._every_n_steps = every_n_steps
        self._validate_every = validate_every
        self._share = share
        self._metric, self._mode = monitor
        self._after_save = after_save
        self._saved = -1
        self._rng: dict[str, Any] | None = None
        self.best = math.nan
        self.best_step = -1

    @property
    def best_path(self) -> str | None:
        """Path of the weights with the best validation; `None` before any validation."""
        return None if self.best_step < 0 else self.folder.best(self.best_step)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove what a killed writer left, and check that the checkpoints have room.

        Raises
        ------
        MachineError
            The disk has not enough space for two checkpoints.
        """
        if stage != "fit":
            return
        if trainer.is_global_zero:
            self.folder.sweep()
        self.folder.check_room(checkpoint_bytes(pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state of the process's own generators."""
        self._saved = trainer.global_step if self._rng else -1
        if self._rng is not None:
            _restore_generators(self._rng)
            self._rng = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save after each few steps."""
        if not self.validation_follows(trainer):
            self._save_if_due(trainer)

    def expect_no_validation(self) -> None:
        """Declare that there is nothing to validate on."""
        self._validate_every = 0

    def validation_follows(self, trainer: Trainer) -> bool:
        """Return whether this step is validated; a checkpoint before the validation would skip it on resume."""
        return self._validate_every > 0 and trainer.global_step % self._validate_every == 0

    def _save_if_due(self, trainer: Trainer) -> None:
        if trainer.global_step > 0 and trainer.global_step % self._every_n_steps == 0:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save now, unless this step is saved."""
        if trainer.global_step != self._saved:
            self._saved = trainer.global_step
            self._write(trainer, self.folder.last(trainer.global_step))

    def _write(self, trainer: Trainer, path: str, *, weights_only: bool = False) -> None:
        trainer.save_checkpoint(path, weights_only=weights_only)
        self._after_save(trainer.global_step)

    def save_and_wait(self, trainer: Trainer) -> None:
        """Save now; the checkpoint is complete when this returns, on every rank."""
        self.save(trainer)
        self._io.wait()
        trainer.strategy.barrier("checkpoint")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights if they are the best so far, then a checkpoint if it is due."""
        if trainer.state.fn != "fit":
            return
        self._keep_best(trainer)
        self._save_if_due(trainer)

    def _keep_best(self, trainer: Trainer) -> None:
        if self._metric not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self._metric])
        if math.isnan(self.best) or (value > self.best if self._mode == "max" else value < self.best):
            self.best, self.best_step = value, trainer.global_step
            self._write(trainer, self.folder.best(self.best_step), weights_only=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the writer: the next stage reads the best weights, and may be killed."""
        self.save_and_wait(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add generators and the share of the ranks."""
        checkpoint["emeg_saving"] = {
            "share": self._share,
            "rng": _generators(),
            "best": self.best,
            "best_step": self.best_step,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the state; Lightning's count of batches is converted to the present number of ranks."""
        kept = checkpoint["emeg_saving"]
        self._rng = kept["rng"]
        self.best, self.best_step = kept["best"], kept["best_step"]
        progress = checkpoint["loops"]["fit_loop"][BATCHES]
        for counts in (progress["total"], progress["current"]):
            for name, count in counts.items():
                # "completed" lags one behind where Lightning has not closed the batch yet: it must go on lagging by one
                steps = -(-count // kept["share"])
                counts[name] = steps * self._share - (steps * kept["share"] - count)


def checkpoint_bytes(module: LightningModule) -> int:
    """Return the size of a checkpoint: weights, buffers, and AdamW's two moments of every weight that learns."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() * (3 if t.requires_grad else 1) for t in tensors)


def _generators() -> dict[str, Any]:
    # What a step draws comes from generators of its own, keyed by seed, step and micro-batch; these are for whatever
    # else may draw. Rank 0's go into the checkpoint. Lists and tensors, so that it loads without running code.
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one is meant
    version, words, following = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), following],
    }


def _restore_generators(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, words, following = state["python"]
    random.setstate((version, tuple(words), following))
