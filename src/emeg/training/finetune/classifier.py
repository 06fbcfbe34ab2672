"""Fine-tune tokenizer encoder, backbone and head on one fold, under Lightning.

Shape letters: B batch, S latent sources, T latent steps, D features.
"""

import copy
import logging
import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Self

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from emeg.errors import UserError
from emeg.metrics import balanced_accuracy
from emeg.models import EncoderModule, TaskHead
from emeg.models.lora import add_lora, merge_lora
from emeg.progress import Progress
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.tokenizers.braintokenizer.checks import values_at_hand
from emeg.training.configs import FinetuneRecipe
from emeg.training.device import pick_precision
from emeg.training.finetune.labelled_windows import (
    FoldIndices,
    FoldOutcome,
    Windows,
    class_weights,
)
from emeg.training.finetune.targets import Targets
from emeg.training.finetune.window_batches import WindowBatch, WindowLoader, WindowReader
from emeg.training.loop.batches import SignalBatch, SpreadChannels, take_channels
from emeg.training.loop.device_queue import on_device
from emeg.training.loop.schedule import draw_seed, lr_factor
from emeg.training.loop.trainer import quiet

logger = logging.getLogger(__name__)

LORA_RATE = 30.0
"""Learning rate of low-rank factors as a multiple of that of whole weights: they are few, and begin at zero."""


class Classifier(nn.Module):
    """Encoder, backbone and head; quantizer and decoder are not part of the computation."""

    def __init__(self, backbone: EncoderModule, n_outputs: int, recipe: FinetuneRecipe) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = TaskHead.of(
            backbone,
            n_outputs,
            dropout=recipe.head_dropout,
            pooling=recipe.pooling or backbone.default_pooling,
            n_layers=max(1, len(recipe.layers)),
        )
        self._recipe = recipe
        self._overlap = backbone.config.overlap_ratio if recipe.overlap is None else recipe.overlap

    def train(self, mode: bool = True) -> Self:
        """Switch dropout on or off; in the backbone only if the recipe sets it."""
        super().train(mode)
        self.backbone.train(mode and self._recipe.backbone_dropout)
        return self

    def embed(self, batch: SignalBatch, kept: Tensor | None = None) -> Tensor:
        """Embed windows in physical units: float, shape (batch, sources, steps, features).

        Parameters
        ----------
        batch : SignalBatch
        kept : int64, shape (batch, channels to keep), optional
            Indices of the channels to use; all if not given.
        """
        # normalise with all channels: they define the reference of EEG
        signal = normalise_signal(
            batch.signal, batch.sensor_type, batch.channel_mask, intracranial=self.backbone.tokenizer.intracranial
        )
        batch = batch._replace(signal=signal)
        if kept is not None:
            batch = take_channels(batch, kept)
        embedding = self.backbone.embed_differentiably(
            batch.signal,
            batch.pos,
            batch.sensor_type,
            channel_mask=batch.channel_mask,
            overlap=self._overlap,
            layers=self._recipe.layers,
            check_values=values_at_hand(batch.signal.device),  # for a GPU, the reader has checked them
        )
        return embedding[0] if len(self._recipe.layers) == 1 else embedding

    def forward(self, batch: WindowBatch) -> Tensor:
        """Return logits, shape (batch, classes), or other outputs, shape (batch, outputs)."""
        outputs: Tensor = self.head(self.embed(batch.signals, batch.kept))
        return outputs


class FineTuning(LightningModule):
    """Fit a `Classifier`; after each epoch, predict the validation subjects and keep the best weights.

    Parameters of the quantizer and of the prediction head get no gradient, so the optimiser does not change them.
    With `targets` the network is trained on these instead of on classes.
    """

    def __init__(
        self,
        classifier: Classifier,
        windows: Windows,
        recipe: FinetuneRecipe,
        *,
        learning_rate: float,
        n_steps: int,
        targets: Targets | None = None,
    ) -> None:
        super().__init__()
        self._targets = targets
        self.classifier = classifier
        self.history: list[dict[str, float]] = []
        self.best = -1.0
        self.best_epoch = -1
        self.best_state: dict[str, Tensor] = {}
        self._windows = windows
        self._recipe = recipe
        self._learning_rate = learning_rate
        self._n_steps = n_steps
        self._channels = None if recipe.max_channels is None else SpreadChannels(recipe.max_channels)
        self._weights: Tensor | None = None
        self._predicted: list[tuple[NDArray[np.int64], Tensor]] = []
        self._losses: list[Tensor] = []

    def weigh_classes(self, labels: NDArray[np.int64]) -> None:
        """Compute weights that give every class the same influence, whatever its share of `labels`.

        Parameters
        ----------
        labels : int64, shape (windows,)
            Class index of every training window.
        """
        weights = class_weights(labels, len(self._windows.classes))
        self._weights = torch.from_numpy(weights).float()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create AdamW: the head learns faster than the backbone, and only matrices decay."""
        recipe = self._recipe
        groups = []
        of_head = self._learning_rate * recipe.head_factor / (LORA_RATE if recipe.mode == "lora" else 1.0)
        for part, rate in (("backbone", self._learning_rate), ("head", of_head)):
            parameters = [p for p in getattr(self.classifier, part).parameters() if p.requires_grad]
            groups += [
                {"params": [p for p in parameters if p.ndim > 1], "lr": rate, "weight_decay": recipe.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
            ]
        fused = True if self.device.type == "cuda" else None  # None: torch's choice
        optimiser = torch.optim.AdamW(groups, betas=recipe.betas, eps=recipe.eps, fused=fused)

        def factor(step: int) -> float:
            return lr_factor(step, self._n_steps, final=0.1)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm over all parameters."""
        clip = self._recipe.gradient_clip
        torch.nn.utils.clip_grad_norm_(self.classifier.parameters(), clip if clip > 0 else math.inf)

    def batches(self, indices: NDArray[np.int64]) -> Generator[WindowBatch, None, None]:
        """Read windows in order, a batch at a time, and move them to the classifier's device.

        Parameters
        ----------
        indices : int64, shape (windows,)
            Indices of windows.
        """
        loader = WindowLoader(indices, self._reader(self.device), batch_size=self._recipe.batch_size)
        return on_device(loader, self.device)

    def loader(
        self, indices: NDArray[np.int64], device: torch.device, *, shuffle_seed: int | None = None
    ) -> "DeviceLoader":
        """Return a loader of windows for Lightning.

        Parameters
        ----------
        indices : int64, shape (windows,)
            Indices of windows.
        device : torch.device
            Device to train on.
        shuffle_seed : int, optional
            Seed of another order in each pass; the given order if there is none.
        """
        reader, size = self._reader(device), self._recipe.batch_size
        return DeviceLoader(WindowLoader(indices, reader, batch_size=size, shuffle_seed=shuffle_seed), device)

    def _reader(self, device: torch.device) -> WindowReader:
        return WindowReader(self._windows, self._channels, pinned=device.type == "cuda")

    def _arithmetic(self) -> AbstractContextManager[object]:
        """Return the context for the arithmetic of training, outside of Lightning's loop."""
        is_bf16 = pick_precision("auto", self.device) == "bf16-mixed"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_bf16)

    @torch.no_grad()
    def standardise(self, indices: NDArray[np.int64]) -> None:
        """Standardise the head's input over these windows, before training.

        Parameters
        ----------
        indices : int64, shape (windows,)
            Indices of the training windows.
        """
        self.eval()
        head, embed = self.classifier.head, self.classifier.embed
        with self._arithmetic():
            pooled = [head.pool(embed(batch.signals, batch.kept)).float() for batch in self.batches(indices)]
        head.standardise(torch.cat(pooled))
        self.train()

    def on_fit_start(self) -> None:
        """Move the weights of the classes to the device."""
        self._weights = None if self._weights is None else self._weights.to(self.device)

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        """Compute the loss, with classes cross-entropy with label smoothing; dropout is drawn by (seed, step)."""
        torch.manual_seed(draw_seed(self._recipe.seed, self.global_step, 0))
        outputs = self.classifier(batch)
        if self._targets is not None:
            loss = self._targets.loss(outputs.float(), batch.indices)
        else:
            loss = nn.functional.cross_entropy(
                outputs.float(), batch.labels, weight=self._weights, label_smoothing=self._recipe.label_smoothing
            )
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: WindowBatch, batch_idx: int) -> None:
        """Predict validation windows; the predictions stay on the device until the epoch ends."""
        self._predicted.append((batch.indices, self.classifier(batch).float().softmax(dim=-1)))

    def on_validation_epoch_end(self) -> None:
        """Store the weights if they are the best so far; stop after `patience` epochs without a better score."""
        indices = np.concatenate([i for i, _ in self._predicted])
        probabilities = torch.cat([p for _, p in self._predicted]).cpu().double().numpy()
        self._predicted.clear()
        score = balanced_accuracy(np.asarray(self._windows.labels)[indices], probabilities.argmax(axis=1))
        epoch = self.current_epoch
        self.history.append(
            {
                "learning_rate": self._learning_rate,
                "epoch": float(epoch),
                "training_loss": float(torch.stack(self._losses).mean()),
                "validation_balanced_accuracy": score,
            }
        )
        self._losses.clear()
        if score > self.best:
            self.best, self.best_epoch = score, epoch
            self.best_state = {name: value.detach().clone() for name, value in self.classifier.state_dict().items()}
        elif epoch - self.best_epoch >= self._recipe.patience:
            self.trainer.should_stop = True

    def predict(self, indices: NDArray[np.int64], device: torch.device) -> NDArray[np.float64]:
        """Predict with the best weights: probabilities, float64 of shape (windows, classes), or targets.

        Parameters
        ----------
        indices : int64, shape (windows,)
            Indices of windows.
        device : torch.device
            Device to compute on; Lightning moves a module to the CPU at the end of a fit.
        """
        self.classifier.load_state_dict(self.best_state)
        self.to(device).eval()
        with torch.inference_mode(), self._arithmetic():
            outputs = [self.classifier(batch).float() for batch in self.batches(indices)]
        if self._targets is not None:
            return self._targets.predictions(torch.cat(outputs).cpu().double().numpy())
        probabilities = torch.cat([own.softmax(dim=-1) for own in outputs]).cpu().double().numpy()
        return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


class DeviceLoader:
    """Loader whose batches are on a device; a GPU gets the next one while it computes.

    Parameters
    ----------
    batches : WindowLoader
    device : torch.device
    """

    def __init__(self, batches: WindowLoader, device: torch.device) -> None:
        self._batches = batches
        self._device = device

    def __len__(self) -> int:
        """Return the number of batches of one pass."""
        return len(self._batches)

    def __iter__(self) -> Iterator[WindowBatch]:
        return on_device(self._batches, self._device)


def fit_classifier(
    network: EncoderModule,
    windows: Windows,
    fold: FoldIndices,
    recipe: FinetuneRecipe,
    *,
    device: torch.device,
    keep_state: bool,
    progress: Progress,
) -> FoldOutcome:
    """Fit with each learning rate of the recipe; the best on validation predicts the test windows."""
    start = copy.deepcopy(network.state_dict())
    history: list[dict[str, float]] = []
    best: FineTuning | None = None
    rate_of_best = 0.0
    for number, rate in enumerate(recipe.backbone_learning_rates):
        fitted = _fit_once(network, start, windows, fold, recipe, learning_rate=rate, device=device)
        history += fitted.history
        progress(number + 1, len(recipe.backbone_learning_rates), f"{recipe.mode} {fitted.best:.3f}")
        if best is None or fitted.best > best.best:
            best, rate_of_best = fitted, rate
    if best is None:
        raise ValueError("the recipe lists no learning rate")
    return FoldOutcome(
        probabilities=best.predict(fold.test, device),
        validation_balanced_accuracy=best.best,
        chosen={"learning_rate": rate_of_best, "epoch": float(best.best_epoch)},
        history=history,
        state={name: value.cpu() for name, value in merge_lora(best.best_state).items()} if keep_state else None,
    )


def fit_all_epochs(
    network: EncoderModule,
    windows: Windows,
    rows: NDArray[np.int64],
    recipe: FinetuneRecipe,
    *,
    learning_rate: float,
    device: torch.device,
    targets: Targets | None = None,
) -> FineTuning:
    """Train for all epochs of the recipe with one learning rate, without validation, and use the last weights.

    Parameters
    ----------
    network : EncoderModule
        Initial weights; they are copied.
    windows : Windows
        Labelled windows in physical units.
    rows : int64, shape (windows,)
        Indices of the training windows.
    recipe : FinetuneRecipe
    learning_rate : float
        Learning rate of the backbone.
    device : torch.device
    targets : Targets, optional
        What to train on instead of the classes.
    """
    fold = FoldIndices(rows, np.empty(0, np.int64), np.empty(0, np.int64))
    fitted = _fit_once(
        network,
        network.state_dict(),
        windows,
        fold,
        recipe,
        learning_rate=learning_rate,
        device=device,
        targets=targets,
    )
    fitted.best_state = {name: value.detach().clone() for name, value in fitted.classifier.state_dict().items()}
    return fitted


def _fit_once(
    network: EncoderModule,
    start: dict[str, Tensor],
    windows: Windows,
    fold: FoldIndices,
    recipe: FinetuneRecipe,
    *,
    learning_rate: float,
    device: torch.device,
    targets: Targets | None = None,
) -> FineTuning:
    backbone = copy.deepcopy(network)
    backbone.load_state_dict(start)
    torch.manual_seed(draw_seed(recipe.seed, 0, 1))
    classifier = Classifier(backbone, len(windows.classes) if targets is None else targets.n_outputs, recipe)
    if recipe.mode == "lora":
        blocks = getattr(backbone, "blocks", None)
        if not isinstance(blocks, nn.Module):
            raise UserError(f"mode 'lora': encoder {backbone.kind!r} has no blocks to adapt; choose full or probe")
        add_lora(backbone, blocks)
        learning_rate = learning_rate * LORA_RATE
    classifier.train()
    n_steps = recipe.epochs * -(-len(fold.train) // recipe.batch_size)
    module = FineTuning(classifier, windows, recipe, learning_rate=learning_rate, n_steps=n_steps, targets=targets)
    train = module.loader(fold.train, device, shuffle_seed=recipe.seed)
    validation = module.loader(fold.validation, device)
    if targets is None:
        module.weigh_classes(np.asarray(windows.labels)[fold.train])
    if recipe.standardise:
        module.to(device).standardise(fold.train)
    with quiet():
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=1,
            max_epochs=recipe.epochs,
            precision=pick_precision("auto", device),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=None if len(fold.validation) else 0,
            use_distributed_sampler=False,
        )
        trainer.fit(module, train_dataloaders=train, val_dataloaders=validation)
    return module
