"""Fit a classifier to one fold of a task: the whole network, or a linear probe on its frozen features.

windows ──▶ tokenizer's encoder ──latents, not quantised──▶ encoder ──embedding──▶ TaskHead        (full)
windows ──▶ embedding, once ──pooled──▶ standardised ──▶ logistic regression                (probe)

Training subjects fit the parameters, validation subjects choose learning rate, epoch or penalty, and test subjects are
only predicted.
"""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from emeg.errors import UserError
from emeg.models import EncoderModule, load_encoder
from emeg.models.building import with_random_weights
from emeg.progress import Progress, silent
from emeg.training.configs import FinetuneRecipe
from emeg.training.device import pick_device
from emeg.training.finetune.classifier import fit_classifier
from emeg.training.finetune.labelled_windows import FoldIndices, FoldOutcome, InMemoryWindows, Windows, in_memory
from emeg.training.finetune.probe import embed_windows, fit_probe

__all__ = [
    "FoldIndices",
    "FoldOutcome",
    "InMemoryWindows",
    "Weights",
    "Windows",
    "embed_task",
    "finetune_fold",
    "in_memory",
]

logger = logging.getLogger(__name__)

Weights = Literal["trained", "random"]


def finetune_fold(
    model: Path,
    windows: Windows,
    fold: FoldIndices,
    recipe: FinetuneRecipe,
    *,
    weights: Weights = "trained",
    device: str = "auto",
    keep_state: bool = False,
    embedded: NDArray[np.float64] | None = None,
    progress: Progress = silent,
) -> FoldOutcome:
    """Fit one fold and predict its test windows.

    Parameters
    ----------
    model : Path
        Folder of an encoder: config.json and model.safetensors.
    windows : Windows
        Labelled windows in physical units (`emeg.data.TaskWindows`). Read `in_memory` once, they serve all folds.
    fold : FoldIndices
    recipe : FinetuneRecipe
    weights : str
        ``"random"`` takes the model's sizes and fresh weights (seeded by ``recipe.seed``).
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    keep_state : bool
        Whether to return the fitted weights.
    embedded : float64, shape (windows, pooled features), optional
        Output of `embed_task` for the same model, recipe and weights, dimensionless features. A probe uses it in place
        of embedding the windows again for this fold.

    Returns
    -------
    FoldOutcome
        ``probabilities`` (test windows, classes).

    Raises
    ------
    UserError
        A part of the fold is empty, parts overlap, or training lacks a class.
    """
    _check(windows, fold)
    chosen = pick_device(device)
    with torch.random.fork_rng(devices=[chosen] if chosen.type == "cuda" else []):
        network = load_backbone(model, weights=weights, seed=recipe.seed)
        if recipe.mode == "probe":
            return fit_probe(
                network,
                windows,
                fold,
                recipe,
                device=chosen,
                keep_state=keep_state,
                progress=progress,
                embedded=embedded,
            )
        return fit_classifier(network, windows, fold, recipe, device=chosen, keep_state=keep_state, progress=progress)


def embed_task(
    model: Path, windows: Windows, recipe: FinetuneRecipe, *, weights: Weights = "trained", device: str = "auto"
) -> NDArray[np.float64]:
    """Embed and pool all windows of a task with frozen weights, once for all folds of a probe.

    Parameters
    ----------
    model : Path
        Folder of an encoder: config.json and model.safetensors.
    windows : Windows
        Labelled windows in physical units.
    recipe : FinetuneRecipe
    weights : str
        ``"random"`` takes the model's sizes and fresh weights (seeded by ``recipe.seed``).
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Returns
    -------
    float64, shape (windows, pooled features)
    """
    chosen = pick_device(device)
    with torch.random.fork_rng(devices=[chosen] if chosen.type == "cuda" else []):
        network = load_backbone(model, weights=weights, seed=recipe.seed)
        return embed_windows(network, windows, recipe, device=chosen)


def load_backbone(model: Path, *, weights: Weights, seed: int) -> EncoderModule:
    """Load an encoder with its tokenizer, or one of the same sizes from random weights."""
    trained: EncoderModule = load_encoder(model)
    if weights == "trained":
        return trained
    torch.manual_seed(seed)
    return with_random_weights(trained)


def _check(windows: Windows, fold: FoldIndices) -> None:
    parts = {name: set(map(int, part)) for name, part in fold.sides().items()}
    for name, part in parts.items():
        if not part:
            raise UserError(f"the fold has no {name} windows; use fewer folds, or a task with more subjects")
    if parts["train"] & (parts["validation"] | parts["test"]) or parts["validation"] & parts["test"]:
        raise UserError("windows of the fold are in two of train, validation and test; split by subject")
    missing = set(range(len(windows.classes))) - {int(windows.labels[i]) for i in parts["train"]}
    if missing:
        names = ", ".join(windows.classes[i] for i in sorted(missing))
        raise UserError(f"the training subjects of the fold have no window of {names}; use fewer folds")
