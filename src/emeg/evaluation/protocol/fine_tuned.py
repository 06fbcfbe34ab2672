"""A network that is trained on a task, whole or by low-rank factors, as a model that is compared.

Its input are indices of windows, since recordings differ in their channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.evaluation.protocol.interfaces import Channel, Family, Kind, Setting
from emeg.evaluation.rivals import spread_settings
from emeg.evaluation.rivals.catalogue import WITH_RETRIEVAL
from emeg.training.configs import FinetuneRecipe
from emeg.training.threads import n_threads, torch_threads

if TYPE_CHECKING:
    from emeg.evaluation.protocol.task_data import TaskData
    from emeg.training.finetune.classifier import FineTuning
    from emeg.training.finetune.labelled_windows import Windows

FineTunedMode = Literal["lora", "full"]
MODE_TITLES: dict[FineTunedMode, str] = {"lora": "low-rank fine-tuning", "full": "full fine-tuning"}


@dataclass(frozen=True, eq=False)
class FineTunedNetwork:
    """A network trained on a task; implements `emeg.evaluation.protocol.Rival`.

    Every setting trains a fixed number of epochs, and its last weights predict: to stop early would show validation
    windows to the fit.
    """

    name: FineTunedMode
    data: "TaskData"
    model: str
    """Encoder of the store."""
    weights: Literal["pretrained", "random"]
    recipe: FinetuneRecipe
    """How a network is fitted; its learning rates and its number of epochs are the settings to choose from."""
    device: str
    family: Family = "network"
    package: str = ""
    kinds: frozenset[Kind] = WITH_RETRIEVAL
    input: Literal["windows"] = "windows"

    @property
    def title(self) -> str:
        """Name shown to readers."""
        return MODE_TITLES[self.name]

    def settings(self, budget: int) -> Sequence[Setting]:
        """Return the settings to choose from on validation, at most `budget`."""
        epochs = self.recipe.epochs
        shorter = tuple(sorted({max(1, epochs // 3), epochs}, reverse=True))
        return spread_settings({"learning_rate": self.recipe.backbone_learning_rates, "epochs": shorter}, budget)

    def estimator(
        self, setting: Setting, *, kind: Kind, n_classes: int, channels: Sequence[Channel], sfreq: float, seed: int
    ) -> "FineTunedEstimator":
        """Create a network that is not trained yet.

        Parameters
        ----------
        setting : mapping
            One of `settings`.
        kind : str
            Kind of the task.
        n_classes : int
            Number of classes; 0 for targets and features of stimuli.
        channels : sequence of Channel
            Not used; windows keep the channels of their recording.
        sfreq : float
            Not used.
        seed : int
            Seed of random weights and of every draw.

        Raises
        ------
        UserError
            No network takes part in tasks of this kind.
        """
        del channels, sfreq
        if kind not in self.kinds:
            raise UserError(f"mode {self.name}: it cannot do tasks of kind {kind}; use mode frozen for them")
        recipe = self.recipe.model_copy(update={"mode": self.name, "seed": seed, "epochs": int(setting["epochs"])})
        return FineTunedEstimator(
            self.data.store.local_copy("models", self.model),
            self.data.windows_in_memory,
            recipe,
            learning_rate=float(setting["learning_rate"]),
            weights="trained" if self.weights == "pretrained" else "random",
            device=self.device,
            has_classes=n_classes > 0,
        )


class _Relabelled:
    """Windows with other labels, which may be permuted."""

    def __init__(self, windows: "Windows", labels: NDArray[np.int64]) -> None:
        self.labels = labels
        self.classes = windows.classes
        self.read = windows.read


class FineTunedEstimator:
    """Network that is trained on windows of a task, given by their indices.

    Parameters
    ----------
    model : Path
        Folder of an encoder.
    windows : Windows
        All windows of the task.
    recipe : FinetuneRecipe
        Mode, epochs and seed are used as they stand.
    learning_rate : float
        Learning rate of the backbone.
    weights : str
        trained, or random for fresh weights of the same sizes.
    device : str
        Device to compute on.
    has_classes : bool
        Whether it is trained on classes; else on targets, or on features of stimuli.
    """

    def __init__(
        self,
        model: Path,
        windows: "Windows",
        recipe: FinetuneRecipe,
        *,
        learning_rate: float,
        weights: Literal["trained", "random"],
        device: str,
        has_classes: bool = True,
    ) -> None:
        self._has_classes = has_classes
        self._model, self._windows, self._recipe = model, windows, recipe
        self._learning_rate, self._weights, self._device = learning_rate, weights, device
        self._fitted: FineTuning | None = None

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Self:
        """Train the network.

        Parameters
        ----------
        X : int64, shape (windows,)
            Indices of windows of the task.
        y : int64 or float64, shape (windows,) or (windows, stimulus features)
            Class index, target in any unit, or features of the stimulus of each of these windows.
        """
        import torch

        from emeg.training.device import pick_device
        from emeg.training.finetune.classifier import fit_all_epochs
        from emeg.training.finetune.fold import load_backbone
        from emeg.training.finetune.targets import make_targets

        rows = np.asarray(X, np.int64)
        labels = np.zeros(len(self._windows.labels), np.int64)
        targets = None
        if self._has_classes:
            labels[rows] = y
        else:
            targets = make_targets(len(labels), rows, y)
        chosen = pick_device(self._device)
        with torch.random.fork_rng(devices=[chosen] if chosen.type == "cuda" else []):
            network = load_backbone(self._model, weights=self._weights, seed=self._recipe.seed)
            self._threads = n_threads(sum(p.numel() for p in network.parameters()), 0)
            with torch_threads(self._threads):
                self._fitted = fit_all_epochs(
                    network,
                    _Relabelled(self._windows, labels),
                    rows,
                    self._recipe,
                    learning_rate=self._learning_rate,
                    device=chosen,
                    targets=targets,
                )
        return self

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return probabilities, float64 of shape (windows, classes).

        Parameters
        ----------
        X : int64, shape (windows,)
            Indices of windows of the task.
        """
        return self._outputs(X)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the most probable class index, int64 of shape (windows,), or the targets of each window.

        Targets are float64 of shape (windows, 1), features of stimuli float64 of shape (windows, stimulus features).

        Parameters
        ----------
        X : int64, shape (windows,)
            Indices of windows of the task.
        """
        found = self._outputs(X)
        return np.asarray(found.argmax(axis=1), np.int64) if self._has_classes else found

    def _outputs(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        from emeg.training.device import pick_device

        if self._fitted is None:
            raise ValueError("prediction before fit")
        with torch_threads(self._threads):
            return self._fitted.predict(np.asarray(rows, np.int64), pick_device(self._device))
