"""Linear probes during a training: whether the network tells the conditions of an experiment apart.

Every few steps a logistic regression on the frozen features of training subjects predicts the windows of validation
subjects. Held-out subjects are never used. A probe changes neither weights nor random draws of the training.

Shape letters: B batch, C channels, N samples, S latent sources, T latent steps, D features.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import nn

from emeg import metrics
from emeg.data import Corpus, TaskWindows, infer_task, task_windows
from emeg.data.batch import Batch
from emeg.errors import UserError
from emeg.models import EncoderModule, pool
from emeg.store import Store
from emeg.tokenizers.interface import TokenizerModule
from emeg.training.configs import FinetuneRecipe, TrainingConfig
from emeg.training.finetune.probe import embed_windows, standardised_batches
from emeg.training.loop.lightning_module import Training

logger = logging.getLogger(__name__)

WINDOWS = 256
"""Most windows of each side, spread evenly over the subjects."""

SPLIT = "probe"
"""Name under which the history has the metrics of probes."""


class ProbeTask(NamedTuple):
    """Windows of a task on the subjects that a training may use."""

    windows: "ChosenWindows"
    """Windows of training subjects, then those of validation subjects."""
    n_train: int
    """Number of windows of training subjects."""


class ChosenWindows:
    """Some windows of a task.

    Parameters
    ----------
    windows : TaskWindows
    rows : int64, shape (windows,)
        Indices of the windows to use.
    """

    def __init__(self, windows: TaskWindows, rows: NDArray[np.int64]) -> None:
        self._windows = windows
        self._rows = rows
        self.labels = windows.labels[rows]
        self.classes = windows.classes

    def read(self, indices: Sequence[int]) -> Batch:
        """Read windows in physical units."""
        return self._windows.read(self._rows[list(indices)])


def make_probes(config: TrainingConfig, store: Store, corpus: Corpus) -> list[Callback]:
    """Create the callback that probes the network every ``probe_every`` steps.

    Without a task that training and validation subjects share there are no probes, and a warning gives the reasons.
    """
    if not config.probe_every:
        return []
    task = find_task(store, corpus)
    if isinstance(task, str):
        logger.warning("no probes during this training: %s", task)
        return []
    return [LinearProbe(task, every_n_steps=config.probe_every)]


def find_task(store: Store, corpus: Corpus) -> ProbeTask | str:
    """Infer a task from the events of the dataset with most segments that has one; otherwise return the reasons."""
    splits = corpus.subjects
    seen = [subject for subject, split in splits.items() if split in ("train", "validation")]
    reasons = []
    segments_of = Counter(str(subject).partition("/")[0] for subject in corpus.column("subject").tolist())
    for dataset, _ in sorted(segments_of.items(), key=lambda item: (-item[1], item[0])):
        try:
            windows = task_windows(store, infer_task(store, dataset, seen), seen)
        except UserError as error:
            reasons.append(str(error))
            continue
        sides = [_choose(windows, splits, split) for split in ("train", "validation")]
        if all(len(np.unique(windows.labels[rows])) == len(windows.classes) for rows in sides):
            return ProbeTask(ChosenWindows(windows, np.concatenate(sides)), len(sides[0]))
        reasons.append(f"dataset {dataset}: training or validation subjects lack a class of {windows.classes}")
    return "; ".join(reasons) or "the corpus has no dataset"


def _choose(windows: TaskWindows, splits: dict[str, str], split: str) -> NDArray[np.int64]:
    """Return the windows of a split's subjects, or `WINDOWS` of them in equal distances within each class."""
    rows = windows.of([subject for subject, of in splits.items() if of == split])
    chosen = []
    for label in np.unique(windows.labels[rows]):
        members = rows[windows.labels[rows] == label]
        n = min(len(members), -(-WINDOWS // len(windows.classes)))
        chosen.append(members[np.arange(n) * len(members) // n])
    return np.sort(np.concatenate(chosen)) if chosen else rows


class LinearProbe(Callback):
    """Fit a linear probe every few steps and record its balanced accuracy on validation subjects.

    Parameters
    ----------
    task : ProbeTask
    every_n_steps : int
    """

    def __init__(self, task: ProbeTask, *, every_n_steps: int) -> None:
        self._task = task
        self._every_n_steps = every_n_steps
        self._recipe = FinetuneRecipe.of()
        self._step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Probe after each few steps: on the first rank, or on all of them if each has only a part of the network."""
        step = trainer.global_step
        if step == self._step or step % self._every_n_steps or not isinstance(pl_module, Training):
            return
        self._step = step
        if not (trainer.is_global_zero or pl_module.is_sharded):
            return
        pl_module.meter.pause()
        with undisturbed(pl_module):
            values = self.measure(pl_module.network, pl_module.device)
        pl_module.record(SPLIT, values, step=step)
        pl_module.meter.resume()

    def measure(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the probe's balanced accuracy on validation subjects and the effective rank of their features."""
        windows, n_train = self._task
        features = self._embed(network, device)
        predicted = _fit_predict(features[:n_train], windows.labels[:n_train], features[n_train:], self._penalty)
        return {
            metrics.BALANCED_ACCURACY: metrics.balanced_accuracy(windows.labels[n_train:], predicted),
            metrics.EFFECTIVE_RANK: metrics.effective_rank(features[n_train:]),
        }

    @property
    def _penalty(self) -> float:
        """Inverse strength of the penalty: the middle one of the recipe, so that nothing is chosen on validation."""
        return sorted(self._recipe.penalties)[len(self._recipe.penalties) // 2]

    def _embed(self, network: nn.Module, device: torch.device) -> NDArray[np.float64]:
        windows = self._task.windows
        if isinstance(network, EncoderModule):
            return embed_windows(network, windows, self._recipe, device=device)
        if not isinstance(network, TokenizerModule):
            raise TypeError(f"{type(network).__name__} has no embedding to probe")
        network.eval()
        rows = []
        with torch.inference_mode():
            for x_BCN, pos, types, mask in standardised_batches(windows, self._recipe.batch_size, device):
                latents_BSTD = network.encode_latents(x_BCN, pos, types, overlap=0.0, channel_mask=mask)
                rows.append(pool(latents_BSTD, "log_std").cpu().double().numpy())
        return np.concatenate(rows)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Restore the modes of all parts and the states of the random generators after the block."""
    modes = [(part, part.training) for part in module.modules()]
    on_gpu = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=on_gpu):
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def _fit_predict(
    train: NDArray[np.float64], labels: NDArray[np.int64], validation: NDArray[np.float64], penalty: float
) -> NDArray[np.int64]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, class_weight="balanced", max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(train, labels)
    return np.asarray(pipeline.predict(validation), np.int64)
