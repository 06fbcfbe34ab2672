"""What Lightning and the callbacks of a training add to its step."""

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from benchmarks._training_modules import brainomni_module
from benchmarks.gpu.device import Result, Setup
from benchmarks.gpu.speed import make_work
from lightning.pytorch import Callback, LightningModule, Trainer

from emeg.progress import silent
from emeg.training import PretrainConfig
from emeg.training.loop.batches import TokenBatch
from emeg.training.loop.rank import RunContext
from emeg.training.loop.save_checkpoints import SaveCheckpoints
from emeg.training.loop.trainer import make_trainer, quiet

WARM_UP = 3
"""Steps before the clock starts."""


class Repeated:
    """Loader that returns the same batch for every step.

    Parameters
    ----------
    batch : TokenBatch
    n_steps : int
    """

    def __init__(self, batch: TokenBatch, n_steps: int) -> None:
        self._batch = batch
        self._n_steps = n_steps

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._n_steps

    def __iter__(self) -> Iterator[TokenBatch]:
        return (self._batch._replace(step=step) for step in range(self._n_steps))


class StepClock(Callback):
    """Clock from the end of the warm-up to the end of the last step."""

    def __init__(self, setup: Setup, n_steps: int) -> None:
        self._setup = setup
        self._n_steps = n_steps
        self._began = 0.0
        self.seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Read the clock after the warm-up and after the last step."""
        if batch_idx + 1 == WARM_UP:
            self._setup.wait()
            self._began = time.perf_counter()
        elif batch_idx + 1 == self._n_steps:
            self._setup.wait()
            self.seconds = time.perf_counter() - self._began


def trainer_overhead(setup: Setup) -> Result:
    """Compare steps of BrainOmni under the trainer of `emeg pretrain` with bare steps; at most 1.05 times as long."""
    network, n, n_steps = ("nano", 1, WARM_UP + 8) if setup.tiny else ("base", 16, WARM_UP + 40)
    work = make_work(setup, network, n=n)
    for _ in range(WARM_UP):
        work.step()
    setup.wait()
    began = time.perf_counter()
    for _ in range(n_steps - WARM_UP):
        work.step()
    setup.wait()
    bare_s = time.perf_counter() - began
    del work
    trained_s = seconds_under_trainer(setup, network, n=n, n_steps=n_steps)
    steps = n_steps - WARM_UP
    return {
        "network": network,
        "segments": n,
        "bare_ms": 1e3 * bare_s / steps,
        "trainer_ms": 1e3 * trained_s / steps,
        "ratio": trained_s / bare_s,
    }


def seconds_under_trainer(setup: Setup, network: str, *, n: int, n_steps: int) -> float:
    """Train with the callbacks of a run, logging every ten steps, and return the seconds after the warm-up."""
    module, batch = brainomni_module(network, n, device=str(setup.device))
    clock = StepClock(setup, n_steps)
    with tempfile.TemporaryDirectory() as folder:
        config = PretrainConfig(
            root=folder,
            recipe="brainomni-base",
            steps=n_steps,
            precision="bf16-mixed",
            device="cuda" if setup.is_cuda else "cpu",
            log_every=10,
            checkpoint_every=10 * n_steps,
            tracking="none",
        )
        run = RunContext(Path(folder) / "run", 0, 1)
        trainer = make_trainer(
            config,
            run,
            n_steps=n_steps,
            micro_batches=1,
            monitor=("validation/loss", "min"),
            progress=silent,
            probes=[clock],
        )
        saving = next(callback for callback in trainer.callbacks if isinstance(callback, SaveCheckpoints))  # type: ignore[attr-defined]
        saving.expect_no_validation()
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            trainer.fit(module, train_dataloaders=Repeated(batch, n_steps))
    return clock.seconds
