"""Stop after a complete step: a signal sets a flag, all ranks agree on it between two steps, a checkpoint is written.

Lightning's own handler calls a collective operation inside the handler: a signal to one rank alone then hangs the
job. Its exit code after SIGTERM is 0 besides, which a pipeline reads as finished. Before every micro-batch Lightning
also broadcasts whether rank 0 got a signal, and waits for the device to read the answer; here ranks exchange this only
every few steps.
"""

import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from emeg.errors import StoppedError
from emeg.training.loop.save_checkpoints import SaveCheckpoints

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals of schedulers: SIGTERM before they kill, SIGUSR1 if a job asks for a warning before its time limit."""


class InterruptedRunError(StoppedError):
    """The run received a stop signal and has written a checkpoint; the same command continues from there."""


class StopOnSignal(Callback):
    """On SIGTERM or SIGUSR1: finish the step, checkpoint, raise `InterruptedRunError`."""

    def __init__(self, saving: SaveCheckpoints, *, every_n_steps: int) -> None:
        self._saving = saving
        self._every_n_steps = every_n_steps
        self._asked = False
        self._former: dict[int, Any] = {}
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers, which are installed by now; only the main thread can."""
        self._step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._former[number] = signal.signal(number, self._remember)
            # an attribute of this loop hides the method of its class
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _exchange_nothing  # type: ignore[method-assign]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop if any rank received a signal; ranks compare this only every few steps."""
        if not self._saving.validation_follows(trainer):
            self._stop_if_asked(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after the validation of a step, not before it."""
        if trainer.state.fn == "fit":
            self._stop_if_asked(trainer, pl_module)

    def _stop_if_asked(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == self._step or trainer.global_step % self._every_n_steps:
            return
        self._step = trainer.global_step
        asked = torch.tensor(float(self._asked), device=pl_module.device)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce(asked, reduce_op="sum")
        if asked.item() > 0:
            self._saving.save_and_wait(trainer)
            raise InterruptedRunError(
                f"{self._saving.folder}: stopped after step {trainer.global_step}; the checkpoint is complete."
                " Run the same command again to continue from it."
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the former signal handlers and Lightning's broadcast."""
        if self._former:
            trainer.fit_loop.epoch_loop.__dict__.pop("_broadcast_sigterm_tensor", None)
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former.clear()


def _exchange_nothing() -> None:
    """Replace Lightning's broadcast before every micro-batch."""
