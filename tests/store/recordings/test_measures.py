"""Measures beside a recording, and marks read as annotations."""

import mne
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.messages import refusal

from emeg.errors import UserError
from emeg.store import (
    BadReason,
    CatalogConfig,
    Measures,
    bad_stretches,
    open_recording,
    publish_row,
    query_catalog,
    write_recording,
)


def write(store, sensors, attributes, measures):
    three = sensors(3)
    signal = np.random.default_rng(0).normal(0, 1e-5, (3, 6000)).astype(np.float32)
    write_recording(
        store,
        "a",
        signal,
        sensors=three,
        attributes=attributes(three),
        bad=np.zeros((3, 24), np.uint8),
        measures=measures,
    )
    return open_recording(store, "a")


def test_measures_are_read_as_written(store, sensors, attributes):
    values = np.random.default_rng(1).normal(size=(2, 3, 3)).astype(np.float32)
    values[1, 2, 0] = np.nan
    found = write(store, sensors, attributes, Measures(("one", "two"), 10.0, values)).measures
    assert found is not None
    assert (found.names, found.segment_s) == (("one", "two"), 10.0)
    assert np.array_equal(found.values, values, equal_nan=True)
    assert np.array_equal(found.of("two"), values[1], equal_nan=True)
    with refusal(UserError, "'three'", action="one, two"):
        found.of("three")


def test_measures_of_another_shape_are_refused(local_store, sensors, attributes):
    with refusal(UserError, "(1, 3, 2)", action="(1, 3, 3)"):
        write(local_store, sensors, attributes, Measures(("one",), 10.0, np.zeros((1, 3, 2), np.float32)))
    assert local_store.names("recordings") == []


def test_a_recording_without_measures_was_not_measured(local_store, sensors, attributes, row):
    recording = write(local_store, sensors, attributes, None)
    assert recording.measures is None
    publish_row(local_store, row("a"), [])
    publish_row(local_store, row("b", bad_share=0.25, mains_ratio=40.0), [])
    publish_row(local_store, row("c", bad_share=0.05), [])

    def ask(where):
        config = CatalogConfig(root=str(local_store.root), where=where, columns=("recording",))
        return [name for (name,) in query_catalog(config).rows]

    assert ask("bad_share > 0.2") == ["b"]
    assert ask("bad_share <= 0.2") == ["c"]
    assert ask("bad_share is null") == ["a"]
    assert ask("mains_ratio > 10") == ["b"]


@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.integers(0, 255)))
def test_stretches_say_the_same_as_the_array(bad):
    names = tuple(f"E{i}" for i in range(len(bad)))
    again = np.zeros_like(bad)
    found = bad_stretches(bad, names, bad.shape[1] - 0.5)
    for onset, duration, reason, channels in found:
        for channel in channels:
            seconds = slice(round(onset), int(np.ceil(onset + duration)))
            assert not (again[names.index(channel), seconds] & int(BadReason[reason.upper()])).any()
            again[names.index(channel), seconds] |= np.uint8(BadReason[reason.upper()])
    assert np.array_equal(again, bad)
    assert found == sorted(found, key=lambda stretch: stretch.onset_s)
    annotations = mne.Annotations(
        [b.onset_s for b in found],
        [b.duration_s for b in found],
        [b.reason for b in found],
        ch_names=[b.channels for b in found],
    )
    assert len(annotations) == len(found)
