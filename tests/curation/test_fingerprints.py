"""Copies are found however they were changed, and what only looks alike is not."""

import numpy as np
import pytest

from emeg.curation.fingerprints import THRESHOLD, find_copies, fingerprint
from emeg.curation.landmarks import landmarks, meetings
from emeg.data.corpus.split import join_groups

SFREQ = 256


def signal(seed, seconds=60):
    rng = np.random.default_rng(seed)
    return (1e-5 * rng.standard_normal((8, seconds * SFREQ))).astype(np.float32)


def track(values):
    return fingerprint([values[:, :5000], values[:, 5000:]], sfreq=SFREQ)


@pytest.mark.parametrize(
    ("change", "offset_s"),
    [
        (lambda x: x, 0.0),
        (lambda x: x * np.linspace(0.01, 5, 8, dtype=np.float32)[:, None], 0.0),
        (lambda x: x[::-1], 0.0),
        (lambda x: x[:, 11 * SFREQ : 49 * SFREQ], 11.0),
    ],
)
def test_a_copy_is_found_with_its_offset(change, offset_s):
    [match] = find_copies({"a": track(signal(1)), "b": track(change(signal(1)))})
    assert match.offset_s == pytest.approx(offset_s, abs=0.1)


@pytest.mark.parametrize("seconds", [22, 25, 40])
def test_a_short_copy_is_found(seconds):
    cut = signal(1)[:, 11 * SFREQ : (11 + seconds) * SFREQ]
    [match] = find_copies({"a": track(signal(1)), "b": track(cut), "c": track(signal(2, seconds))})
    assert (match.first, match.second) == ("a", "b")
    assert match.offset_s == pytest.approx(11.0, abs=0.1)


def test_the_index_finds_what_comparing_everything_finds():
    """Against the matrix of all windows, with copies of a third of the recordings among many."""
    tracks = [track(signal(seed, 40)) for seed in range(60)]
    rng = np.random.default_rng(0)
    tracks += [one[37:] + 0.02 * rng.standard_normal(len(one) - 37) for one in tracks[:20]]
    found = [landmarks(np.asarray(one, np.float32)) for one in tracks]
    expected = {
        (i, j)
        for i, one in enumerate(found)
        for j, other in enumerate(found[i + 1 :], i + 1)
        if (one.vectors @ other.vectors.T).max() >= THRESHOLD
    }
    assert {(i, 60 + i) for i in range(20)} <= expected
    assert {(one.first, one.second) for one in meetings(found, THRESHOLD)} == expected


def test_a_crowd_of_copies_is_chained_together():
    crowd = {f"{i:03}": track(signal(3, 30)) for i in range(120)}
    merged = join_groups({name: name for name in crowd}, [(m.first, m.second) for m in find_copies(crowd)])
    assert set(merged.values()) == {"000"}


def test_silence_at_the_same_place_makes_no_copy():
    one, other = signal(1), signal(2)
    one[:, -600:] = other[:, -600:] = 0.0
    assert find_copies({"a": track(one), "b": track(other)}) == []


def test_pairs_tie_groups_together_over_several_steps():
    merged = join_groups({"a": "a", "b": "b", "c": "c", "d": "d"}, [("c", "b"), ("a", "c")])
    assert merged == {"a": "a", "b": "a", "c": "a", "d": "d"}
