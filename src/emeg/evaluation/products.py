"""Every file that the verbs write, in one place. Equal inputs at equal threads give equal bytes.

``models/<finetuned>/``
    ``config.json``          ``{"kind": "finetuned", "version", "config", "tokenizer", "provenance"}``; in
                             ``provenance``: model, corpus, task, classes, folds, weights_of (fold, mode, weights)
    ``model.safetensors``    weights of the fold that validated best
    ``predictions.parquet``  `PREDICTIONS`, the network's contestants
    ``histories.parquet``    `HISTORIES`, what every fold tried and how it validated
``evaluations/<evaluation>/``
    ``figures.json``         `EvaluationFigures`
    ``figures.parquet``      `FIGURES`: the same scalars as a long table
    ``predictions.parquet``  `PREDICTIONS`, all contestants
    ``arrays.npz``           what the report draws, by name:

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
from pydantic import Field

from emeg.config import Config
from emeg.data.tasks.folds import SubjectFold
from emeg.store import Store
from emeg.store.catalog.parquet import table_of
from emeg.uri import locate

PREDICTIONS = pa.schema(
    [
        ("contestant", pa.string()),
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
"""One row a contestant and window: first sample in the recording, class index, probability of every class."""

HISTORIES = pa.schema(
    [
        ("contestant", pa.string()),
        ("fold", pa.int32()),
        ("row", pa.int32()),
        ("name", pa.string()),
        ("value", pa.float64()),
    ]
)
"""What was tried, in order: rows of one number are one epoch or one penalty."""

FIGURES = pa.schema(
    [
        ("contestant", pa.string()),
        ("scope", pa.string()),
        ("fold", pa.int32()),
        ("subject", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("note", pa.string()),
    ]
)
"""``scope``: fold, mean, sd, pooled or subject; `value` is null where a figure is not defined, `note` says why."""


class MetricFigures(Config):
    """One metric of one contestant."""

    mean: float | None
    """Over folds."""
    sd: float | None
    """Over folds, n - 1."""
    folds: tuple[float | None, ...]
    """Fold by fold; null where it is not defined there."""
    pooled: float | None
    """Over all windows, each predicted by the fold that tested it."""
    notes: tuple[str, ...] = ()
    """Why a figure is null, or over which classes it was taken."""


class ContestantFigures(Config):
    """One row of the task table."""

    name: str
    """pretrained_full, pretrained_probe, random_full, random_probe, band_power, tangent_space or chance."""
    title: str
    """For people."""
    weights: Literal["pretrained", "random", ""] = ""
    """Of a network."""
    mode: Literal["full", "probe", ""] = ""
    """How a network was fitted."""
    status: Literal["done", "not installed", "not applicable"] = "done"
    """Whether there are figures."""
    reason: str = ""
    """Why there are none."""
    metrics: dict[str, MetricFigures] = Field(default_factory=dict)
    """By the names of `emeg.evaluation.METRICS`."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Windows by true (row) and predicted (column) class, all folds together."""
    subjects: dict[str, float | None] = Field(default_factory=dict)
    """Balanced accuracy of every person."""
    settings: tuple[dict[str, str | float], ...] = ()
    """What validation chose, fold by fold."""


class TaskFigures(Config):
    """What was asked, of whom."""

    name: str
    """Name of the task."""
    classes: tuple[str, ...]
    """In the order of labels."""
    definition: dict[str, Any]
    """The task's configuration."""
    inferred: bool
    """Read from the events, nobody described it."""
    n_subjects: int
    """People."""
    n_windows: int
    """Windows."""
    windows_per_class: dict[str, int]
    """By class."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Windows that events asked for and recordings do not give, by reason."""
    folds: tuple[SubjectFold, ...]
    """Who is where."""
    notice: str = ""
    """How the folds differ from what was asked for."""
    chance: float
    """Balanced accuracy to expect from guessing."""
    baseline_channels: tuple[str, ...] = ()
    """Channels that the classical baselines see: those that all recordings have by name."""


class DeviceFigures(Config):
    """Reconstruction on unseen people, one device and sensor type."""

    device: str
    """Device."""
    sensor_type: str
    """eeg, magnetometer or gradiometer."""
    n_segments: int
    """Segments looked at."""
    n_subjects: int
    """People they are of."""
    n_channels: int
    """Channels of this type."""
    pcc: float | None
    """Pearson correlation of signal and reconstruction, mean over windows and channels."""
    pcc_subjects_sd: float | None
    """Standard deviation of the people's means."""
    n_flat: int
    """Channel windows without variance, which have no correlation and are left out."""
    bands: dict[str, float]
    """The same correlation inside delta, theta, alpha, beta, gamma and high (45 Hz to the end)."""


class ExampleFigures(Config):
    """A stretch shown as signal and reconstruction; its arrays lie in ``arrays.npz`` under its place in the list."""

    device: str
    """Device."""
    subject: str
    """Global name."""
    recording: str
    """Recording."""
    start_s: float
    """Start in the recording, s."""
    sfreq: float
    """Hz."""
    channels: tuple[str, ...]
    """Names, as recorded."""
    pcc: float | None
    """Mean correlation over these channels and windows."""


class CodebookFigures(Config):
    """Use of one quantizer's codes by unseen people."""

    n_codes: int
    """Codes there are."""
    n_used: int
    """Codes that occur."""
    perplexity: float
    """Two to the entropy in bits: as many equally used codes would carry as much."""
    n_tokens: int
    """Tokens counted."""


class EvaluationFigures(Config):
    """All scalars of an evaluation; ``figures.json``."""

    kind: Literal["evaluation"] = "evaluation"
    """What it is."""
    version: str
    """Of emeg."""
    task: TaskFigures | None
    """None where no task can be formed."""
    task_missing_reason: str
    """Why there is no task; empty where there is one."""
    contestants: tuple[ContestantFigures, ...]
    """In the order of tables."""
    reconstruction: tuple[DeviceFigures, ...]
    """By device and sensor type."""
    examples: tuple[ExampleFigures, ...]
    """Devices take turns."""
    codebook: tuple[CodebookFigures, ...]
    """By quantizer level."""
    provenance: dict[str, Any]
    """Names of products (finetuned, model, tokenizer, tokens, corpus), configuration, versions, seeds, notes."""


def read_figures(store: Store, evaluation: str) -> EvaluationFigures:
    """Read ``figures.json`` of an evaluation."""
    place = store.location("evaluations", evaluation, "figures.json")
    return EvaluationFigures.checked(place.read_json(), source=str(place))


def read_arrays(store: Store, evaluation: str) -> dict[str, NDArray[Any]]:
    """Read ``arrays.npz`` of an evaluation, all of it."""
    data = store.location("evaluations", evaluation, "arrays.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_predictions(store: Store, room: Literal["models", "evaluations"], name: str) -> pa.Table:
    """Read ``predictions.parquet`` of a fine-tuned model or of an evaluation."""
    data = store.location(room, name, "predictions.parquet").read_bytes()
    return table_of(data)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as parquet; equal rows give equal bytes."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz in the order of names; its members carry no time, so equal arrays give equal bytes."""
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})


def write_figures(folder: Path, figures: EvaluationFigures) -> None:
    """Write ``figures.json`` and ``figures.parquet``."""
    (locate(folder) / "figures.json").write_json(figures.model_dump(mode="json"))
    write_table(folder / "figures.parquet", list(_long(figures)), FIGURES)


def _long(figures: EvaluationFigures) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for contestant in figures.contestants:
        for metric, found in contestant.metrics.items():
            base = {"contestant": contestant.name, "metric": metric, "note": "; ".join(found.notes)}
            rows += [base | {"scope": "fold", "fold": k, "value": value} for k, value in enumerate(found.folds)]
            rows += [base | {"scope": scope, "value": getattr(found, scope)} for scope in ("mean", "sd", "pooled")]
        rows += [
            {
                "contestant": contestant.name,
                "scope": "subject",
                "subject": subject,
                "metric": "balanced_accuracy",
                "value": value,
                "note": "",
            }
            for subject, value in contestant.subjects.items()
        ]
    for device in figures.reconstruction:
        base = {"contestant": f"reconstruction/{device.device}/{device.sensor_type}", "scope": "pooled", "note": ""}
        rows.append(base | {"metric": "pcc", "value": device.pcc})
        rows += [base | {"metric": f"pcc_{band}", "value": value} for band, value in device.bands.items()]
    for level, codebook in enumerate(figures.codebook):
        base = {"contestant": f"codebook/{level}", "scope": "pooled", "note": ""}
        rows += [base | {"metric": m, "value": float(getattr(codebook, m))} for m in ("n_used", "perplexity")]
    return rows
