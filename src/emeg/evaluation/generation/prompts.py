"""Choose stretches of unseen recordings: a prompt of any length, its true continuation, and another stretch.

Shape letters: C channels, N samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data import Corpus
from emeg.data.sampling.order import hash_order
from emeg.errors import UserError
from emeg.sensors import Sensors
from emeg.store import Store, open_recording


class Stretch(NamedTuple):
    """A moment of a recording, what was recorded before and after it, and another stretch of the recording."""

    recording: str
    subject: str
    """Global name ``dataset/subject``."""
    sensors: Sensors
    sfreq: float
    """Hz."""
    before: NDArray[np.float32]
    """(C, N): up to the longest context, V, T or T/m."""
    after: NDArray[np.float32]
    """(C, N): true continuation."""
    elsewhere: NDArray[np.float32] | None
    """(C, N): another stretch as long as the continuation; None if the recording is too short."""


def choose_stretches(
    store: Store,
    corpus: Corpus,
    *,
    n_recordings: int,
    contexts: Sequence[int],
    n_after: int,
    seed: int,
    split: str = "held_out",
    datasets: Sequence[str] = (),
) -> list[Stretch]:
    """Choose a stretch in each of up to `n_recordings` recordings of subjects of a split.

    Subjects take turns, in an order that depends on the seed. A recording needs the shortest context, the continuation,
    and no interruption between them; the longest context that fits is read.

    Parameters
    ----------
    store : Store
    corpus : Corpus
    n_recordings : int
    contexts : sequence of int
        Lengths of contexts, samples.
    n_after : int
        Length of the continuation, samples.
    seed : int
    split : str
        ``held_out`` or ``validation``.
    datasets : sequence of str
        Datasets to choose from; empty: all.

    Raises
    ------
    UserError
        A dataset has no subjects of the split, or no recording is long enough.
    """
    chosen = corpus.column("split") == split
    of_dataset = np.array([str(name).split("/")[0] for name in corpus.column("subject")])
    if missing := sorted(set(datasets) - set(of_dataset[chosen].tolist())):
        raise UserError(
            f"datasets: corpus {corpus.name} has no {split.replace('_', '-')} subjects of {missing[0]!r}; choose from"
            f" {sorted(set(of_dataset[chosen].tolist()))}"
        )
    if datasets:
        chosen &= np.isin(of_dataset, datasets)
    names, subjects = corpus.column("recording")[chosen], corpus.column("subject")[chosen]
    subject_of = dict(zip(names.tolist(), subjects.tolist(), strict=True))
    queues = [
        hash_order([name for name, of in subject_of.items() if of == subject], "generation", seed)
        for subject in hash_order(sorted(set(subject_of.values())), "generation", seed)
    ]
    found: list[Stretch] = []
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue) and len(found) < n_recordings:
                stretch = _read(store, str(queue[turn]), str(subject_of[queue[turn]]), contexts, n_after)
                found += [stretch] if stretch is not None else []
    if not found:
        seconds = (min(contexts) + n_after) / corpus.sfreq
        raise UserError(
            f"corpus {corpus.name}: no {split.replace('_', '-')} recording has {seconds:g} s without interruption;"
            " lower prompt_s, contexts_s or continuation_s, or hold out more subjects"
        )
    return found


def _read(store: Store, name: str, subject: str, contexts: Sequence[int], n_after: int) -> Stretch | None:
    recording = open_recording(store, name)
    stretch = max(recording.stretches, key=lambda one: one.stop - one.start)
    room = stretch.stop - stretch.start - n_after
    fitting = [n for n in contexts if n <= room]
    if not fitting:
        return None
    middle = stretch.start + max(fitting)
    after = recording.read(middle, middle + n_after)
    elsewhere = None
    if middle + 2 * n_after <= stretch.stop:
        elsewhere = recording.read(stretch.stop - n_after, stretch.stop)
    before = recording.read(stretch.start, middle)
    return Stretch(name, subject, recording.sensors, recording.sfreq, before, after, elsewhere)
