"""Copies are found however they were changed, and what only looks alike is not."""

import numpy as np
import pytest

from emeg.data.split import join_groups
from emeg.ingest.fingerprint import find_copies, fingerprint

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


def test_silence_at_the_same_place_makes_no_copy():
    one, other = signal(1), signal(2)
    one[:, -600:] = other[:, -600:] = 0.0
    assert find_copies({"a": track(one), "b": track(other)}) == []


def test_pairs_tie_groups_together_over_several_steps():
    merged = join_groups({"a": "a", "b": "b", "c": "c", "d": "d"}, [("c", "b"), ("a", "c")])
    assert merged == {"a": "a", "b": "a", "c": "a", "d": "d"}
