"""Fit the networks of a fine-tuning to its folds, in this process or in several."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data import Corpus
from emeg.data.tasks.folds import Fold
from emeg.errors import TransientError
from emeg.evaluation.configs import FinetuneConfig, Mode
from emeg.evaluation.predictions import network_name
from emeg.evaluation.task import Ancestry, Task, ancestry, check_unseen, make_task
from emeg.hashing import hash_json
from emeg.ingest.workers.processes import end_with_parent
from emeg.store import Store, find_model, n_parameters
from emeg.training.threads import n_threads, torch_threads
from emeg.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from emeg.training import FinetuneRecipe, FoldOutcome

KIND = "finetuned"
FEWEST_EPOCHS = 4
"""Fewest epochs for which several learning rates are tried; with fewer, one rate is trained longer."""


class Work(NamedTuple):
    """One network fitted to one fold."""

    fold: int
    weights: str
    mode: Mode

    @property
    def name(self) -> str:
        """Name among the models compared."""
        return network_name(self.weights, self.mode)


class Plan(NamedTuple):
    """Everything that determines the product."""

    config: FinetuneConfig
    """Configuration with model, corpus and task resolved."""
    task: Task
    ancestry: Ancestry
    name: str


def plan_finetuning(store: Store, config: FinetuneConfig) -> Plan:
    """Resolve model, corpus and task, cut the windows, check that no subject was seen, and name the product."""
    model = _resolve(store, config.model)
    made_from = ancestry(store, model)
    of_model = made_from.corpus if made_from.corpus and store.has("corpora", made_from.corpus) else None
    corpus = Corpus.open(store, config.corpus or of_model)
    task = make_task(store, corpus, config.task, n_folds=config.n_folds, seed=config.seed)
    check_unseen(set(task.windows.subjects.tolist()), made_from.corpora | {corpus.name: corpus.subjects})
    whole = config.model_copy(update={"model": model, "corpus": corpus.name, "task": task.config})
    name = hash_json(
        {
            "kind": KIND,
            "version": __version__,
            "config": whole.product_fields(),
            # recordings of the same subjects may have been ingested since
            "windows": hash_json(window_places(task)),
        }
    )
    return Plan(whole, task, made_from, name)


def _resolve(store: Store, model: str | None) -> str:
    """Return the name of the model in the store, copying it into the store if it lies elsewhere."""
    if model is None or ("/" not in model and store.has("models", model)):
        return find_model(store, "encoder", model)
    from emeg.training.warm_start import adopt_model

    return adopt_model(store, model)


def window_places(task: Task) -> list[list[Any]]:
    """Return recording, first sample and label of every window."""
    windows = task.windows
    return [
        list(row)
        for row in zip(windows.recordings.tolist(), windows.starts.tolist(), windows.labels.tolist(), strict=True)
    ]


class FoldFitter:
    """Windows and model of a fine-tuning in one process; embeds frozen networks once for all folds.

    Parameters
    ----------
    store : Store
    plan : Plan
    """

    def __init__(self, store: Store, plan: Plan) -> None:
        from emeg.training.finetune.labelled_windows import in_memory

        self._plan = plan
        self._model = store.local_copy("models", str(plan.config.model))
        self._windows = in_memory(plan.task.windows)
        self._threads = n_threads(n_parameters(store, str(plan.config.model)), plan.config.threads)
        self._embedded: dict[str, NDArray[np.float64]] = {}

    def fit(self, work: Work) -> "FoldOutcome":
        """Fit one network to one fold."""
        with torch_threads(self._threads):
            return self._fit(work)

    def _fit(self, work: Work) -> "FoldOutcome":
        from emeg.training import embed_task, finetune_fold

        config, task = self._plan.config, self._plan.task
        indices = task.folds[work.fold].map(task.windows.of)
        shown = np.minimum(task.windows.channels[indices.train], config.fit.max_channels or np.inf)
        signal = float(shown.sum()) * task.config.window_s
        recipe = config.fit.model_copy(update={"mode": work.mode, "seed": config.seed})
        weights: Literal["trained", "random"] = "trained" if work.weights == "pretrained" else "random"
        if work.mode == "probe" and weights not in self._embedded:
            self._embedded[weights] = embed_task(
                self._model, self._windows, recipe, weights=weights, device=config.device
            )
        return finetune_fold(
            self._model,
            self._windows,
            indices,
            affordable(recipe, signal, config.channel_seconds),
            weights=weights,
            embedded=self._embedded.get(weights) if work.mode == "probe" else None,
            device=config.device,
            keep_state=work.weights == "pretrained" and work.mode == config.modes[0],
        )


def fit_works(store: Store, plan: Plan, works: Sequence[Work]) -> Iterator["FoldOutcome"]:
    """Fit every network to its fold and yield the outcomes in the order of `works`, whatever the number of workers.

    Raises
    ------
    TransientError
        A process ended early.
    """
    workers = min(plan.config.workers, len(works))
    if workers == 1:
        fitter = FoldFitter(store, plan)
        yield from map(fitter.fit, works)
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its threads
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(plan.config,)) as pool:
        try:
            for outcome, state in pool.map(_fit_in_worker, works):
                yield replace(outcome, state=None if state is None else _tensors(state))
        except BrokenProcessPool as error:
            raise TransientError(
                f"{plan.config.root}: a process of the fine-tuning was ended from outside (out of memory?); run the"
                " same command again, with fewer --workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_fitter: FoldFitter | None = None
"""The one of a worker process."""


def _start_worker(config: FinetuneConfig) -> None:
    global _fitter
    end_with_parent()
    store = Store.open(config.root)
    _fitter = FoldFitter(store, plan_finetuning(store, config))


def _fit_in_worker(work: Work) -> tuple["FoldOutcome", dict[str, NDArray[Any]] | None]:
    """Return the outcome, and its state as arrays: tensors are sent as files of a process that may have ended."""
    if _fitter is None:
        raise RuntimeError("this process was not started as a worker of a fine-tuning")
    outcome = _fitter.fit(work)
    state = None if outcome.state is None else {name: value.numpy() for name, value in outcome.state.items()}
    return replace(outcome, state=None), state


def _tensors(state: dict[str, NDArray[Any]]) -> dict[str, "Tensor"]:
    import torch

    return {name: torch.from_numpy(value) for name, value in state.items()}


def affordable(recipe: "FinetuneRecipe", epoch_channel_seconds: float, budget: float | None) -> "FinetuneRecipe":
    """Reduce a recipe to a budget: fewer epochs, below `FEWEST_EPOCHS` only the largest learning rate, at least two.

    Parameters
    ----------
    recipe : FinetuneRecipe
    epoch_channel_seconds : float
        Signal of one pass over the training windows, channels times seconds.
    budget : float, optional
        Signal of a whole fit, all learning rates together; unlimited if not given.
    """
    if budget is None or recipe.mode == "probe":
        return recipe
    rates = recipe.backbone_learning_rates
    epochs = int(budget / (epoch_channel_seconds * len(rates)))
    if epochs < FEWEST_EPOCHS and epochs < recipe.epochs:
        rates, epochs = (max(rates),), int(budget / epoch_channel_seconds)
    return recipe.model_copy(update={"backbone_learning_rates": rates, "epochs": min(recipe.epochs, max(epochs, 2))})


def fold_indices(task: Task, fold: int) -> Fold[NDArray[np.int64]]:
    """Return the indices of the windows of each side of a fold."""
    return task.folds[fold].map(task.windows.of)
