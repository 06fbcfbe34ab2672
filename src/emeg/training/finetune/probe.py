"""Linear probe: logistic regression on the frozen embedding, its penalty chosen on validation subjects."""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emeg.errors import UserError
from emeg.metrics import balanced_accuracy
from emeg.models import POOLINGS, EncoderModule, pool
from emeg.progress import Progress
from emeg.sensors import SensorType
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.training.configs import FinetuneRecipe
from emeg.training.finetune.labelled_windows import FoldIndices, FoldOutcome, Windows
from emeg.training.loop.batches import signal_batch


def embed_windows(
    network: EncoderModule, windows: Windows, recipe: FinetuneRecipe, *, device: torch.device
) -> NDArray[np.float64]:
    """Embed all windows of a task with frozen weights, and pool them: shape (windows, pooled features).

    The result is the same for every fold, so that one call serves them all.

    Raises
    ------
    UserError
        The recipe asks for attention pooling, which needs a trained head.
    """
    if recipe.pooling == "attention":
        raise UserError(
            "pooling: attention is learned with the network and fits no probe; choose from " + ", ".join(POOLINGS)
        )
    pooling = recipe.pooling or network.default_pooling
    network = network.to(device).eval()
    rows = []
    with torch.inference_mode():
        for x, pos, types, mask in standardised_batches(windows, recipe.batch_size, device):
            embedding = network.embed(x, pos, types, channel_mask=mask, layers=recipe.layers)
            if recipe.layers:
                embedding = embedding.mean(dim=0)
            rows.append(pool(embedding, pooling).cpu().double().numpy())
    return np.concatenate(rows)


def standardised_batches(
    windows: Windows, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Yield normalised signal, positions, sensor types and channel mask of all windows in order, on a device."""
    for start in range(0, len(windows.labels), batch_size):
        indices = range(start, min(start + batch_size, len(windows.labels)))
        batch = signal_batch(windows.read(list(indices)))
        mask = None if batch.channel_mask is None else batch.channel_mask.to(device)
        types = batch.sensor_type.to(device)
        intracranial = bool((batch.sensor_type >= SensorType.SEEG).any())  # on the host, which waits for no device
        signal = normalise_signal(batch.signal.to(device), types, mask, intracranial=intracranial)
        yield signal, batch.pos.to(device), types, mask


def fit_probe(
    network: EncoderModule,
    windows: Windows,
    fold: FoldIndices,
    recipe: FinetuneRecipe,
    *,
    device: torch.device,
    keep_state: bool,
    progress: Progress,
    embedded: NDArray[np.float64] | None = None,
) -> FoldOutcome:
    """Fit logistic regressions of all penalties to the training windows; the best on validation predicts.

    Parameters
    ----------
    embedded : float64, shape (windows, pooled features), optional
        Output of `embed_windows` for the same network and recipe, dimensionless features; computed if not given.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if embedded is None:
        embedded = embed_windows(network, windows, recipe, device=device)
    features = {name: embedded[part] for name, part in fold.sides().items()}
    labels = {name: np.asarray(windows.labels)[part] for name, part in fold.sides().items()}
    history: list[dict[str, float]] = []
    best = None
    for number, penalty in enumerate(sorted(recipe.penalties)):
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, class_weight="balanced", max_iter=500))
        with warnings.catch_warnings():
            # weak penalties may stop at max_iter; validation judges the outcome either way
            warnings.simplefilter("ignore", ConvergenceWarning)
            pipeline.fit(features["train"], labels["train"])
        score = balanced_accuracy(labels["validation"], pipeline.predict(features["validation"]))
        history.append({"penalty": penalty, "validation_balanced_accuracy": score})
        progress(number + 1, len(recipe.penalties), f"probe {score:.3f}")
        if best is None or score > best[0]:
            best = (score, penalty, pipeline)
    if best is None:
        raise ValueError("the recipe lists no penalty")
    score, penalty, pipeline = best
    return FoldOutcome(
        probabilities=np.asarray(pipeline.predict_proba(features["test"]), np.float64),
        validation_balanced_accuracy=score,
        chosen={"penalty": penalty},
        history=history,
        state=_linear_state(pipeline) if keep_state else None,
    )


def _linear_state(pipeline: object) -> dict[str, Tensor]:
    scaler, regression = (step for _, step in pipeline.steps)  # type: ignore[attr-defined]
    arrays = {"mean": scaler.mean_, "scale": scaler.scale_, "weight": regression.coef_, "bias": regression.intercept_}
    return {name: torch.from_numpy(np.asarray(array)).contiguous() for name, array in arrays.items()}
