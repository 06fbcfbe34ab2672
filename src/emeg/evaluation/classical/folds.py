"""Run the classical baselines over the folds of a task."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from emeg.evaluation.classical.baselines import BASELINES, fit_baseline, missing_package
from emeg.evaluation.classical.channels import CommonChannels, common_channels, read_spectra
from emeg.evaluation.classical.logistic import Setting
from emeg.evaluation.classical.spectra import Spectra
from emeg.evaluation.predictions import Outcome, summarise_model
from emeg.evaluation.products import ModelSummary
from emeg.evaluation.task import Task
from emeg.evaluation.threads import single_blas_thread
from emeg.progress import Progress, silent
from emeg.store import Store

logger = logging.getLogger(__name__)


class BaselineRun(NamedTuple):
    """Summary of one baseline and its predictions for every fold (none if it could not run)."""

    summary: ModelSummary
    outcomes: list[Outcome]


def run_baselines(
    store: Store, task: Task, names: Sequence[str], *, progress: Progress = silent
) -> tuple[list[BaselineRun], CommonChannels]:
    """Fit every baseline to every fold; a baseline that cannot run is reported with the reason."""
    channels = common_channels(store, sorted(set(task.windows.recordings.tolist())))
    with single_blas_thread():
        return list(_run(task, names, channels, progress)), channels


def _run(task: Task, names: Sequence[str], channels: CommonChannels, progress: Progress) -> Iterator[BaselineRun]:
    spectra = read_spectra(task.windows, channels) if channels.names else None
    for number, name in enumerate(names):
        progress(number, len(names), f"baseline {name}")
        title = BASELINES[name].title
        if reason := missing_package(name):
            yield BaselineRun(ModelSummary(name=name, title=title, status="not installed", reason=reason), [])
        elif reason := _not_applicable(name, spectra):
            yield BaselineRun(ModelSummary(name=name, title=title, status="not applicable", reason=reason), [])
        else:
            began = time.monotonic()
            outcomes = [_fit(task, name, spectra, fold) for fold in range(len(task.folds))]
            logger.info("%s: %d folds in %.1f s", name, len(outcomes), time.monotonic() - began)
            yield BaselineRun(summarise_model(task, name, outcomes, title=title), outcomes)
    progress(len(names), len(names), "baselines")


def _not_applicable(name: str, spectra: Spectra | None) -> str:
    if BASELINES[name].fit is None:
        return ""
    if spectra is None:
        return "no channel has the same name and type in all recordings of the task; choose recordings of one device"
    if not spectra.classical_bands():
        return (
            f"no band from delta to gamma lies in the pass band {spectra.pass_band[0]:g} to {spectra.pass_band[1]:g} Hz"
        )
    return ""


def _fit(task: Task, name: str, spectra: Spectra | None, fold: int) -> Outcome:
    windows = task.windows
    rows = task.folds[fold].map(windows.of)
    fitted = fit_baseline(name, spectra, windows.labels, len(windows.classes), rows)
    return Outcome(fitted.probabilities, _setting(fitted.setting))


def _setting(setting: Setting | None) -> dict[str, str | float]:
    if setting is None:
        return {}
    return {
        "features": setting.features,
        "penalty": setting.penalty,
        "validation_balanced_accuracy": setting.validation,
    }
