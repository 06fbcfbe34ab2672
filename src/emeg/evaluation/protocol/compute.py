"""Compute one cell: choose the setting on validation, predict test windows once, and measure.

Shape letters: B batch, C channels, N samples, D features.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.classical.logistic import SharedSpace
from emeg.evaluation.embeddings import EmbeddingSpec
from emeg.evaluation.leaks.isolation import Outcome, Procedure
from emeg.evaluation.protocol.contrastive import ContrastiveReadOut
from emeg.evaluation.protocol.grid.cells import Cell, CellOutcome
from emeg.evaluation.protocol.interfaces import Channel, Estimator, Family, Input, Kind, Rival, Setting
from emeg.evaluation.protocol.scoring import Outcomes, choice, figures, ranks
from emeg.evaluation.protocol.splits import CALIBRATION, Episode, Part, calibration_windows
from emeg.evaluation.protocol.stimulus_inputs import previous_stimulus, time_in_recording
from emeg.evaluation.protocol.task_data import TaskData
from emeg.evaluation.rivals import PENALTIES, LogisticReadOut, RidgeReadOut, permuted_labels, read_out
from emeg.evaluation.rivals.chance import ChanceClassifier
from emeg.evaluation.rivals.read_outs import checked_features

CONTRASTIVE_SETTINGS: tuple[Setting, ...] = (
    {"regression": 1.0, "weight_decay": 0.01},
    {"regression": 0.1, "weight_decay": 0.01},
    {"regression": 10.0, "weight_decay": 0.01},
    {"regression": 1.0, "weight_decay": 1.0},
    {"regression": 0.0, "weight_decay": 0.01},
    {"regression": 1.0, "weight_decay": 0.0},
)
"""Settings of the contrastive read-out, the most plausible first."""


@dataclass(frozen=True)
class FeatureReadOut:
    """Linear read-out of features, as a model that is compared; implements `emeg.evaluation.protocol.Rival`."""

    name: str
    """logistic, ridge or contrastive."""
    title: str = ""
    family: Family = "network"
    package: str = ""
    kinds: frozenset[Kind] = frozenset({"classification", "diagnosis", "regression", "retrieval", "encoding"})
    input: Literal["features"] = "features"

    def settings(self, budget: int) -> Sequence[Setting]:
        """Return the settings to choose from on validation, at most `budget`."""
        if self.name == "contrastive":
            return CONTRASTIVE_SETTINGS[:budget]
        return [{"penalty": penalty} for penalty in PENALTIES[self.name][:budget]]

    def estimator(
        self, setting: Setting, *, kind: Kind, n_classes: int, channels: Sequence[Channel], sfreq: float, seed: int
    ) -> Estimator:
        """Create a read-out that is not fitted yet.

        Parameters
        ----------
        setting : mapping
            One of `settings`.
        kind : str
            Kind of the task.
        n_classes : int
            Number of classes; 0 without classes.
        channels : sequence of Channel
            Not used.
        sfreq : float
            Not used.
        seed : int
            Seed of the initial map of the contrastive read-out.
        """
        del kind, channels, sfreq
        if self.name == "contrastive":
            regression, decay = float(setting["regression"]), float(setting["weight_decay"])
            return ContrastiveReadOut(regression, decay, seed=seed)
        return read_out(self.name, float(setting["penalty"]), n_classes=n_classes)


class Compared(NamedTuple):
    """A model that is compared on a task."""

    model: str
    title: str
    weights: str
    mode: str
    read_out: str
    rival: Rival
    spec: EmbeddingSpec | None
    """Network and pooling of its features; None for models that use none."""
    labels: str = "real"
    condition: str = ""

    def cell(self, task: str, examples: int | None, seed: int, fold: int) -> Cell:
        """Return the cell of this model for one seed and fold."""
        return Cell(
            task, self.model, self.weights, self.mode, self.read_out, self.labels, self.condition, examples, seed, fold
        )


class _Case(NamedTuple):
    """What a cell is computed from."""

    data: TaskData
    compared: Compared
    inputs: NDArray[Any]
    """X of all windows."""
    targets: NDArray[Any]
    """y of all windows, as the estimators receive it."""
    truth: NDArray[Any]
    """What predictions are compared with."""
    table_BD: NDArray[np.float64] | None  # noqa: N815
    """Features of the stimuli."""
    seed: int
    channels: tuple[Channel, ...] = ()
    """Channels of `inputs` if they are signals."""

    def tested(self, rows: NDArray[np.int64], predicted: NDArray[np.float64]) -> Outcomes:
        windows = self.data.windows
        return Outcomes(
            truth=self.truth[rows],
            predicted=predicted,
            subjects=windows.subjects[rows],
            stimuli=windows.labels[rows],
            table_BD=self.table_BD,
        )


def compute_cell(data: TaskData, compared: Compared, cell: Cell, *, budget: int, device: str = "auto") -> CellOutcome:
    """Fit every setting on the training windows, choose on validation, and predict the test windows once.

    Parameters
    ----------
    data : TaskData
    compared : Compared
    cell : Cell
    budget : int
        Largest number of settings to choose from.
    device : str
        Device of networks.
    """
    kind, recipe = data.recipe.kind, data.recipe
    manifest = data.manifests[cell.seed, cell.examples_per_class]
    case = _case(data, compared, cell, device)
    parts = manifest.parts(cell.fold, data.windows.subjects, alone=kind == "encoding")
    settings = compared.rival.settings(budget)
    rows: list[NDArray[np.int64]] = []
    predicted: list[NDArray[np.float64]] = []
    setting_of: dict[str, str] = {}
    for part in parts:
        setting, found = _choose_and_predict(_of_subject(case, part), part, settings)
        text = json.dumps(dict(setting), sort_keys=True)
        predicted += found
        for episode in part.test:
            rows.append(episode.predict)
            setting_of |= dict.fromkeys(np.unique(data.windows.subjects[episode.predict]).tolist(), text)
    tested = case.tested(np.concatenate(rows), np.concatenate(predicted))
    shared = {"kind": kind, "split_rule": manifest.rule, "family": compared.rival.family, **cell.fields()}
    pooled = json.dumps([json.loads(text) for text in sorted(set(setting_of.values()))])
    results = [
        shared | one._asdict() | {"setting": setting_of.get(one.subject, pooled)} for one in figures(kind, tested)
    ]
    return CellOutcome(results, list(_predictions(data, cell, np.concatenate(rows), tested, recipe.kind)))


def procedure_of(
    data: TaskData, compared: Compared, *, budget: int
) -> tuple[Procedure, NDArray[Any], NDArray[np.int64]]:
    """Return how the first fold is fitted, chosen and predicted, with its input and the indices of its test windows.

    Parameters
    ----------
    data : TaskData
        Task with classes.
    compared : Compared
        Model that reads signals.
    budget : int
        Largest number of settings to choose from.
    """
    (seed, examples), manifest = next(iter(data.manifests.items()))
    case = _case(data, compared, compared.cell(data.recipe.id, examples, seed, 0), "cpu")
    part = manifest.parts(0, data.windows.subjects)[0]
    part = part._replace(test=part.test[:1])
    case = _of_subject(case, part)
    settings = compared.rival.settings(budget)

    def run(X: NDArray[Any], labels: NDArray[Any]) -> Outcome:
        own = case._replace(inputs=X, targets=labels, truth=labels)
        setting, found = _choose_and_predict(own, part, settings)
        return Outcome(found[0], json.dumps(dict(setting), sort_keys=True))

    return run, case.inputs, part.test[0].predict


def _case(data: TaskData, compared: Compared, cell: Cell, device: str) -> _Case:
    kind = data.recipe.kind
    truth = data.truth
    table_BD = None if data.stimuli is None else data.stimuli.table_BD
    if cell.labels == "permuted" and table_BD is not None:
        # each stimulus gets the features of another, so that repetitions and unseen stimuli stay what they are
        table_BD = table_BD[np.random.default_rng([cell.seed, len(table_BD)]).permutation(len(table_BD))]
    elif cell.labels == "permuted":
        truth = np.asarray(permuted_labels(truth, data.windows.subjects, cell.seed))
    targets = truth
    if kind == "encoding":
        assert table_BD is not None
        inputs, targets = _of_stimuli(data, compared.rival.input, table_BD), data.responses
        truth = targets
    else:
        inputs = _inputs(data, compared, cell, device)
    if kind == "retrieval":
        assert table_BD is not None
        targets = table_BD[data.windows.labels]
    if cell.condition == "calibrated":
        inputs = _calibrated(data, inputs, cell)
    channels = data.signal.channels if compared.rival.input == "signal" and data.signal is not None else ()
    return _Case(data, compared, inputs, targets, truth, table_BD, cell.seed, channels)


def _of_subject(case: _Case, part: Part) -> _Case:
    """Return the case with the channels of the subject of a part, if every subject has its own."""
    signal = case.data.signal if case.compared.rival.input == "signal" else None
    if signal is None or not signal.own_channels:
        return case
    channels = signal.own_channels[str(case.data.windows.subjects[part.test[0].predict[0]])]
    return case._replace(inputs=case.inputs[:, : len(channels)], channels=channels)


def _inputs(data: TaskData, compared: Compared, cell: Cell, device: str) -> NDArray[Any]:
    if compared.rival.input == "none":
        return np.zeros((len(data.windows), 1), np.float32)
    if compared.rival.input == "windows":
        return np.arange(len(data.windows))
    if compared.rival.input == "features":
        assert compared.spec is not None
        return data.features(compared.spec._replace(seed=cell.seed), device)
    assert data.signal is not None
    return data.signal.signal_BCN


def _of_stimuli(data: TaskData, name: Input, table_BD: NDArray[np.float64]) -> NDArray[Any]:
    """Return the inputs of a model of an encoding task."""
    windows = data.windows
    if name == "none":
        return np.zeros((len(windows), 1))
    if name == "time":
        return time_in_recording(windows)
    if name == "previous_stimulus":
        return previous_stimulus(windows, table_BD)
    if name == "low_level":
        assert data.stimuli is not None
        assert data.stimuli.low_level_BD is not None
        table_BD = data.stimuli.low_level_BD
    return table_BD[windows.labels]


def _calibrated(data: TaskData, inputs: NDArray[Any], cell: Cell) -> NDArray[Any]:
    """Align every subject by unlabelled signal: features to mean 0 and deviation 1, signals to white covariance.

    References
    ----------
    He and Wu, IEEE Trans Biomed Eng 67(2):399-410, 2020 (signals).
    """
    early = calibration_windows(data.windows, data.recipe.split.calibration_s)
    early |= data.manifests[cell.seed, cell.examples_per_class].sides[cell.fold] == CALIBRATION
    aligned = np.array(inputs, np.float64)
    for subject in np.unique(data.windows.subjects):
        own = data.windows.subjects == subject
        reference = aligned[own & early]
        if aligned.ndim == 2:
            sd = reference.std(axis=0)
            aligned[own] = (aligned[own] - reference.mean(axis=0)) / np.where(sd > 1e-9, sd, 1.0)
        else:
            covariance = np.einsum("bcn,bdn->cd", reference, reference) / (len(reference) * reference.shape[2])
            size, axes = np.linalg.eigh(covariance)
            inverse = (axes / np.sqrt(np.maximum(size, 1e-6 * size[-1]))) @ axes.T
            aligned[own] = np.einsum("cd,bdn->bcn", inverse, aligned[own])
    return aligned.astype(np.float32)


def _choose_and_predict(
    case: _Case, part: Part, settings: Sequence[Setting]
) -> tuple[Setting, list[NDArray[np.float64]]]:
    """Choose a setting on validation; return it with its predictions for each episode of test windows."""
    if not _same_fit(part):
        setting = _chosen(case, part, settings)
        return setting, [found[0] for found in _fit_and_predict(case, part.test, [setting])]
    # what validation judged also predicts: a second fit on the same windows would be equal
    (judged,), (tested,) = part.choose, part.test
    best: tuple[tuple[float, float], int, Callable[[NDArray[Any]], NDArray[np.float64]]] | None = None
    fitted = _fitted(case, _rows(case, tested.fit), case.targets[tested.fit], settings)
    judged_input = _rows(case, judged.predict)
    for number, predict in enumerate(fitted):
        reached = (0.0, 0.0)
        if len(settings) > 1:
            outcomes = case.tested(judged.predict, predict(judged_input))
            reached = choice(case.data.recipe.kind, case.data.recipe.metric, outcomes)
        if best is None or reached > best[0]:
            best = reached, number, predict
    assert best is not None
    return settings[best[1]], [best[2](case.inputs[tested.predict])]


def _same_fit(part: Part) -> bool:
    """Return whether one fit serves both the choice of the setting and the test."""
    return len(part.choose) == len(part.test) == 1 and np.array_equal(part.choose[0].fit, part.test[0].fit)


def _chosen(case: _Case, part: Part, settings: Sequence[Setting]) -> Setting:
    if len(settings) == 1:
        return settings[0]
    recipe = case.data.recipe
    by_setting: list[list[tuple[float, float]]] = [[] for _ in settings]
    for episode, found in zip(part.choose, _fit_and_predict(case, part.choose, settings), strict=True):
        for number, predicted in enumerate(found):
            by_setting[number].append(choice(recipe.kind, recipe.metric, case.tested(episode.predict, predicted)))
    means = [tuple(np.mean(scores, axis=0).tolist()) for scores in by_setting]
    return settings[max(range(len(settings)), key=lambda number: (means[number], -number))]


def _fit_and_predict(
    case: _Case, episodes: Sequence[Episode], settings: Sequence[Setting]
) -> Iterator[list[NDArray[np.float64]]]:
    """Yield the predictions of every setting for each episode."""
    for episode in episodes:
        fit_input, predict_input = _rows(case, episode.fit), _rows(case, episode.predict)
        yield [predict(predict_input) for predict in _fitted(case, fit_input, case.targets[episode.fit], settings)]


def _rows(case: _Case, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the inputs of some windows; features as float64, which every setting uses as they are."""
    found = case.inputs[rows]
    return found.astype(np.float64) if found.ndim == 2 else found


def _fitted(
    case: _Case, fit_input: NDArray[Any], fit_target: NDArray[Any], settings: Sequence[Setting]
) -> Iterator[Callable[[NDArray[Any]], NDArray[np.float64]]]:
    recipe, data = case.data.recipe, case.data
    space: SharedSpace | None = None
    for setting in settings:
        estimator = case.compared.rival.estimator(
            setting,
            kind=recipe.kind,
            n_classes=data.n_classes,
            channels=case.channels,
            sfreq=data.windows.sfreq,
            seed=case.seed,
        )
        if isinstance(estimator, LogisticReadOut | RidgeReadOut):
            # the decomposition of the training rows is the same for every penalty
            space = SharedSpace(checked_features(fit_input)) if space is None else space
            estimator.fit_in(space, fit_input, fit_target)
        elif isinstance(estimator, ChanceClassifier):
            # without the subject who is left out, the classes of training lean to the others: below chance
            estimator.fit(None, data.windows.labels)
        else:
            estimator.fit(fit_input, fit_target)
        yield _predictor(estimator, bool(data.n_classes))


def _predictor(estimator: Any, is_classes: bool) -> Callable[[NDArray[Any]], NDArray[np.float64]]:  # noqa: ANN401
    def predict(X: NDArray[Any]) -> NDArray[np.float64]:
        found = np.asarray(estimator.predict_proba(X) if is_classes else estimator.predict(X), np.float64)
        return found.reshape(len(X), -1)

    return predict


def _predictions(
    data: TaskData, cell: Cell, rows: NDArray[np.int64], tested: Outcomes, kind: Kind
) -> Iterator[dict[str, Any]]:
    """Yield rows of `rows.PREDICTIONS`; responses of encoding are too many to keep."""
    if kind == "encoding":
        return
    predicted = tested.predicted.tolist()
    if kind == "retrieval":
        found, n_candidates = ranks(tested)
        predicted = [[float(rank), float(n_candidates)] for rank in found.tolist()]
    windows = data.windows
    for row, label, values in zip(rows.tolist(), np.asarray(tested.truth, np.float64).tolist(), predicted, strict=True):
        yield cell.fields() | {
            "subject": str(windows.subjects[row]),
            "recording": str(windows.recordings[row]),
            "start": int(windows.starts[row]),
            "label": label,
            "prediction": values,
        }
