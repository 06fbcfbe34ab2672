"""All probes of the features of one model on one task.

Shape letters: B batch, C channels, N samples, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data.tasks.folds import Fold
from emeg.evaluation.classical.logistic import SharedSpace
from emeg.evaluation.probes.erasure import LinearEraser
from emeg.evaluation.probes.identity import IdentityProbe, divide_by_time, probe_identity
from emeg.evaluation.probes.information import diffusion_entropy, diffusion_information
from emeg.evaluation.probes.perturbations import PERTURBATIONS, perturb
from emeg.evaluation.probes.variance import VarianceShare, share_of_variance
from emeg.evaluation.protocol.interfaces import Windows
from emeg.evaluation.rivals.catalogue import permuted_labels
from emeg.evaluation.rivals.read_outs import PENALTIES, LogisticReadOut, checked_features
from emeg.metrics import balanced_accuracy
from emeg.progress import Progress, silent

Rows = Fold[NDArray[np.int64]]
"""Indices of the windows of each side of a fold."""
Featurize = Callable[[NDArray[np.float32], NDArray[np.intp]], NDArray[np.floating[Any]]]
"""Function of windows (windows, channels, samples) and of the indices of their channels, which returns features."""
PROPERTIES = ("subject", "session", "dataset", "device")
"""What features should not hold."""


class TaskScore(NamedTuple):
    """Balanced accuracy of a linear read-out of features."""

    mean: float | None
    """Mean over subjects; None if nothing was tested."""
    subjects: dict[str, float]
    """Of each test subject."""
    note: str = ""


class Probed(NamedTuple):
    """What the features of a model hold, for one task."""

    intact: TaskScore
    """The task on unseen subjects."""
    known_subjects: TaskScore
    """The task on later windows of subjects that the read-out was fitted on."""
    permuted: TaskScore
    """The task with permuted labels."""
    erased: TaskScore
    """The task after linear erasure of the subject."""
    identity: dict[str, IdentityProbe]
    """Probes for `PROPERTIES`."""
    subject_after_erasure: IdentityProbe
    """The probe for the subject after its erasure."""
    variance: dict[str, VarianceShare]
    """Shares of the variance by subject and by label."""
    conditions: dict[str, TaskScore]
    """The task with changed windows, by the names of `emeg.evaluation.probes.PERTURBATIONS`."""
    layers: dict[str, TaskScore]
    """The task from the features of each layer."""
    entropy_bits: float
    """Diffusion spectral entropy of the features."""
    information_bits: dict[str, float]
    """Diffusion spectral information of the features and subject, and of the features and label."""

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON."""

        def plain(value: Any) -> Any:  # noqa: ANN401 - nested results
            if hasattr(value, "_asdict"):
                return {name: plain(own) for name, own in value._asdict().items()}
            return {name: plain(own) for name, own in value.items()} if isinstance(value, Mapping) else value

        found: dict[str, Any] = plain(self)
        return found


def run_probes(
    windows: Windows,
    featurize: Featurize,
    folds: Sequence[Rows],
    *,
    layers: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    conditions: Sequence[str] = tuple(PERTURBATIONS),
    seed: int = 0,
    progress: Progress = silent,
) -> Probed:
    """Measure what the features of a model hold, for a task with classes.

    Parameters
    ----------
    windows : Windows
        Windows with signals and class indices.
    featurize : callable
        Computes features from signals; see `Featurize`. It must treat each window alone.
    folds : sequence of Fold
        Indices of training, validation and test windows; the read-out chooses its penalty on validation.
    layers : mapping of str to float, shape (windows, features), optional
        Features of each layer, dimensionless.
    conditions : sequence of str
        Names of `emeg.evaluation.probes.PERTURBATIONS`.
    seed : int
        Seed of every draw.
    """
    if windows.signal_BCN is None:
        raise ValueError("run_probes needs windows with signals")
    labels, subjects = np.asarray(windows.labels, np.int64), windows.subjects
    n_stages = len(conditions) + 2
    progress(0, n_stages, "features")
    features_BD = np.asarray(featurize(windows.signal_BCN, np.arange(windows.signal_BCN.shape[1])), np.float64)
    changed: dict[str, TaskScore] = {}
    for number, name in enumerate(conditions):
        progress(number + 1, n_stages, PERTURBATIONS[name].title)
        made = perturb(name, windows.signal_BCN, windows.sfreq, seed=seed)
        changed[name] = score_task(featurize(made.signal_BCN, made.picks), labels, subjects, folds)
    progress(n_stages - 1, n_stages, "probes")
    erased = [_erased(features_BD, subjects, fold) for fold in folds]
    after = LinearEraser().fit(features_BD, subjects).transform(features_BD)
    return Probed(
        intact=score_task(features_BD, labels, subjects, folds),
        known_subjects=score_task(features_BD, labels, subjects, [_known(windows)]),
        permuted=score_task(features_BD, permuted_labels(labels, subjects, seed), subjects, folds),
        erased=score_task(erased, labels, subjects, folds),
        identity={name: _probe(windows, name, features_BD) for name in PROPERTIES},
        subject_after_erasure=_probe(windows, "subject", after),
        variance={
            "subject": share_of_variance(features_BD, subjects, seed=seed),
            "label": share_of_variance(features_BD, labels, within=subjects, seed=seed),
        },
        conditions=changed,
        layers={name: score_task(own, labels, subjects, folds) for name, own in (layers or {}).items()},
        entropy_bits=diffusion_entropy(_scaled(features_BD), seed=seed),
        information_bits={
            "subject": diffusion_information(_scaled(features_BD), subjects, seed=seed),
            "label": diffusion_information(_scaled(features_BD), labels, seed=seed),
        },
    )


def score_task(
    features: NDArray[np.floating[Any]] | Sequence[NDArray[np.floating[Any]]],
    labels: NDArray[np.int64],
    subjects: NDArray[np.str_],
    folds: Sequence[Rows],
) -> TaskScore:
    """Fit a linear read-out in each fold, choose its penalty on validation, and score the test windows by subject.

    Parameters
    ----------
    features : float, shape (windows, features), or one such array for each fold
        Features in any unit.
    labels : int64, shape (windows,)
        Class indices.
    subjects : str, shape (windows,)
        Global name of the subject of each window; no unit.
    folds : sequence of Fold
        Indices of training, validation and test windows.
    """
    n_classes = int(labels.max()) + 1
    predicted = np.full(len(labels), -1)
    for number, fold in enumerate(folds):
        own = np.asarray(features if isinstance(features, np.ndarray) else features[number], np.float64)
        if len(np.unique(labels[fold.train])) < 2:
            continue
        best: tuple[float, LogisticReadOut] | None = None
        judged = fold.validation if len(fold.validation) else fold.train
        train_BD, judged_BD = checked_features(own[fold.train]), own[judged]
        space = SharedSpace(train_BD)  # the same for every penalty
        for penalty in PENALTIES["logistic"]:
            model = LogisticReadOut(penalty, n_classes=n_classes).fit_in(space, train_BD, labels[fold.train])
            reached = balanced_accuracy(labels[judged], model.predict(judged_BD))
            if best is None or reached > best[0]:
                best = reached, model
        if best is not None:
            predicted[fold.test] = best[1].predict(own[fold.test])
    tested = np.flatnonzero(predicted >= 0)
    if not len(tested):
        return TaskScore(None, {}, "no fold has two classes in training")
    by_subject = {
        str(subject): balanced_accuracy(labels[rows], predicted[rows])
        for subject in np.unique(subjects[tested])
        for rows in [tested[subjects[tested] == subject]]
    }
    return TaskScore(float(np.mean(list(by_subject.values()))), by_subject)


def _probe(windows: Windows, name: str, features_BD: NDArray[np.float64]) -> IdentityProbe:
    """Fit the probe for one of `PROPERTIES`."""
    values = {
        "subject": windows.subjects,
        "session": windows.sessions,
        "dataset": windows.datasets,
        "device": windows.devices,
    }
    return probe_identity(
        name,
        features_BD,
        values[name],
        subjects=windows.subjects,
        recordings=windows.recordings,
        starts=windows.starts,
    )


def _erased(features_BD: NDArray[np.float64], subjects: NDArray[np.str_], fold: Rows) -> NDArray[np.float64]:
    """Remove the subject along directions that are fitted on the training windows of a fold."""
    return LinearEraser().fit(features_BD[fold.train], subjects[fold.train]).transform(features_BD)


def _known(windows: Windows) -> Rows:
    train, test = divide_by_time(windows.recordings, windows.starts)
    return Fold(train, np.empty(0, np.int64), test)


def _scaled(features_BD: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = features_BD.std(axis=0)
    return np.asarray((features_BD - features_BD.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
