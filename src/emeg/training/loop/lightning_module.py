"""Lightning modules: what a step is. Draws are keyed by (seed, step, micro-batch), never by rank or by history."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from emeg.errors import UserError
from emeg.training.configs import OptimiserConfig
from emeg.training.loop.accumulation import GradientTree
from emeg.training.loop.history import History
from emeg.training.loop.schedule import draw_seed, lr_factor
from emeg.training.loop.speed import SpeedMeter, peak_of
from emeg.training.loop.strategies import ShardedStrategy, shard, whole, whole_state

logger = logging.getLogger(__name__)


class Training(LightningModule):
    """Optimiser, schedule, history and the guard against losses that are no numbers.

    Parameters
    ----------
    network : Module
    groups : list of dict
        Parameter groups of AdamW, learning rates and weight decay included.
    optimiser : OptimiserConfig
    n_steps : int
        Steps of the whole run: warm-up and cosine are stretched over them.
    seed : int
    log_every : int
        Steps between two lines of the history.
    history : History
    describe : callable
        Names the recordings of segments, for errors.
    lineage : mapping, optional
        Model that the training began from, for the provenance.
    """

    verb = ""
    title = ""

    def __init__(
        self,
        network: nn.Module,
        groups: list[dict[str, Any]],
        *,
        optimiser: OptimiserConfig,
        n_steps: int,
        seed: int,
        log_every: int,
        history: History,
        describe: Callable[[Sequence[int]], str],
        lineage: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.meter = SpeedMeter()
        self.network = network
        self.history = history
        self.split = "validation"
        self.headline = ""
        self._groups = groups
        # in a list, or the module would count it among its parts
        self._unsharded: list[nn.Module] = []
        self._optimiser = optimiser
        self._n_steps = n_steps
        self._seed = seed
        self._log_every = log_every
        self._describe = describe
        self.lineage = dict(lineage or {})
        self._sums: dict[str, Tensor] = {}
        self._n_sums = 0
        self._suspects: list[tuple[str, int, tuple[int, ...], Tensor]] = []
        self._segments: tuple[int, ...] = ()
        self._n_summed_steps = 0
        self._step = 0
        self._tree: GradientTree | None = None

    @property
    def learns(self) -> bool:
        """Whether the network has parameters to train."""
        return any(group["params"] for group in self._groups)

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds only a shard of the network (FSDP2)."""
        return bool(self._unsharded)

    def configure_model(self) -> None:
        """Split the network into shards if the strategy has a mesh (FSDP2) and it is whole."""
        if self.device_mesh is None or self._unsharded:
            return
        self._unsharded.append(copy.deepcopy(self.network).to("meta"))
        strategy = self.trainer.strategy
        mesh = strategy.data_mesh if isinstance(strategy, ShardedStrategy) else self.device_mesh
        with self._groups_following():
            shard(self.network, mesh, reduce_bf16=self.trainer.precision == "bf16-mixed")

    def gather(self) -> None:
        """Make the network whole, on every rank; nothing where it is."""
        if not self._unsharded:
            return
        state = whole_state(self.network.state_dict())
        network = self._unsharded.pop().to_empty(device=self.device)
        network.load_state_dict(state, strict=True)
        copy_unsaved_buffers(self.network, network, saved=state)
        with self._groups_following():
            self.network = network

    @contextmanager
    def _groups_following(self) -> Iterator[None]:
        """Put the parameters that take the place of others, under the same names, into the optimiser's groups."""
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        yield
        now = dict(self.network.named_parameters())
        self._groups = [{**group, "params": [now[names[p]] for p in group["params"]]} for group in self._groups]

    @property
    def _width(self) -> torch.dtype:
        """Of sums of metrics: so wide that what is left of them in float32 does not depend on their order."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    @property
    def _is_fused(self) -> bool:
        return self.device.type in {"cpu", "cuda"}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create AdamW with warm-up and cosine; the number of steps comes from the recipe.

        Lightning's own estimate of it silently drops the loader's state on resume.
        """
        config, n_steps = self._optimiser, self._n_steps
        optimiser = torch.optim.AdamW(
            self._groups,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=self._is_fused,
        )

        def factor(step: int) -> float:
            return lr_factor(step, n_steps, warmup=config.warmup, start=config.start_factor, final=config.final_factor)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm over all parameters, and keep the norm for the history."""
        clip = self._optimiser.gradient_clip
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        foreach = True if self.device.type == "cuda" and not self._unsharded else None
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, clip if clip > 0 else math.inf, foreach=foreach))
        # Where the gradient is no number the fused optimiser leaves the weights alone, without asking the host;
        # the guard stops the run at its next look, with the recordings of this step.
        if self._is_fused:
            optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self._suspects.append(("norm of the gradient", self._step, self._segments, norm.detach()))
        self._segments = ()
        if self.device.type == "cpu":
            self._check_numbers()
        self._sums["gradient_norm"] = self._sums.get("gradient_norm", 0.0) + norm.detach().to(self._width)

    def draw(self, step: int, micro_batch: int) -> torch.Generator:
        """Return the generator of one micro-batch's draws, and seed the one that fused kernels draw dropout from."""
        seed = draw_seed(self._seed, step, micro_batch)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed ^ 1)  # another stream than that of the generator below
        return torch.Generator(device=self.device).manual_seed(seed)

    def count(self, step: int, segments: tuple[int, ...], loss: Tensor, values: Mapping[str, Tensor]) -> None:
        """Add one micro-batch to the running means, which stay on the device until they are logged.

        Parameters
        ----------
        step : int
        segments : tuple of int
            Rows of the corpus, for errors.
        loss : float tensor, scalar
            Dimensionless.
        values : mapping of float tensors, scalars
            Dimensionless terms by name.
        """
        for name, value in {"loss": loss, **values}.items():
            detached = value.detach().to(self._width)
            self._sums[name] = self._sums[name] + detached if name in self._sums else detached
        self._n_sums += 1
        self._step = step
        self._segments += segments
        self._suspects.append(("loss", step, segments, loss.detach()))
        if self.device.type == "cpu":
            self._check_numbers()

    @contextmanager
    def naming(self, step: int, segments: Sequence[int]) -> Iterator[None]:
        """Name the recordings where the network refuses what it is given."""
        try:
            yield
        except UserError as error:
            raise UserError(f"step {step}, {self._describe(segments)}: {error}") from error

    def _check_numbers(self) -> None:
        """Stop at a loss or a gradient that is no number.

        On a GPU the check takes place only when metrics are logged or a checkpoint is due: it waits for the device.
        """
        suspects, self._suspects = self._suspects, []
        if not suspects:
            return
        finite = torch.isfinite(torch.stack([value.float() for *_, value in suspects])).tolist()
        for (what, step, segments, value), is_finite in zip(suspects, finite, strict=True):
            if not is_finite:
                raise UserError(
                    f"step {step}: the {what} is {value.item()}, from {self._describe(segments)}. If those recordings"
                    " look right, lower the learning rate; otherwise leave them out and shard again"
                )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, let buffers follow, and log after each few steps.

        Here rather than in a hook after the batch: checkpoints are written before such hooks, and must have it all.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.follow()
        self._n_summed_steps += 1
        done = self._step + 1
        if done % self._log_every == 0 or done == self._n_steps:
            self._check_numbers()
            self.record("train", {**self._means(), **self.monitor()}, step=done)
            self._log_speed(done)

    def monitor(self) -> dict[str, float]:
        """Return further metrics of the steps since the last log; none here."""
        return {}

    def operations(self, batch: Any) -> float:  # noqa: ANN401 - what the loader gives
        """Count the operations of matrix products in one micro-batch; 0 here."""
        return 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Record how long the step waits for the loader; the loader enters this around its queue."""
        self.meter.ask()
        yield
        self.meter.receive(0, 0.0)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401 - what the loader gives
        """Record the size of the batch."""
        self.meter.receive(len(batch.segments), self.operations(batch))

    def on_train_start(self) -> None:
        """Find the device's peak, start all clocks, and prepare the addition of gradients."""
        self.meter = SpeedMeter(peak_of(self.device, str(self.trainer.precision)))
        self.move_state()
        if self._unsharded:  # FSDP2 adds its shards itself
            return
        self._tree = GradientTree(self.network.parameters(), self.trainer.accumulate_grad_batches)
        if isinstance(self.trainer.strategy.model, DistributedDataParallel):
            self._tree.follow(self.trainer.strategy.model)

    def move_state(self) -> None:
        """Move the state that is no parameter or buffer to the module's device; a checkpoint restores it on the CPU."""
        self._sums = {name: value.to(self.device) for name, value in self._sums.items()}

    def on_after_backward(self) -> None:
        """Store the gradients of a finished part of the step separately."""
        if self._tree is not None:
            self._tree.after_backward()

    def on_validation_start(self) -> None:
        """Stop the clocks: validation is no training time."""
        self.meter.pause()

    def on_validation_end(self) -> None:
        """Resume the clocks."""
        self.meter.resume()

    def _log_speed(self, step: int) -> None:
        metrics = self.meter.metrics()
        if self.logger is not None and self.trainer.is_global_zero:
            self.logger.log_metrics({f"speed/{name}": value for name, value in metrics.items()}, step=step)
        logger.info("step %d speed: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))

    def follow(self) -> None:
        """Update what follows the step without a gradient; nothing here."""

    def _means(self) -> dict[str, float]:
        names = sorted(self._sums)
        counts = [self._n_summed_steps if name == "gradient_norm" else self._n_sums for name in names]
        sums = torch.stack([self._sums[name].to(self.device) for name in names])
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums, reduce_op="mean")
        self._sums, self._n_sums, self._n_summed_steps = {}, 0, 0
        means = (sums / torch.tensor(counts, dtype=sums.dtype, device=sums.device)).float()
        return {
            **dict(zip(names, means.tolist(), strict=True)),
            "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
        }

    def record(self, split: str, values: dict[str, float], *, step: int) -> None:
        """Add metrics to history, TensorBoard and the headline."""
        self.history.add(step, split, values)
        if self.logger is not None and self.trainer.is_global_zero:
            self.logger.log_metrics({f"{split}/{name}": value for name, value in values.items()}, step=step)
        if split == "train":
            self.headline = f"loss {values['loss']:.3f}"
        logger.info("step %d %s: %s", step, split, ", ".join(f"{k} {v:.4g}" for k, v in values.items()))

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write the network's folder: config.json and model.safetensors."""
        raise NotImplementedError

    def add_up(self, value: Tensor) -> Tensor:
        """Sum over ranks.

        Parameters
        ----------
        value : float or int tensor, any shape
            Dimensionless.
        """
        if self.trainer.world_size == 1:
            return value
        pooled: Tensor = self.trainer.strategy.reduce(value.to(self.device), reduce_op="sum")
        return pooled.to(value.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save metrics and running means, so that a resumed run has the same history."""
        self._check_numbers()
        checkpoint["emeg"] = {
            "history": self.history.state(),
            "sums": {name: value.cpu() for name, value in self._sums.items()},
            "n_sums": self._n_sums,
            "n_summed_steps": self._n_summed_steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state saved by `on_save_checkpoint`."""
        kept = checkpoint["emeg"]
        self.history.load(kept["history"])
        # the module is still on the CPU here; `on_train_start` moves the state to the device
        self._sums = dict(kept["sums"])
        self._n_sums = kept["n_sums"]
        self._n_summed_steps = kept["n_summed_steps"]


@torch.no_grad()
def copy_unsaved_buffers(source: nn.Module, target: nn.Module, *, saved: Mapping[str, Any]) -> None:
    """Copy the buffers that a state dict leaves out, such as tables that are not persistent."""
    values = dict(source.named_buffers())
    for name, buffer in target.named_buffers():
        if name not in saved:
            buffer.copy_(values[name])
