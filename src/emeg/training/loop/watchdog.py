"""Detect a rank that is lost or hangs: the others name it and end, so that the job is started again.

Every rank writes its phase to a file. A rank that dies closes its connections, and the others fail within seconds. A
rank that hangs, or a broken network, only stops sending; collective operations then end after ``stall_after_s``.
"""

import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from emeg.errors import TransientError
from emeg.training.loop.rank import RunContext
from emeg.uri import locate

logger = logging.getLogger(__name__)

PHASES = (
    "validates",
    "writes a checkpoint",
    "waits for data",
    "computes the loss",
    "computes gradients and exchanges them with the other ranks",
    "updates weights and codebooks",
)
"""What a rank does, in the order in which it happens between the end of one micro-batch and that of the next."""
VALIDATING, SAVING, WAITING, FORWARD, BACKWARD, UPDATING = range(6)
EVERY_S = 2.0
"""Seconds between two heartbeats."""
GRACE_S = 30.0
"""Seconds between the end of a rank that has stalled and the time limit of collective operations. The limit comes
second: NCCL's own watchdog kills a rank with SIGABRT, and neither rank nor phase would be named."""
LOST_EXIT_CODE = 75
"""Exit code of a rank that ended itself; the run should be started again (EX_TEMPFAIL)."""


class LostRankError(TransientError):
    """Another rank is lost, hangs, or cannot be reached; the same command continues from the newest checkpoint."""


class Watchdog(Callback):
    """Write this rank's heartbeats to ``heartbeats/`` of the run, and read those of the others."""

    def __init__(self, run: RunContext, *, stall_after_s: float) -> None:
        self._folder = run.folder / "heartbeats"
        self._rank, self._world = run.rank, run.world
        self._stall_after_s = stall_after_s
        self._n_batches, self._phase, self._step = 0, WAITING, 0
        self._moved = time.monotonic()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the thread that watches."""
        if stage == "fit" and self._thread is None:
            self._moved = time.monotonic()
            self._thread = threading.Thread(target=self._watch, name="emeg-watchdog", daemon=True)
            self._thread.start()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop watching."""
        self._done.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching, unless another rank is lost: the search for it must find this one alive."""
        if not (isinstance(exception, RuntimeError) and is_connection_fault(exception)):
            self._done.set()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Record that data has arrived."""
        self._note(FORWARD, trainer.global_step)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Record that there is a loss.

        Parameters
        ----------
        loss : float tensor, scalar
            Dimensionless.
        """
        self._note(BACKWARD, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Record that the batch is complete."""
        self._n_batches += 1
        self._note(WAITING, trainer.global_step)

    def note_waiting(self, step: int) -> None:
        """Record that the next batch is awaited, after a checkpoint."""
        self._note(WAITING, step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Record that the gradients are complete."""
        self._note(UPDATING, trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Record that a checkpoint is being written."""
        self._note(SAVING, trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that validation has begun."""
        self._note(VALIDATING, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that the next batch is awaited."""
        self._note(WAITING, trainer.global_step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record that validation makes progress."""
        self._note(VALIDATING, trainer.global_step)

    def _note(self, phase: int, step: int) -> None:
        self._phase, self._step, self._moved = phase, step, time.monotonic()

    def _watch(self) -> None:
        warned = False
        while not self._done.wait(min(EVERY_S, self._stall_after_s / 4)):
            self._write()
            still_s = time.monotonic() - self._moved
            if still_s > 0.9 * self._stall_after_s and not warned:
                warned = True
                message = f"rank {self._rank}: no progress for {still_s:.0f} s. {self.describe()}"
                logger.warning("%s", message)
                locate(self._folder / f"rank-{self._rank:05d}.lost").write_bytes(message.encode())
            if still_s < 0.5 * self._stall_after_s:
                warned = False
            if still_s > self._stall_after_s:
                # The main thread is in a call that no exception interrupts.
                logger.critical("rank %d: still no progress; this process ends itself", self._rank)
                os._exit(LOST_EXIT_CODE)

    def _write(self) -> None:
        sign = {
            "rank": self._rank,
            "host": platform.node(),
            "n_batches": self._n_batches,
            "phase": self._phase,
            "step": self._step,
            "still_s": round(time.monotonic() - self._moved, 1),
            "written": time.time(),
        }
        locate(self._folder / f"rank-{self._rank:05d}.json").write_json(sign)

    def describe(self, *, wait_s: float = 0.0) -> str:
        """Describe in one line which ranks are lost and which lag.

        Parameters
        ----------
        wait_s : float
            Time to wait first, s: the heartbeat of a rank that has died grows old.
        """
        time.sleep(wait_s)
        self._write()
        return name_lagging(self._signs(), self._world, now=time.time())

    def _signs(self) -> list[dict[str, float | str]]:
        found = []
        for rank in range(self._world):
            path = self._folder / f"rank-{rank:05d}.json"
            if path.is_file():
                found.append(json.loads(path.read_bytes()))
        return found

    @contextmanager
    def naming_lost_ranks(self) -> Iterator[None]:
        """Convert a broken collective operation to an error that names the rank at fault.

        Raises
        ------
        LostRankError
            The connection to another rank broke, or was silent for too long.
        """
        try:
            yield
        except RuntimeError as error:
            if not is_connection_fault(error):
                raise
            # threads of a broken process group can hold up the end of the interpreter for ever
            last_resort = threading.Timer(GRACE_S, os._exit, (LOST_EXIT_CODE,))
            last_resort.daemon = True
            last_resort.start()
            raise LostRankError(
                f"rank {self._rank}, step {self._step}: {self.describe(wait_s=2.5 * EVERY_S)}"
                f" ({str(error).splitlines()[0][:200]}). Run the same command again to continue from the newest"
                " checkpoint"
            ) from error


def is_connection_fault(error: RuntimeError) -> bool:
    """Return whether a collective operation failed; gloo raises a plain RuntimeError."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()


def name_lagging(signs: list[dict[str, float | str]], world: int, *, now: float) -> str:
    """Name the ranks that do not respond, or else those behind the others.

    Parameters
    ----------
    signs : list of dict
        What `Watchdog` writes for each rank: rank, host, n_batches, phase, step, still_s, written.
    now : float
        Seconds of the clock that ``written`` was taken from.
    """
    known = {int(sign["rank"]): sign for sign in signs}
    gone = [f"rank {rank} has never responded" for rank in range(world) if rank not in known]
    for rank, sign in known.items():
        silent_s = now - float(sign["written"])
        if silent_s > 2 * EVERY_S:
            gone.append(f"rank {rank} on {sign['host']} has not responded for {silent_s:.0f} s (step {sign['step']})")
    if gone:
        return "; ".join(sorted(gone)[:8])
    states = {rank: (int(sign["n_batches"]), int(sign["phase"])) for rank, sign in known.items()}
    behind = [rank for rank, state in sorted(states.items()) if state < max(states.values())]
    if not behind:
        return (
            f"all {world} ranks live and stand at step {next(iter(known.values()))['step']}:"
            " the network between them is the likely fault; `emeg doctor` checks it"
        )
    return "; ".join(
        f"rank {rank} on {known[rank]['host']} lags: it {PHASES[states[rank][1]]}, step {known[rank]['step']}"
        for rank in behind[:8]
    )
