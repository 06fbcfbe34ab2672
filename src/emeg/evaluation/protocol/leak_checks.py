"""Run the leak checks of every task before the first cell, and keep what they found."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.data.corpus.registered import person_groups
from emeg.errors import UserError
from emeg.evaluation.leaks import CHECKS, ISOLATION, check_isolation, run_checks, stop_on_leaks
from emeg.evaluation.leaks.gather import gather_setup
from emeg.evaluation.leaks.setup import Setup, Sides
from emeg.evaluation.protocol.compute import Compared, procedure_of
from emeg.evaluation.protocol.splits import (
    CALIBRATION,
    SUPPORT,
    TEST,
    TRAIN,
    VALIDATION,
    VALIDATION_SUPPORT,
    SplitManifest,
)
from emeg.evaluation.protocol.task_data import TaskData
from emeg.progress import Progress, silent
from emeg.store import Store, read_catalog

QUICK = ("band_power", "aperiodic", "tangent_space")
"""Models whose fitting is tested, the quickest first."""
N_SETTINGS = 2
"""Settings among which the tested fitting chooses."""


def check_division(store: Store, data: TaskData, model: str | None, groups: Mapping[str, str]) -> None:
    """Run the leak checks of a task that read no signals.

    Parameters
    ----------
    store : Store
    data : TaskData
    model : str, optional
        Network that is evaluated.
    groups : mapping
        Key shared by names of one person or family.

    Raises
    ------
    UserError
        A check failed that stops an evaluation and that the task does not accept.
    """
    unknown = sorted(set(data.accepted_checks) - {*CHECKS, ISOLATION})
    if unknown:
        raise UserError(
            f"task {data.recipe.id}: accepted_checks names {', '.join(unknown)}, which is no leak check; use names"
            f" among {', '.join((*CHECKS, ISOLATION))}"
        )
    setup = _setup(store, data, model, groups, with_signal=False, with_fingerprints=False)
    stop_on_leaks(run_checks(setup, only_stopping=True), task=data.recipe.id, accepted=data.accepted_checks)


def check_task(
    store: Store, data: TaskData, model: str | None, *, with_signal: bool, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Return the leak checks of a task as JSON: name, title, passed, stops, found.

    Parameters
    ----------
    store : Store
    data : TaskData
    model : str, optional
        Encoder that is evaluated.
    with_signal : bool
        Also compare windows by content.
    progress : Progress

    Raises
    ------
    UserError
        A check failed that stops an evaluation and that the task does not accept.
    """
    groups = person_groups(store, read_catalog(store))
    setup = _setup(store, data, model, groups, with_signal=with_signal, progress=progress)
    checks = run_checks(setup)
    stop_on_leaks(checks, task=data.recipe.id, accepted=data.accepted_checks)
    return [{"task": data.recipe.id, **check._asdict()} for check in checks]


def _setup(
    store: Store,
    data: TaskData,
    model: str | None,
    groups: Mapping[str, str],
    *,
    with_signal: bool,
    with_fingerprints: bool = True,
    progress: Progress = silent,
) -> Setup:
    return gather_setup(
        store,
        data.as_windows(with_signal=with_signal),
        [side for manifest in data.manifests.values() for side in _folds(manifest)],
        rule=data.rule,
        n_samples=data.windows.n_samples,
        layouts=data.windows.layouts,
        has_classes=bool(data.n_classes),
        model=model,
        groups=groups,
        with_fingerprints=with_fingerprints,
        progress=progress,
    )


def check_procedure(data: TaskData, compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """Test the fitting of the first fold as a black box, with a model that reads signals and is quick to fit.

    Raises
    ------
    UserError
        Test windows or their labels influence more than their own predictions.
    """
    own = {one.rival.name: one for one in compared if one.labels == "real" and not one.condition}
    name = next((name for name in QUICK if name in own), None)
    if name is None or not data.n_classes:
        return []
    procedure, inputs, test = procedure_of(data, own[name], budget=N_SETTINGS)
    if len(test) < 2:
        return []
    check = check_isolation(procedure, inputs, data.truth, test)
    stop_on_leaks([check], task=data.recipe.id, accepted=data.accepted_checks)
    return [{"task": data.recipe.id, **check._asdict()}]


def _folds(manifest: SplitManifest) -> list[Sides]:
    def rows(fold: int, *sides: int) -> NDArray[np.int64]:
        return np.concatenate([manifest.rows(fold, side) for side in sides])

    return [
        Sides(
            train=rows(fold, TRAIN),
            validation=rows(fold, VALIDATION),
            test=rows(fold, TEST),
            shown=rows(fold, SUPPORT, VALIDATION_SUPPORT, CALIBRATION),
        )
        for fold in range(len(manifest))
    ]
