"""Create a task on the held-out subjects of a corpus, or report why there is none."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from emeg.data import Corpus, SubjectFold, TaskConfig, TaskWindows, TokenSet, infer_task, subject_folds, task_windows
from emeg.data.corpus.removed import split_of
from emeg.errors import UserError
from emeg.store import CatalogRow, Store, model_config, read_catalog

HELD_OUT = "held_out"


class Task(NamedTuple):
    """A task on held-out subjects, with its windows and folds."""

    config: TaskConfig
    inferred: bool
    windows: TaskWindows
    folds: tuple[SubjectFold, ...]
    notice: str


def make_task(store: Store, corpus: Corpus, task: TaskConfig | None = None, *, n_folds: int = 5, seed: int = 0) -> Task:
    """Create a task on the held-out subjects of a corpus.

    If `task` is not given, it is inferred from the events of the held-out subjects: of the dataset with most of them,
    and of the device that most of them share, so that differences between devices are not mistaken for conditions.

    Raises
    ------
    UserError
        No task can be created; the message gives the reason and the next action.
    """
    subjects = sorted(name for name, split in corpus.subjects.items() if split == HELD_OUT)
    if not subjects:
        raise UserError(f"corpus {corpus.name} holds out no subject; run `emeg shard` with --held-out above 0")
    inferred = task is None
    if task is None:
        task = _infer(store, subjects)
    windows = task_windows(store, task, subjects)
    check_unseen(set(windows.subjects.tolist()), {corpus.name: corpus.subjects})
    folds = subject_folds(windows.labels, windows.subjects, n_folds, seed)
    return Task(task, inferred, windows, tuple(folds), folds.notice)


def try_task(
    store: Store, corpus: Corpus, task: TaskConfig | None = None, *, n_folds: int = 5, seed: int = 0
) -> Task | str:
    """Create a task, or return the reason why there is none in one line."""
    try:
        return make_task(store, corpus, task, n_folds=n_folds, seed=seed)
    except UserError as error:
        return str(error)


def missing_task(root: str, corpus: str | None = None, task: TaskConfig | None = None) -> str:
    """Return why no task can be created on the held-out subjects of a corpus; empty if one can."""
    store = Store.open(root)
    found = try_task(store, Corpus.open(store, corpus), task)
    return found if isinstance(found, str) else ""


def check_unseen(subjects: set[str], corpora: Mapping[str, Mapping[str, str]]) -> None:
    """Raise an error if a subject is not held out of every corpus that a model was trained on.

    Parameters
    ----------
    subjects : set of str
        Global names ``dataset/subject``.
    corpora : mapping
        Split of every subject, for each corpus. A subject in no split was not seen.

    Raises
    ------
    UserError
        A subject was used for training or validation.
    """
    for corpus, splits in corpora.items():
        seen = sorted(subject for subject in subjects if splits.get(subject, HELD_OUT) != HELD_OUT)
        if seen:
            raise UserError(
                f"{', '.join(f'{p} ({splits[p]})' for p in seen[:6])}{' …' if len(seen) > 6 else ''}: in corpus"
                f" {corpus}, which the model was trained on; metrics on subjects it has seen say nothing about others:"
                " use subjects that the corpus holds out"
            )


class Ancestry(NamedTuple):
    """Products that an encoder was made from; None if unknown (imported weights)."""

    corpus: str | None
    tokens: str | None
    tokenizer: str | None
    corpora: dict[str, dict[str, str]]
    """Split of every subject, for each corpus that it or its tokenizer was trained on; without withdrawn subjects for a
    corpus that was removed with one."""


def ancestry(store: Store, model: str) -> Ancestry:
    """Return the tokens, the tokenizer and the splits of the corpora that an encoder was made from."""
    provenance = model_config(store, model).get("provenance") or {}
    recipe = provenance.get("recipe") or {}
    corpus = provenance.get("corpus")
    tokens = recipe.get("tokens") or provenance.get("tokens")
    tokenizer = provenance.get("tokenizer")
    if tokens is not None and store.has("tokens", tokens):
        tokenizer = TokenSet.open(store, tokens).tokenizer
    names = {corpus, *_corpora_of(provenance.get("started_from"))}
    if isinstance(tokenizer, str) and store.has("models", tokenizer):
        of_tokenizer = model_config(store, tokenizer).get("provenance") or {}
        names |= {of_tokenizer.get("corpus"), *_corpora_of(of_tokenizer.get("started_from"))}
    splits = {name: split_of(store, name) for name in sorted(name for name in names if name is not None)}
    return Ancestry(
        corpus=corpus,
        tokens=tokens if tokens is not None and store.has("tokens", tokens) else None,
        tokenizer=tokenizer if isinstance(tokenizer, str) else None,
        corpora={name: split for name, split in splits.items() if split is not None},
    )


def _corpora_of(started_from: Mapping[str, Any] | None) -> set[str | None]:
    """Return the corpora of the models that a training started from, back to the first."""
    found: set[str | None] = set()
    while started_from:
        found.add(started_from.get("corpus"))
        started_from = started_from.get("started_from")
    return found


def _infer(store: Store, subjects: list[str]) -> TaskConfig:
    rows = [row for row in read_catalog(store) if f"{row.dataset}/{row.subject}" in set(subjects)]
    count = Counter(dataset for dataset, _ in {(row.dataset, row.subject) for row in rows})
    refused: list[str] = []
    for dataset in sorted(count, key=lambda name: (-count[name], name)):
        try:
            found = infer_task(store, dataset, subjects)
        except UserError as error:
            refused.append(str(error))
            continue
        device = _shared_device(store, found, [row for row in rows if row.dataset == dataset], subjects)
        return found if device is None else found.model_copy(update={"device": device})
    raise UserError(
        "; ".join(refused)
        or f"none of the {len(subjects)} held-out subjects has a recording; run `emeg ingest` and `emeg shard` again"
    )


def _shared_device(store: Store, task: TaskConfig, rows: list[CatalogRow], subjects: list[str]) -> str | None:
    """Return the device with most subjects, then most windows, if windows come from several; else None."""
    if len({row.device for row in rows}) < 2:
        return None
    windows = task_windows(store, task, subjects)
    device_of = {row.recording: row.device for row in rows}
    devices = [device_of[recording] for recording in windows.recordings.tolist()]
    n_windows = Counter(devices)
    if len(n_windows) < 2:
        return None
    n_subjects = Counter(device for device, _ in set(zip(devices, windows.subjects.tolist(), strict=True)))
    return min(n_windows, key=lambda name: (-n_subjects[name], -n_windows[name], name))
