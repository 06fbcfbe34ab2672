from dataclasses import replace

import numpy as np
import pytest

from emeg.evaluation.leaks.labels import (
    label_in_channel,
    label_in_conditions,
    label_in_order,
    shared_blocks,
    stimuli_on_two_sides,
)


@pytest.fixture
def diagnosis(setup):
    """Return a function of the label and device of each subject, one recording each."""

    def make(labels, devices):
        n = len(labels)
        each = np.arange(n)
        return replace(
            setup,
            labels=np.array(labels),
            devices=np.array(devices),
            subjects=np.array([f"d/{i}" for i in each]),
            recordings=np.array([f"r{i}" for i in each]),
            starts=np.zeros(n, int),
            datasets=np.array(["d"] * n),
            layouts=np.array(["l"] * n),
        )

    return make


def test_a_device_for_each_class_gives_the_label_away(diagnosis):
    labels = [0, 1] * 10
    assert label_in_conditions(diagnosis(labels, ["x", "y"] * 10)) == [
        "device predicts the label of 20 subjects with balanced accuracy 1.00"
    ]
    assert label_in_conditions(diagnosis(labels, ["x", "x", "y", "y"] * 5)) == []
    # four subjects may be so by chance
    assert label_in_conditions(diagnosis([0, 1] * 4, ["x", "y"] * 4)) == []


def test_classes_in_one_order_in_every_recording_are_found(setup):
    ordered = replace(
        setup,
        recordings=np.repeat([f"r{i}" for i in range(8)], 6),
        starts=np.tile(np.arange(6), 8),
        labels=np.tile([0, 0, 0, 1, 1, 1], 8),
    )
    assert "order 0, 1" in label_in_order(ordered)[0]
    balanced = ordered.labels.reshape(8, 6).copy()
    balanced[::2] = 1 - balanced[::2]
    assert label_in_order(replace(ordered, labels=balanced.ravel())) == []
    assert label_in_order(replace(ordered, labels=np.tile([0, 1, 0, 1, 0, 1], 8))) == []


def test_blocks_divided_by_windows_are_found_and_blocks_kept_whole_are_not(setup, moved):
    labels = np.tile(np.repeat([0, 1], 6), 2)
    within = replace(setup, rule="within_subject_blocks", labels=labels, recordings=np.array(["r"] * 24))
    within = replace(within, starts=np.arange(24) * 20)
    assert shared_blocks(within) == []
    first = within.folds[0]._replace(
        train=np.arange(0, 24, 2), validation=np.arange(1, 24, 4), test=np.arange(3, 24, 4)
    )
    assert "fold 1: 6 of 6 test windows" in shared_blocks(replace(within, folds=(first,)))[0]
    assert shared_blocks(replace(within, folds=(first,), rule="cross_subject")) == []


def test_a_trigger_channel_is_named_and_a_real_difference_is_none(setup):
    signal = setup.signal_BCN.copy()
    signal[:, 1] = 5.0 + 3.0 * setup.labels[:, None]
    assert label_in_channel(replace(setup, signal_BCN=signal)) == [
        "channel Cz: its level is the label of all 24 windows"
    ]
    stronger = setup.signal_BCN * (1 + 5 * setup.labels[:, None, None])
    assert label_in_channel(replace(setup, signal_BCN=stronger.astype(np.float32))) == []


def test_a_trigger_channel_of_one_subject_is_found_where_subjects_have_channels_of_their_own(setup):
    subject = setup.subjects[0]
    own = setup.subjects == subject
    signal = setup.signal_BCN.copy()
    signal[own, 1] = 5.0 + 3.0 * setup.labels[own, None]
    apart = replace(setup, signal_BCN=signal, channel_names=())
    assert label_in_channel(apart) == [
        f"channel number 2 of {subject}: its level is the label of all {own.sum()} windows"
    ]
    assert label_in_channel(replace(setup, channel_names=())) == []


def test_a_stimulus_on_two_sides_is_a_leak_where_unseen_ones_are_tested(setup):
    unseen = replace(setup, rule="unseen_stimuli", labels=np.arange(24))
    assert stimuli_on_two_sides(unseen) == []
    labels = unseen.labels.copy()
    labels[setup.folds[0].test[0]] = labels[setup.folds[0].train[0]]
    assert stimuli_on_two_sides(replace(unseen, labels=labels))[0].startswith("fold 1: stimulus 0 in train and test")
    assert stimuli_on_two_sides(setup) == []
