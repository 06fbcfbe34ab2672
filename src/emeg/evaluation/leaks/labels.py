"""Checks of labels: what gives a label away without any brain signal.

Shape letters: B batch, C channels, N samples.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from emeg.evaluation.leaks.setup import Setup
from emeg.metrics import balanced_accuracy

N_PERMUTATIONS = 4999
MOST_BY_CHANCE = 0.001
"""Share of permutations that may predict labels as well; fewer than about 14 subjects cannot reach it."""
GIVEN_AWAY = 0.9
"""Balanced accuracy from which recording conditions give a label away."""
SHORTEST_BLOCK = 3.5
"""Mean number of windows of a block from which a design is one of blocks; two classes in random order have 2."""
MOST_IN_SHARED_BLOCKS = 0.5
"""Share of test windows in blocks that training has windows of, from which a split counts as one by windows."""
FEWEST_RECORDINGS = 8
"""Fewest recordings of a block design or a fixed order to be judged."""


def label_in_conditions(setup: Setup) -> list[str]:
    """List recording conditions (dataset, device, layout) that give the labels of recordings away.

    Labels are predicted from each condition alone by the most frequent label of the others with it; recordings of one
    subject with the same label and condition count once. Permutations of the labels say how often chance does as well.
    """
    if not setup.has_classes:
        return []
    first = _labelled_recordings(setup)
    found = []
    for name, values in (("dataset", setup.datasets), ("device", setup.devices), ("layout", setup.layouts)):
        units = sorted({(str(setup.subjects[i]), int(setup.labels[i]), str(values[i])) for i in first})
        labels = np.array([label for _, label, _ in units], np.int64)
        if len(units) < FEWEST_RECORDINGS or len(np.unique(labels)) < 2:
            continue
        conditions = np.unique([condition for *_, condition in units], return_inverse=True)[1]
        # a condition of one recording predicts nothing, and one that all share says nothing
        if len(np.unique(conditions)) < 2:
            continue
        reached = _left_out_accuracy(conditions, labels)
        if reached < GIVEN_AWAY:
            continue
        generator = np.random.default_rng(0)
        as_good = sum(
            _left_out_accuracy(conditions, generator.permutation(labels)) >= reached for _ in range(N_PERMUTATIONS)
        )
        if (as_good + 1) / (N_PERMUTATIONS + 1) <= MOST_BY_CHANCE:
            found.append(f"{name} predicts the label of {len(units)} subjects with balanced accuracy {reached:.2f}")
    return found


def label_in_order(setup: Setup) -> list[str]:
    """List a fixed order of classes: each recording has all windows of one class before the next, in one order.

    A slow drift of the recording then predicts the label as well as a response of the brain.
    """
    if not setup.has_classes:
        return []
    orders = []
    for recording in np.unique(setup.recordings):
        own = np.flatnonzero(setup.recordings == recording)
        labels = setup.labels[own[np.argsort(setup.starts[own], kind="stable")]]
        changes = labels[np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))]
        if len(np.unique(labels)) < 2 or len(labels) < 2 * len(changes):
            continue
        orders.append(tuple(changes.tolist()) if len(changes) == len(np.unique(labels)) else None)
    if len(orders) < FEWEST_RECORDINGS or None in orders or len(set(orders)) > 1:
        return []
    order = ", ".join(str(label) for label in orders[0] or ())
    return [f"all {len(orders)} recordings have their classes in the order {order}, each in one block"]


def shared_blocks(setup: Setup) -> list[str]:
    """List folds in which most test windows lie in a block of one class that training has windows of, too.

    Neighbouring windows of a block share drifts and state, so that a block can be recognised without its class. Only
    designs with long blocks are judged; a split by time cuts few of them, and a split by windows nearly all.
    """
    if not setup.has_classes or not setup.may_share_subjects or setup.rule == "unseen_stimuli":
        return []
    blocks = _blocks(setup)
    if len(blocks) < SHORTEST_BLOCK * len(np.unique(blocks)):
        return []
    found = []
    for number, fold in enumerate(setup.folds):
        shared = np.isin(blocks[fold.test], blocks[fold.train])
        if shared.mean() > MOST_IN_SHARED_BLOCKS:
            found.append(
                f"fold {number + 1}: {int(shared.sum())} of {len(shared)} test windows lie in blocks of one class that"
                f" training has windows of; blocks have {len(blocks) / len(np.unique(blocks)):.1f} windows"
            )
    return found


def label_in_channel(setup: Setup) -> list[str]:
    """List channels whose values hold the label, as a trigger channel among the signals does.

    Such a channel is constant in each window, or nearly so, and its level separates the classes without overlap.
    Channels without common names are other ones in each subject, so that each subject is checked alone.
    """
    if not setup.has_classes or setup.signal_BCN is None or len(np.unique(setup.labels)) < 2:
        return []
    if setup.channel_names:
        return _levels_of_labels(setup, np.ones(len(setup.labels), bool), "")
    subjects = np.unique(setup.subjects).tolist()
    return [found for name in subjects for found in _levels_of_labels(setup, setup.subjects == name, f" of {name}")]


def _levels_of_labels(setup: Setup, rows: NDArray[np.bool_], whose: str) -> list[str]:
    labels = setup.labels[rows]
    if len(np.unique(labels)) < 2:
        return []
    signal_BCN = np.asarray(setup.signal_BCN, np.float64)[rows]
    level = np.median(signal_BCN, axis=-1)
    within = np.median(np.abs(signal_BCN - level[..., None]), axis=-1).mean(axis=0)
    found = []
    for channel in range(signal_BCN.shape[1]):
        values = level[:, channel]
        spread = float(values.std())
        classes = [values[labels == k] for k in np.unique(labels)]
        ranges = sorted((float(own.min()), float(own.max())) for own in classes)
        apart = min(b[0] - a[1] for a, b in itertools.pairwise(ranges))
        widest = max(high - low for low, high in ranges)
        if spread > 0 and apart > 2 * widest and within[channel] < 0.1 * apart and min(map(len, classes)) > 2:
            name = setup.channel_names[channel] if channel < len(setup.channel_names) else f"number {channel + 1}"
            found.append(f"channel {name}{whose}: its level is the label of all {len(values)} windows")
    return found


def stimuli_on_two_sides(setup: Setup) -> list[str]:
    """List stimuli on two sides of a fold, where unseen stimuli are tested."""
    if setup.rule != "unseen_stimuli":
        return []
    return [
        f"fold {number + 1}: stimulus {label} in {one} and {other}"
        for number, fold in enumerate(setup.folds)
        for one, other, first, second in fold.pairs()
        for label in sorted(set(setup.labels[first].tolist()) & set(setup.labels[second].tolist()))
    ]


def _labelled_recordings(setup: Setup) -> list[int]:
    """Return the first window of each recording that has a single label."""
    first = []
    for recording in np.unique(setup.recordings):
        own = np.flatnonzero(setup.recordings == recording)
        if len(np.unique(setup.labels[own])) == 1:
            first.append(int(own[0]))
    return first


def _left_out_accuracy(conditions: NDArray[np.intp], labels: NDArray[np.int64]) -> float:
    """Return how well the other recordings of a condition predict the label of each."""
    classes, index = np.unique(labels, return_inverse=True)
    counts = np.zeros((int(conditions.max()) + 1, len(classes)))
    np.add.at(counts, (conditions, index), 1)
    others = counts[conditions]
    others[np.arange(len(index)), index] -= 1
    # without others, or with a draw, the label is not predicted
    best = np.where((others == others.max(axis=1, keepdims=True)).sum(axis=1) == 1, others.argmax(axis=1), -1)
    return balanced_accuracy(index.astype(np.int64), best.astype(np.int64))


def _blocks(setup: Setup) -> NDArray[np.int64]:
    """Return the number of the block of each window: neighbours in a recording with the same label."""
    blocks = np.zeros(len(setup.labels), np.int64)
    number = 0
    for recording in np.unique(setup.recordings):
        own = np.flatnonzero(setup.recordings == recording)
        order = own[np.argsort(setup.starts[own], kind="stable")]
        new = np.diff(setup.labels[order], prepend=setup.labels[order[0]]) != 0
        blocks[order] = number + np.cumsum(new)
        number = int(blocks[order].max()) + 1
    return blocks
