"""From a corpus to a task on people that nothing has seen, or to the reason why there is none."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from emeg.data import Corpus, SubjectFold, TaskConfig, TaskWindows, TokenSet, infer_task, subject_folds, task_windows
from emeg.errors import UserError
from emeg.store import CatalogRow, Store, model_config, read_catalog

HELD_OUT = "held_out"


class Task(NamedTuple):
    """A task over held-out people, its windows cut and its folds made."""

    config: TaskConfig
    inferred: bool
    windows: TaskWindows
    folds: tuple[SubjectFold, ...]
    notice: str


def make_task(store: Store, corpus: Corpus, task: TaskConfig | None = None, *, n_folds: int = 5, seed: int = 0) -> Task:
    """Form a task over the people whom `corpus` holds out.

    Where `task` is not given, it is read from the events of the held-out people: of the dataset with most of them, and
    of the device that most of them share, since what devices differ in must not pass for what conditions differ in.

    Raises
    ------
    UserError
        No task can be formed; the message says why and what to do.
    """
    people = sorted(name for name, split in corpus.subjects.items() if split == HELD_OUT)
    if not people:
        raise UserError(f"corpus {corpus.name} holds nobody out: shard again with held_out above 0")
    inferred = task is None
    if task is None:
        task = _infer(store, people)
    windows = task_windows(store, task, people)
    check_unseen(set(windows.subjects.tolist()), {corpus.name: corpus.subjects})
    folds = subject_folds(windows.labels, windows.subjects, n_folds, seed)
    return Task(task, inferred, windows, tuple(folds), folds.notice)


def try_task(
    store: Store, corpus: Corpus, task: TaskConfig | None = None, *, n_folds: int = 5, seed: int = 0
) -> Task | str:
    """Form a task, or say in one line why there is none: an answer, where `make_task` raises."""
    try:
        return make_task(store, corpus, task, n_folds=n_folds, seed=seed)
    except UserError as error:
        return str(error)


def missing_task(root: str, corpus: str | None = None, task: TaskConfig | None = None) -> str:
    """Say why no task can be formed over a corpus's held-out people; empty where one can."""
    store = Store.open(root)
    found = try_task(store, Corpus.open(store, corpus), task)
    return found if isinstance(found, str) else ""


def check_unseen(people: set[str], corpora: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse people who are not held out of every corpus that a model was trained on.

    Parameters
    ----------
    people : set of str
        Global names ``dataset/subject``.
    corpora : mapping
        Split of every person, for each corpus. Who is in none of its splits was not seen there.

    Raises
    ------
    UserError
        Somebody was trained or validated on.
    """
    for corpus, splits in corpora.items():
        seen = sorted(person for person in people if splits.get(person, HELD_OUT) != HELD_OUT)
        if seen:
            raise UserError(
                f"{', '.join(f'{p} ({splits[p]})' for p in seen[:6])}{' …' if len(seen) > 6 else ''}: in corpus"
                f" {corpus}, on which the model was trained; figures on people it has seen say nothing about others:"
                " use people whom the corpus holds out"
            )


class Ancestry(NamedTuple):
    """What a BrainOmni was made from; None where the store does not say (imported weights)."""

    corpus: str | None
    tokens: str | None
    tokenizer: str | None
    corpora: dict[str, dict[str, str]]
    """Split of every person, for each corpus that it or its tokenizer was trained on."""


def ancestry(store: Store, model: str) -> Ancestry:
    """Follow a BrainOmni's provenance to its tokens, its tokenizer and the corpora of both."""
    provenance = model_config(store, model).get("provenance") or {}
    recipe = provenance.get("recipe") or {}
    corpus = provenance.get("corpus")
    tokens = recipe.get("tokens") or provenance.get("tokens")
    tokenizer = provenance.get("tokenizer")
    if tokens is not None and store.has("tokens", tokens):
        tokenizer = TokenSet.open(store, tokens).tokenizer
    names = {corpus}
    if isinstance(tokenizer, str) and store.has("models", tokenizer):
        names.add((model_config(store, tokenizer).get("provenance") or {}).get("corpus"))
    there = sorted(name for name in names if name is not None and store.has("corpora", name))
    return Ancestry(
        corpus=corpus,
        tokens=tokens if tokens is not None and store.has("tokens", tokens) else None,
        tokenizer=tokenizer if isinstance(tokenizer, str) else None,
        corpora={name: Corpus.open(store, name).subjects for name in there},
    )


def _infer(store: Store, people: list[str]) -> TaskConfig:
    rows = [row for row in read_catalog(store) if f"{row.dataset}/{row.subject}" in set(people)]
    count = Counter(dataset for dataset, _ in {(row.dataset, row.subject) for row in rows})
    refused: list[str] = []
    for dataset in sorted(count, key=lambda name: (-count[name], name)):
        try:
            found = infer_task(store, dataset, people)
        except UserError as error:
            refused.append(str(error))
            continue
        device = _shared_device(store, found, [row for row in rows if row.dataset == dataset], people)
        return found if device is None else found.model_copy(update={"device": device})
    raise UserError("; ".join(refused) or f"none of the {len(people)} held-out people has a recording")


def _shared_device(store: Store, task: TaskConfig, rows: list[CatalogRow], people: list[str]) -> str | None:
    """Device to keep to, where windows come from several: the one with most people, then with most windows."""
    if len({row.device for row in rows}) < 2:
        return None
    windows = task_windows(store, task, people)
    device_of = {row.recording: row.device for row in rows}
    devices = [device_of[recording] for recording in windows.recordings.tolist()]
    n_windows = Counter(devices)
    if len(n_windows) < 2:
        return None
    n_people = Counter(device for device, _ in set(zip(devices, windows.subjects.tolist(), strict=True)))
    return min(n_windows, key=lambda name: (-n_people[name], -n_windows[name], name))
