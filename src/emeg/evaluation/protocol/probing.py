"""Probe what the frozen features of the evaluated network hold, for every task with classes.

``probes.json`` of an evaluation has one entry for each task: `emeg.evaluation.probes.Probed` as JSON, with the number
of windows and channels, or the reason why there are no probes. ``device_tokens`` of every entry lists the agreement of
tokens between devices that recorded the task's subjects simultaneously (`device_agreement`); it is empty if none did.

Shape letters: B batch, C channels, N samples, D features.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emeg.data.tasks.folds import Fold
from emeg.evaluation.classical.channels import NO_CHANNEL
from emeg.evaluation.embeddings import BATCH_SIZE, EmbeddingSpec
from emeg.evaluation.probes import run_probes
from emeg.evaluation.protocol.device_agreement import device_agreement
from emeg.evaluation.protocol.interfaces import Windows
from emeg.evaluation.protocol.splits import TEST, TRAIN, VALIDATION
from emeg.evaluation.protocol.task_data import TaskData
from emeg.progress import Progress, silent
from emeg.sensors import positions_with_regions, sensor_keys
from emeg.store import Store, open_recording

if TYPE_CHECKING:
    from emeg.models import EncoderModule

MOST_WINDOWS = 240
"""Most windows of a task that are probed, since each change of the windows embeds all of them again."""
ACROSS = frozenset({"cross_subject", "leave_one_subject_out", "held_out_device", "paper_compat"})
"""Split rules whose folds test unseen subjects."""
Layers = tuple[int, ...]
Embed = Callable[[NDArray[np.float32], NDArray[np.intp], tuple[Layers, ...]], list[NDArray[np.float64]]]
"""Function of windows, indices of their channels, and groups of layers, which returns pooled features of each group.

One pass through the network serves all groups; the layers of a group are averaged."""


def probe_task(
    store: Store, data: TaskData, spec: EmbeddingSpec, *, device: str = "auto", progress: Progress = silent
) -> dict[str, Any]:
    """Return the probes of a network's features on one task as JSON, or the reason why there are none.

    The channels are those that all recordings of the task share; at most `MOST_WINDOWS` windows are used, spread over
    the subjects.

    Parameters
    ----------
    store : Store
    data : TaskData
    spec : EmbeddingSpec
        Network, pooling and layers.
    device : str
        Device of the network.
    progress : Progress
    """
    from emeg.training.device import pick_device
    from emeg.training.finetune.fold import load_backbone

    network = load_backbone(store.local_copy("models", spec.model), weights="trained", seed=0).to(pick_device(device))
    tokens = device_agreement(
        store, network, np.unique(data.windows.subjects).tolist(), window_s=data.windows.n_samples / data.windows.sfreq
    )
    if reason := missing_probes(data):
        return {"reason": reason, "device_tokens": tokens}
    chosen = spread_windows(data.windows.subjects, data.windows.labels, MOST_WINDOWS)
    windows = rows_of(data.as_windows(with_signal=True), chosen)
    manifest = next(iter(data.manifests.values()))
    folds = [
        Fold(*(np.flatnonzero(np.isin(chosen, manifest.rows(fold, side))) for side in (TRAIN, VALIDATION, TEST)))
        for fold in range(len(manifest))
    ]
    embed = embedder(store, network, windows, spec)
    everything = np.arange(len(windows.channels))
    assert windows.signal_BCN is not None
    every_layer = tuple((layer,) for layer in range(network.depth + 1))
    features = embed(windows.signal_BCN, everything, every_layer)
    layers = {str(layer): own for (layer,), own in zip(every_layer, features, strict=True)}
    probed = run_probes(
        windows,
        lambda signal_BCN, picks: embed(signal_BCN, picks, (spec.layers,))[0],
        folds,
        layers=layers,
        progress=progress,
    )
    return {
        "reason": "",
        "n_windows": len(chosen),
        "n_channels": len(everything),
        "device_tokens": tokens,
        **probed.to_json(),
    }


def missing_probes(data: TaskData) -> str:
    """Return why a task cannot be probed; empty if it can."""
    if data.recipe.kind not in ("classification", "diagnosis"):
        return f"probes need classes; the task is of kind {data.recipe.kind}"
    if data.rule not in ACROSS:
        return f"probes need unseen subjects; the split rule is {data.rule.replace('_', ' ')}"
    if data.signal is None:
        return NO_CHANNEL
    return ""


def spread_windows(subjects: NDArray[np.str_], labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return indices of at most `most` windows, ascending: equally many of each subject and class, spread over time.

    Parameters
    ----------
    subjects : str, shape (windows,)
        Global name of the subject of each window; no unit.
    labels : int64, shape (windows,)
        Class indices.
    most : int
        Largest number of windows.
    """
    groups = [
        np.flatnonzero((subjects == subject) & (labels == label))
        for subject in np.unique(subjects)
        for label in np.unique(labels[subjects == subject])
    ]
    each = max(most // len(groups), 1)
    kept = [own[np.unique(np.linspace(0, len(own) - 1, min(each, len(own))).round().astype(int))] for own in groups]
    return np.sort(np.concatenate(kept)).astype(np.int64)


def rows_of(windows: Windows, rows: NDArray[np.int64]) -> Windows:
    """Return some of the windows.

    Parameters
    ----------
    windows : Windows
    rows : int64, shape (windows,)
        Indices of the windows.
    """
    per_window: dict[str, Any] = {
        name: value[rows] for name, value in windows._asdict().items() if isinstance(value, np.ndarray)
    }
    return windows._replace(**per_window)


def embedder(store: Store, network: "EncoderModule", windows: Windows, spec: EmbeddingSpec) -> Embed:
    """Return a function that embeds windows of some of the shared channels, with the positions of the first recording.

    Parameters
    ----------
    store : Store
    network : EncoderModule
    windows : Windows
        Their channels are those that the function expects.
    spec : EmbeddingSpec
        Its pooling is used.
    """
    import torch

    from emeg.models import pool
    from emeg.tokenizers.braintokenizer import normalise_signal

    sensors = open_recording(store, str(windows.recordings[0])).sensors
    row_of = {key: row for row, key in enumerate(sensor_keys(sensors))}
    rows = [row_of[channel.name, int(channel.type)] for channel in windows.channels]
    positions, types = positions_with_regions(sensors)[rows], sensors.types[rows].astype(np.int64)
    device = next(network.parameters()).device
    pooling: Any = spec.pooling

    def embed(
        signal_BCN: NDArray[np.float32], picks: NDArray[np.intp], groups: tuple[Layers, ...]
    ) -> list[NDArray[np.float64]]:
        layers = tuple(sorted({layer for group in groups for layer in group}))
        parts: list[list[NDArray[np.float64]]] = [[] for _ in groups]
        with torch.inference_mode():
            for start in range(0, len(signal_BCN), BATCH_SIZE):
                x_BCN = torch.from_numpy(np.ascontiguousarray(signal_BCN[start : start + BATCH_SIZE])).to(device)
                kinds = torch.from_numpy(types[picks]).to(device).expand(len(x_BCN), -1)
                where = torch.from_numpy(positions[picks]).to(device).expand(len(x_BCN), -1, -1)
                embedding = network.embed(normalise_signal(x_BCN, kinds), where, kinds, layers=layers)
                for part, group in zip(parts, groups, strict=True):
                    own = embedding[[layers.index(one) for one in group]].mean(dim=0) if group else embedding
                    part.append(pool(own, pooling).double().cpu().numpy())
        return [np.concatenate(part) for part in parts]

    return embed
