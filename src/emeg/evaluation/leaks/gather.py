"""Collect from a store what the leak checks look at.

Shape letters: B batch.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.curation.copy_search import recording_fingerprint
from emeg.data.corpus.registered import registry_id
from emeg.evaluation.leaks.setup import FitRecord, Setup, Sides
from emeg.evaluation.protocol.interfaces import Windows
from emeg.evaluation.task import HELD_OUT, ancestry
from emeg.progress import Progress, silent
from emeg.store import Store, model_config, read_catalog


def gather_setup(
    store: Store,
    windows: Windows,
    folds: Sequence[Sides],
    *,
    rule: str,
    n_samples: int,
    layouts: NDArray[np.str_],
    has_classes: bool,
    model: str | None,
    groups: Mapping[str, str],
    fits: Sequence[FitRecord] = (),
    with_fingerprints: bool = True,
    progress: Progress = silent,
) -> Setup:
    """Collect windows, sides, fingerprints of recordings, and what a model was trained on.

    Fingerprints are those of `emeg copies`; each is computed once and kept in the store.

    Parameters
    ----------
    store : Store
    windows : Windows
        With signals if windows are to be compared by content.
    folds : sequence of Sides
    rule : str
        Split rule.
    n_samples : int
        Samples of a window.
    layouts : str, shape (windows,)
        Layout of the recording of each window, a hash; no unit.
    has_classes : bool
        Whether labels are class indices.
    model : str, optional
        Encoder of the store that is evaluated.
    groups : mapping
        Key shared by names of one person or family.
    fits : sequence of FitRecord
        Windows that something is fitted on.
    with_fingerprints : bool
        Whether recordings are compared by content.
    """
    pretraining = {} if model is None else ancestry(store, model).corpora
    seen = {name for splits in pretraining.values() for name, split in splits.items() if split != HELD_OUT}
    tested = set(windows.recordings.tolist())
    rows = [row for row in read_catalog(store) if row.recording in tested or f"{row.dataset}/{row.subject}" in seen]
    fingerprints = {}
    for number, row in enumerate(rows if with_fingerprints else ()):
        progress(number, len(rows), f"{row.source}: fingerprint")
        fingerprints[row.recording] = recording_fingerprint(store, row)
    datasets = np.unique(windows.datasets).tolist()
    return Setup(
        rule=rule,
        folds=tuple(folds),
        labels=windows.labels,
        subjects=windows.subjects,
        recordings=windows.recordings,
        starts=windows.starts,
        n_samples=n_samples,
        datasets=windows.datasets,
        devices=windows.devices,
        layouts=layouts,
        has_classes=has_classes,
        signal_BCN=windows.signal_BCN,
        channel_names=tuple(channel.name for channel in windows.channels),
        groups=groups,
        fingerprints=fingerprints,
        owners={row.recording: f"{row.dataset}/{row.subject}" for row in rows},
        pretraining=pretraining,
        pretraining_datasets={}
        if model is None
        else {model: declared_datasets(model_config(store, model), pretraining)},
        dataset_ids={name: registry_id(store, name) or name for name in datasets},
        fits=tuple(fits),
    )


def declared_datasets(
    card: Mapping[str, Any], corpora: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[str, ...]:
    """Return the ids of the pretraining datasets that the card of a model declares and whose subjects are not known.

    They are in ``pretraining_datasets``, at the top level of ``config.json`` or in its provenance: ids, or objects with
    an ``id``. A training declares its datasets with the name of its corpus. If that corpus belongs to the lineage of
    the model and is in the store, its subjects are checked by name, and other subjects of the dataset may be tested.
    Any other training on the dataset stays a declaration, because its subjects are not known.

    Parameters
    ----------
    card : mapping
        ``config.json`` of the model.
    corpora : mapping, optional
        Split of every subject, by corpus that the model or its tokenizer was trained on.
    """
    provenance = card.get("provenance") or {}
    listed: Collection[Any] = card.get("pretraining_datasets") or provenance.get("pretraining_datasets") or ()
    known = {(corpus, name) for corpus, splits in (corpora or {}).items() for name in _trained_datasets(splits)}
    return tuple(
        str(one["id"] if isinstance(one, Mapping) else one)
        for one in listed
        if not (isinstance(one, Mapping) and (one.get("corpus"), one["id"]) in known)
    )


def _trained_datasets(splits: Mapping[str, str]) -> set[str]:
    """Return the datasets of the training split of a corpus."""
    return {name.partition("/")[0] for name, split in splits.items() if split == "train"}
