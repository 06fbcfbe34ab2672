"""Files that ``finetune`` and ``evaluate`` write. Equal inputs and threads give equal bytes.

``models/<finetuned>/``
    ``config.json``          ``{"kind": "finetuned", "version", "config", "tokenizer", "provenance"}``; in
                             ``provenance``: model, corpus, task, classes, folds, weights_of (fold, mode, weights)
    ``model.safetensors``    weights of the fold that validated best
    ``predictions.parquet``  `PREDICTIONS`, of the networks
    ``histories.parquet``    `HISTORIES`, settings that every fold tried, with their validation metrics
``evaluations/<evaluation>/``
    ``figures.json``         `EvaluationSummary`
    ``figures.parquet``      `FIGURES`: the same values as a long table
    ``predictions.parquet``  `PREDICTIONS`, of all models
    ``arrays.npz``           arrays that the report plots, by name:

        ``spectra/<d>/freqs`` (F,), Hz; ``spectra/<d>/signal``, ``spectra/<d>/reconstruction`` (F,), power per Hz of
        windows of unit variance, median over channels and windows, of the d-th of ``reconstruction``
        ``examples/<e>/signal``, ``examples/<e>/reconstruction`` (channels, samples), units of the normalised signal
        ``codebook/counts`` int64 (quantizers, codes)
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import AliasChoices, Field

from emeg.config import Config
from emeg.data.tasks.folds import SubjectFold
from emeg.store import Store
from emeg.store.catalog.parquet import table_of
from emeg.uri import locate

PREDICTIONS = pa.schema(
    [
        ("model", pa.string()),
        ("weights", pa.string()),
        ("mode", pa.string()),
        ("fold", pa.int32()),
        ("subject", pa.string()),
        ("recording", pa.string()),
        ("start", pa.int64()),
        ("window", pa.int64()),
        ("label", pa.int32()),
        ("probabilities", pa.list_(pa.float64())),
    ]
)
"""One row per model and window: first sample in the recording, class index, probability of every class."""

HISTORIES = pa.schema(
    [
        ("model", pa.string()),
        ("fold", pa.int32()),
        ("row", pa.int32()),
        ("name", pa.string()),
        ("value", pa.float64()),
    ]
)
"""Settings tried, in order; rows of one number belong to one epoch or one penalty."""

FIGURES = pa.schema(
    [
        ("model", pa.string()),
        ("scope", pa.string()),
        ("fold", pa.int32()),
        ("subject", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("note", pa.string()),
    ]
)
"""``scope``: fold, mean, sd, pooled or subject; `value` is null if a metric is not defined, `note` says why."""


class MetricSummary(Config):
    """One metric of one model."""

    mean: float | None
    """Mean over folds."""
    sd: float | None
    """Standard deviation over folds (n - 1)."""
    folds: tuple[float | None, ...]
    """Value of each fold; null if not defined there."""
    pooled: float | None
    """Value over all windows, each predicted by the fold that tested it."""
    notes: tuple[str, ...] = ()
    """Why a value is null, or over which classes it was computed."""


class ModelSummary(Config):
    """Metrics of one of the models compared: a row of the task table."""

    name: str
    """pretrained_full, pretrained_probe, random_full, random_probe, band_power, tangent_space or chance."""
    title: str
    """Name shown to readers."""
    weights: Literal["pretrained", "random", ""] = ""
    """Initial weights of a network."""
    mode: Literal["full", "lora", "probe", ""] = ""
    """How the network was fitted."""
    status: Literal["done", "not installed", "not applicable"] = "done"
    """Whether there are metrics."""
    reason: str = ""
    """Why there are no metrics."""
    metrics: dict[str, MetricSummary] = Field(default_factory=dict)
    """Metrics by the names of `emeg.evaluation.METRICS`."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Windows by true (row) and predicted (column) class, all folds pooled."""
    subjects: dict[str, float | None] = Field(default_factory=dict)
    """Balanced accuracy of every subject."""
    settings: tuple[dict[str, str | float], ...] = ()
    """Settings chosen on validation, for each fold."""


class TaskSummary(Config):
    """Definition and size of a task."""

    name: str
    """Name of the task."""
    classes: tuple[str, ...]
    """Class names in the order of labels."""
    definition: dict[str, Any]
    """The task's configuration."""
    inferred: bool
    """Whether the task was inferred from events."""
    n_subjects: int
    """Number of subjects."""
    n_windows: int
    """Number of windows."""
    windows_per_class: dict[str, int]
    """Number of windows of each class."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Number of windows left out, by reason."""
    folds: tuple[SubjectFold, ...]
    """Subjects of each side of every fold."""
    notice: str = ""
    """How the folds differ from the request."""
    chance: float
    """Expected balanced accuracy of guessing."""
    baseline_channels: tuple[str, ...] = ()
    """Channels of the classical baselines: those that all recordings have by name."""


class ReconstructionSummary(Config):
    """Reconstruction of unseen subjects, for one device and sensor type."""

    device: str
    """Device."""
    sensor_type: str
    """eeg, magnetometer or gradiometer."""
    n_segments: int
    """Number of segments reconstructed."""
    n_subjects: int
    """Number of subjects of these segments."""
    n_channels: int
    """Channels of this type."""
    pcc: float | None
    """Pearson correlation of signal and reconstruction, mean over windows and channels."""
    pcc_subjects_sd: float | None
    """Standard deviation of the subjects' means."""
    n_flat: int
    """Channel windows without variance, which have no correlation and are left out."""
    bands: dict[str, float]
    """The same correlation inside delta, theta, alpha, beta, gamma and high (45 Hz to the end)."""


class ExampleSummary(Config):
    """A part of a signal with its reconstruction; ``arrays.npz`` holds its arrays under its index."""

    device: str
    """Device."""
    subject: str
    """Global name of the subject."""
    recording: str
    """Recording."""
    start_s: float
    """Start in the recording, s."""
    sfreq: float
    """Sampling rate, Hz."""
    channels: tuple[str, ...]
    """Channel names as recorded."""
    pcc: float | None
    """Mean correlation over these channels and windows."""


class CodebookSummary(Config):
    """Use of one codebook by unseen subjects."""

    n_codes: int
    """Codes of the codebook."""
    n_used: int
    """Codes that occur."""
    perplexity: float
    """Two to the entropy of the codes in bits."""
    n_tokens: int
    """Number of tokens counted."""


class EvaluationSummary(Config):
    """All scalar results of an evaluation, stored as ``figures.json``."""

    kind: Literal["evaluation"] = "evaluation"
    """Kind of product."""
    version: str
    """Version of emeg."""
    task: TaskSummary | None
    """Task; None if none can be formed."""
    task_missing_reason: str
    """Why there is no task; empty if there is one."""
    models: tuple[ModelSummary, ...] = Field(validation_alias=AliasChoices("models", "contestants"))
    """Models compared, in the order of tables; older evaluations name the field ``contestants``."""
    reconstruction: tuple[ReconstructionSummary, ...]
    """Reconstruction by device and sensor type."""
    examples: tuple[ExampleSummary, ...]
    """Examples, devices alternating."""
    codebook: tuple[CodebookSummary, ...]
    """Use of the codebook of each quantizer level."""
    provenance: dict[str, Any]
    """Names of products (finetuned, model, tokenizer, tokens, corpus), configuration, versions, seeds, notes."""


def kind_of(store: Store, evaluation: str) -> str:
    """Return the kind of an evaluation: ``task`` (one task and the tokenizer), ``grid`` or ``generation``."""
    return str(store.read_json("evaluations", evaluation, "figures.json").get("kind", "task"))


def read_summary(store: Store, evaluation: str) -> EvaluationSummary:
    """Read ``figures.json`` of an evaluation."""
    location = store.location("evaluations", evaluation, "figures.json")
    return EvaluationSummary.checked(location.read_json(), source=str(location))


def read_arrays(store: Store, evaluation: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of ``arrays.npz`` of an evaluation."""
    data = store.location("evaluations", evaluation, "arrays.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_predictions(store: Store, kind: Literal["models", "evaluations"], name: str) -> pa.Table:
    """Read ``predictions.parquet`` of a fine-tuned model or of an evaluation."""
    table = table_of(store.location(kind, name, "predictions.parquet").read_bytes())
    # older predictions name the column "contestant"
    return table.rename_columns(["model" if column == "contestant" else column for column in table.column_names])


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as Parquet; equal rows give equal bytes."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz file sorted by name; equal arrays give equal bytes, since members have no time stamp.

    Parameters
    ----------
    path : Path
    arrays : mapping of str to array, any shape and dtype
        No unit; the module docstring lists the names.
    """
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})


def write_summary(folder: Path, summary: EvaluationSummary) -> None:
    """Write ``figures.json`` and ``figures.parquet``."""
    (locate(folder) / "figures.json").write_json(summary.model_dump(mode="json"))
    write_table(folder / "figures.parquet", list(_long(summary)), FIGURES)


def _long(summary: EvaluationSummary) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for model in summary.models:
        for metric, found in model.metrics.items():
            base = {"model": model.name, "metric": metric, "note": "; ".join(found.notes)}
            rows += [base | {"scope": "fold", "fold": k, "value": value} for k, value in enumerate(found.folds)]
            rows += [base | {"scope": scope, "value": getattr(found, scope)} for scope in ("mean", "sd", "pooled")]
        rows += [
            {
                "model": model.name,
                "scope": "subject",
                "subject": subject,
                "metric": "balanced_accuracy",
                "value": value,
                "note": "",
            }
            for subject, value in model.subjects.items()
        ]
    for device in summary.reconstruction:
        base = {"model": f"reconstruction/{device.device}/{device.sensor_type}", "scope": "pooled", "note": ""}
        rows.append(base | {"metric": "pcc", "value": device.pcc})
        rows += [base | {"metric": f"pcc_{band}", "value": value} for band, value in device.bands.items()]
    for level, codebook in enumerate(summary.codebook):
        base = {"model": f"codebook/{level}", "scope": "pooled", "note": ""}
        rows += [base | {"metric": m, "value": float(getattr(codebook, m))} for m in ("n_used", "perplexity")]
    return rows
