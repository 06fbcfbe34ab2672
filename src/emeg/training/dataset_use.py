"""Which public datasets a model was trained on, as its card and its configuration declare them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from emeg.config import Config
from emeg.data import Corpus
from emeg.registry import Registry
from emeg.store import Store, model_config, read_catalog

Stage = Literal["tokenizer", "pretraining", "finetuning"]
FIELD = "pretraining_datasets"
"""Entry of a model's provenance that holds the declaration."""


class DatasetUse(Config):
    """Use of one dataset in one stage of training."""

    id: str
    """Id of the dataset: its name in the store, which is that of the registry for known datasets."""
    stage: Stage
    """Stage that trained on it."""
    subjects: int | None = None
    """Subjects whose recordings changed weights; null if only the id was declared, as for imported weights."""
    hours: float | None = None
    """Hours of these recordings in the corpus; null if unknown."""
    licences: tuple[str, ...] = ()
    """Licences of the recordings, as the catalogue has them."""
    doi: str | None = None
    """DOI of the dataset; null if unknown."""
    corpus: str | None = None
    """Corpus whose training split has these subjects: a hash of its content, so that it names the same subjects in any
    store; null if only the id was declared, for fine-tuning, and for models of older versions."""


def datasets_of_corpus(store: Store, corpus: Corpus, stage: Stage) -> list[DatasetUse]:
    """List the datasets of the training split of a corpus."""
    rows = np.flatnonzero(corpus.column("split") == "train")
    subjects = corpus.column("subject")[rows]
    recordings = corpus.column("recording")[rows]
    datasets = np.array([str(name).partition("/")[0] for name in subjects.tolist()], str)
    licences: dict[str, str] = {row.recording: row.licence for row in read_catalog(store)}
    segment_h = corpus.n_samples / corpus.sfreq / 3600
    found = []
    for name in sorted(set(datasets.tolist())):
        own = datasets == name
        found.append(
            describe_use(
                name,
                stage,
                subjects=len(set(subjects[own].tolist())),
                hours=float(own.sum()) * segment_h,
                licences={licences.get(recording, "") for recording in set(recordings[own].tolist())},
                corpus=corpus.name,
            )
        )
    return found


def describe_use(
    name: str, stage: Stage, *, subjects: int, hours: float, licences: Iterable[str], corpus: str | None = None
) -> DatasetUse:
    """Describe the use of one dataset, with its DOI from the registry."""
    entry = Registry.load().find(name)
    return DatasetUse(
        id=name,
        stage=stage,
        subjects=subjects,
        hours=round(hours, 4),
        licences=tuple(sorted({text or "not stated" for text in licences})),
        doi=None if entry is None else entry.doi,
        corpus=corpus,
    )


def declared_datasets(provenance: Mapping[str, Any]) -> list[DatasetUse]:
    """Read the declaration in a model's provenance; empty if an older version trained the model.

    Imported weights declare ids alone.
    """
    entries = provenance.get(FIELD) or ()
    return [
        DatasetUse(id=entry, stage="pretraining") if isinstance(entry, str) else DatasetUse.checked(entry, source=FIELD)
        for entry in entries
    ]


def inherited_datasets(store: Store, models: Sequence[str]) -> list[DatasetUse]:
    """List what models of a store declare, such as the tokenizer of a BrainOmni, each entry once."""
    found: list[DatasetUse] = []
    for model in models:
        for use in declared_datasets(model_config(store, model).get("provenance") or {}):
            if use not in found:
                found.append(use)
    return found
