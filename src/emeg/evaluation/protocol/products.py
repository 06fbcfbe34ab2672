"""Files of an evaluation over many tasks.

``evaluations/<evaluation>/``
    ``figures.json``         `GridSummary`
    ``checks.json``          leak checks of every task: name, title, passed, stops, found
    ``probes.json``          what the network's features hold, by task; see `emeg.evaluation.protocol.probing`
    ``results.parquet``      `emeg.evaluation.protocol.rows.RESULTS`
    ``predictions.parquet``  `emeg.evaluation.protocol.rows.PREDICTIONS`
    ``splits.parquet``       `emeg.evaluation.protocol.rows.SPLITS`
"""

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from emeg.config import Config
from emeg.errors import UserError
from emeg.evaluation.products import kind_of
from emeg.store import Store
from emeg.store.catalog.parquet import parquet_bytes, table_of
from emeg.uri import locate

STIMULUS_FEATURES = "stimulus_features"
"""Model of encoding tasks that is compared with rivals: the features of the stimuli."""


class GridInterval(Config):
    """Mean over subjects, or a metric of all subjects, with its bootstrap interval over subjects."""

    mean: float
    """Mean over subjects, or the metric of all subjects."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    n_subjects: int
    """Number of subjects."""


class GridTask(Config):
    """Definition and size of a task."""

    id: str
    """Name."""
    title: str
    """What is decoded."""
    kind: str
    """Kind of the task."""
    metric: str
    """Primary metric."""
    split_rule: str
    """Rule by which windows were divided."""
    definition: dict[str, Any]
    """The recipe."""
    classes: tuple[str, ...]
    """Class names in the order of labels; stimuli for retrieval and encoding."""
    datasets: tuple[str, ...]
    """Datasets of the windows."""
    devices: tuple[str, ...]
    """Devices of the windows."""
    n_subjects: int
    """Number of subjects."""
    n_recordings: int
    """Number of recordings."""
    n_windows: int
    """Number of windows."""
    windows_per_class: dict[str, int]
    """Number of windows of each class."""
    n_channels: int | None
    """Channels that all recordings share; None if no compared model uses signals."""
    left_out: dict[str, int]
    """Number of windows left out, by reason."""
    n_seen: int
    """Subjects left out because the model was trained on them."""
    n_folds: int
    """Number of folds."""
    splits: dict[str, str]
    """Hash of the split of each seed, and of each number of examples."""
    notices: tuple[str, ...]
    """How the folds differ from the request."""
    published: dict[str, float]
    """Published values of the primary metric."""


class ModelKey(Config):
    """A compared model under one condition."""

    model: str
    """Product of a network, or name of a rival."""
    weights: str = ""
    """pretrained, random, or empty."""
    mode: str = ""
    """frozen, lora, full, or empty."""
    read_out: str = ""
    """logistic, ridge, contrastive, or empty."""
    labels: str = "real"
    """real or permuted."""
    condition: str = ""
    """Empty, or calibrated."""
    examples_per_class: int | None = None
    """Labelled examples of each class and subject; null for all."""

    @property
    def is_judged(self) -> bool:
        """Whether gates ask for this model: a pretrained network, or the features of the stimuli."""
        return self.labels == "real" and (self.weights == "pretrained" or self.model == STIMULUS_FEATURES)


class GridScore(Config):
    """Primary metric of one model on one task."""

    task: str
    """Name of the task."""
    key: ModelKey
    """The model."""
    title: str
    """Name shown to readers."""
    family: str = ""
    """reference, handcrafted, supervised, published or network; empty in older evaluations."""
    metric: str
    """Primary metric."""
    mean: float | None
    """Mean over seeds and folds of the metric over all test windows of a fold."""
    sd: float | None
    """Standard deviation over seeds and folds (n - 1)."""
    n_runs: int
    """Seeds times folds."""
    subject_metric: str
    """Metric of `subjects` and `interval`: the primary one, or mae where that is not defined for one subject."""
    subjects: dict[str, float | None]
    """Metric of each subject, averaged over seeds and folds."""
    interval: GridInterval | None
    """Mean over subjects with its interval; null for fewer than 5 subjects."""
    by_subject: float | None
    """Primary metric with subjects as units, all folds together, mean over seeds; null where it is not defined."""
    by_subject_interval: GridInterval | None = None
    """`by_subject` with its bootstrap interval over subjects, resampled within classes; null for fewer than 5 subjects
    and in older evaluations."""


class GridComparison(Config):
    """A model against a rival, paired by subject."""

    task: str
    """Name of the task."""
    key: ModelKey
    """The model."""
    rival: ModelKey
    """The rival."""
    question: Literal["chance", "random_weights", "permuted_labels", "best_rival"]
    """What the rival stands for."""
    difference: GridInterval | None
    """Difference of the subjects' metrics, positive if the model is better; null for fewer than 5 subjects."""
    p: float | None
    """Two-sided p-value of a sign-flip test over subjects."""
    p_corrected: float | None
    """The same, corrected by Holm's method over all tests of this network and question."""
    passed: bool | None
    """Whether the model is better and the corrected p-value is below 0.05; null if not decided."""


class GridSummary(Config):
    """``figures.json`` of an evaluation over many tasks."""

    kind: Literal["grid"] = "grid"
    """Kind of evaluation."""
    version: str
    """Version of emeg."""
    seeds: tuple[int, ...]
    """Seeds."""
    split_mode: str
    """strict or paper_compat."""
    tasks: tuple[GridTask, ...]
    """Tasks that ran."""
    tasks_not_run: dict[str, str] = Field(default_factory=dict)
    """Reason for each task that could not run on this store."""
    models_not_run: tuple[tuple[str, str, str], ...] = ()
    """Task, model and reason for each model that could not run."""
    scores: tuple[GridScore, ...]
    """One for each task and model."""
    comparisons: tuple[GridComparison, ...]
    """Pretrained models, and features of stimuli for encoding, against their rivals."""
    provenance: dict[str, Any]
    """Names of products, configuration, versions, notes."""


def write_grid(folder: Path, summary: GridSummary, results: pa.Table, predictions: pa.Table, splits: pa.Table) -> None:
    """Write the files of an evaluation; equal content gives equal bytes."""
    for name, table in (("results", results), ("predictions", predictions), ("splits", splits)):
        (folder / f"{name}.parquet").write_bytes(parquet_bytes(table))
    (locate(folder) / "figures.json").write_json(summary.model_dump(mode="json"))


def is_grid(store: Store, evaluation: str) -> bool:
    """Return whether an evaluation is one over many tasks."""
    return kind_of(store, evaluation) == "grid"


def read_grid(store: Store, evaluation: str) -> GridSummary:
    """Read ``figures.json`` of an evaluation over many tasks.

    Raises
    ------
    UserError
        The evaluation is of another kind.
    """
    parts = ("evaluations", evaluation, "figures.json")
    fields = store.read_json(*parts)
    if fields.get("kind") != "grid":
        raise UserError(f"evaluation {evaluation}: it is not one over tasks; run `emeg evaluate --tasks …` for one")
    return GridSummary.checked(fields, source="/".join(parts))


def read_results(store: Store, evaluation: str) -> pa.Table:
    """Read ``results.parquet`` of an evaluation over many tasks."""
    return table_of(store.read_bytes("evaluations", evaluation, "results.parquet"))
