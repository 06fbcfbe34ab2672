"""Embeddings as a product: pooled features of a frozen network, computed once for each recording and set of windows.

``embeddings/<embedding>/``
    ``config.json``   `EmbeddingCard`: model, weights, pooling, recording and the first samples of its windows
    ``features.npy``  float32 (windows, features), in the order of the windows in ``config.json``

Shape letters: B batch, D features.
"""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from emeg.config import Config
from emeg.data.batch import Batch
from emeg.evaluation.sharing import share_work
from emeg.hashing import hash_json, sha256_bytes
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.uri import locate
from emeg.version import __version__

logger = logging.getLogger(__name__)

BATCH_SIZE = 16
"""Windows embedded at once."""


class EmbeddingSpec(NamedTuple):
    """Network and pooling of features."""

    model: str
    """Encoder of the store."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """Trained weights, or fresh ones of the same sizes."""
    seed: int = 0
    """Seed of random weights; no effect on trained ones."""
    pooling: str = "log_std"
    """One of `emeg.models.POOLINGS`."""
    layers: tuple[int, ...] = ()
    """Numbers of blocks behind the embeddings to average; empty: the last but one."""


class EmbeddingCard(Config):
    """``config.json`` of an embedding."""

    kind: Literal["embeddings"] = "embeddings"
    """Kind of product."""
    version: str
    """Version of emeg."""
    model: str
    """Encoder."""
    weights: Literal["pretrained", "random"]
    """Weights of the network."""
    seed: int
    """Seed of random weights."""
    pooling: str
    """Pooling over latent steps."""
    layers: tuple[int, ...]
    """Blocks behind the embeddings; empty: the last but one."""
    recording: str
    """Recording id."""
    sensors: str
    """eeg or meg if only these sensors were used, else empty."""
    n_samples: int
    """Samples of a window."""
    starts: tuple[int, ...]
    """First sample of each window."""
    n_features: int = 0
    """Features of a window."""
    bytes: int = 0
    """Size of ``features.npy``."""
    sha256: str = ""
    """SHA-256 of ``features.npy``."""

    @property
    def name(self) -> str:
        """Name of the product."""
        made_of = self.model_dump(mode="json", exclude={"n_features", "bytes", "sha256"})
        return hash_json(made_of)


class EmbeddedWindows(Protocol):
    """Windows to embed; `emeg.data.TaskWindows` is one. Every array has shape (windows,)."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of every window."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def recordings(self) -> NDArray[np.str_]:
        """Recording ids."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """First samples."""

    @property
    def n_samples(self) -> int:
        """Samples of a window."""

    @property
    def task(self) -> Any:  # noqa: ANN401 - a recipe, or the configuration of a single task
        """Definition of the task; its ``sensors`` count, if it has any."""

    def read(self, indices: Sequence[int]) -> Batch:
        """Read windows in physical units."""


class _OneRecording:
    """Windows of one recording, as `emeg.training` embeds them."""

    def __init__(self, windows: EmbeddedWindows, rows: NDArray[np.int64]) -> None:
        self._windows, self._rows = windows, rows
        self.labels = windows.labels[rows]
        self.classes = windows.classes

    def read(self, indices: Sequence[int]) -> Batch:
        return self._windows.read(self._rows[list(indices)].tolist())


class _Job(NamedTuple):
    card: EmbeddingCard
    rows: NDArray[np.int64]
    """Indices of the windows, in the order of ``card.starts``."""


def embedding_names(windows: EmbeddedWindows, spec: EmbeddingSpec) -> list[str]:
    """Return the names of the products that hold the features of some windows, whether they exist or not."""
    return [job.card.name for job in _jobs(windows, spec)]


def embed(
    store: Store,
    windows: EmbeddedWindows,
    spec: EmbeddingSpec,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Return the features of windows; compute and publish those of recordings that were not embedded yet.

    Parameters
    ----------
    store : Store
    windows : EmbeddedWindows
    spec : EmbeddingSpec
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    progress : Progress

    Returns
    -------
    float32, shape (windows, features)

    Raises
    ------
    UserError
        There is no such model, pooling or layer.
    """
    jobs = _jobs(windows, spec)
    missing = [job for job in jobs if not store.has("embeddings", job.card.name)]
    if missing:
        _publish(store, windows, spec, missing, device, progress)
        logger.info("embedded %d windows of %d recordings", sum(len(j.rows) for j in missing), len(missing))
    parts = [(job.rows, read_embedding(store, job.card.name)) for job in jobs]
    features_BD = np.empty((len(windows.labels), parts[0][1].shape[1]), np.float32)
    for rows, part in parts:
        features_BD[rows] = part
    return features_BD


def read_embedding(store: Store, name: str) -> NDArray[np.float32]:
    """Read the features of one embedding, float32 of shape (windows, features)."""
    data = store.read_bytes("embeddings", name, "features.npy")
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False), np.float32)


def _jobs(windows: EmbeddedWindows, spec: EmbeddingSpec) -> list[_Job]:
    jobs = []
    for recording in np.unique(windows.recordings):
        rows = np.flatnonzero(windows.recordings == recording)
        rows = rows[np.argsort(windows.starts[rows], kind="stable")]  # tasks that cut equal windows share them
        card = EmbeddingCard(
            version=__version__,
            model=spec.model,
            weights=spec.weights,
            seed=spec.seed if spec.weights == "random" else 0,
            pooling=spec.pooling,
            layers=spec.layers,
            recording=str(recording),
            sensors=getattr(windows.task, "sensors", None) or "",
            n_samples=windows.n_samples,
            starts=tuple(windows.starts[rows].tolist()),
        )
        jobs.append(_Job(card, rows.astype(np.int64)))
    return jobs


def _publish(
    store: Store,
    windows: EmbeddedWindows,
    spec: EmbeddingSpec,
    jobs: Sequence[_Job],
    device: str,
    progress: Progress,
) -> None:
    import torch

    from emeg.training import FinetuneRecipe
    from emeg.training.device import pick_device
    from emeg.training.finetune.fold import load_backbone
    from emeg.training.finetune.probe import embed_windows

    chosen = pick_device(device)
    recipe = FinetuneRecipe.of(pooling=spec.pooling, layers=spec.layers, batch_size=BATCH_SIZE)
    by_name = {job.card.name: job for job in jobs}
    with torch.random.fork_rng(devices=[chosen] if chosen.type == "cuda" else []):
        weights: Literal["trained", "random"] = "trained" if spec.weights == "pretrained" else "random"
        network = load_backbone(store.local_copy("models", spec.model), weights=weights, seed=spec.seed)

        def make(name: str) -> None:
            job = by_name[name]
            features_BD = embed_windows(network, _OneRecording(windows, job.rows), recipe, device=chosen)
            with store.publishing("embeddings", name) as folder:
                _write(folder, job.card, features_BD.astype(np.float32))
            n_done = sum(store.has("embeddings", one) for one in by_name)
            progress(n_done, len(by_name), f"embedded {job.card.recording} ({spec.weights} weights)")

        share_work(store, list(by_name), lambda name: store.has("embeddings", name), make)


def _write(folder: Path, card: EmbeddingCard, features_BD: NDArray[np.float32]) -> None:
    data = io.BytesIO()
    np.save(data, features_BD, allow_pickle=False)
    content = data.getvalue()
    (folder / "features.npy").write_bytes(content)
    filled = card.model_copy(
        update={"n_features": features_BD.shape[1], "bytes": len(content), "sha256": sha256_bytes(content)}
    )
    (locate(folder) / "config.json").write_json(filled.model_dump(mode="json"))
