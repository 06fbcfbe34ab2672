from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.data.corpus.split import split_subjects
from emeg.errors import UserError

DEVICES = ["a", "b", "c", "d"]
crowds = st.dictionaries(
    st.from_regex(r"d/s[0-9]{1,3}", fullmatch=True),
    st.sets(st.sampled_from(DEVICES), min_size=1),
    min_size=3,
    max_size=40,
)


def split(devices, **settings):
    return split_subjects(devices, **({"held_out": 0.5, "validation": 0.15, "seed": 0} | settings))


def test_ten_people_of_one_device():
    found = split({f"ssvep/sub-{i:02d}": {"g.tec"} for i in range(10)})
    assert Counter(found.values()) == {"train": 4, "validation": 1, "held_out": 5}


@pytest.mark.parametrize("n", range(3, 40))
def test_every_split_has_somebody(n):
    counts = Counter(split({f"d/{i}": {"x"} for i in range(n)}).values())
    assert min(counts[s] for s in ("train", "validation", "held_out")) >= 1
    assert abs(counts["held_out"] - 0.5 * n) <= 0.5


@given(crowds, st.integers(0, 5))
def test_everybody_is_in_one_split_and_order_does_not_matter(devices, seed):
    found = split(devices, seed=seed)
    assert set(found) == set(devices)
    assert found == split(dict(reversed(devices.items())), seed=seed)
    assert set(found.values()) == {"train", "validation", "held_out"}


@given(st.integers(6, 30), st.integers(1, 3), st.integers(0, 20))
def test_every_shared_device_is_trained_on_and_held_out(n, each, seed):
    """All subjects have one common device and `each` of four others in rotation, as in a synthetic archive."""
    devices = {f"d/{i}": {"all"} | {DEVICES[(i + k) % 4] for k in range(each)} for i in range(n)}
    found = split(devices, seed=seed)
    for device in ["all", *DEVICES]:
        people = [p for p in devices if device in devices[p]]
        if len(people) >= 3:
            assert {"train", "held_out"} <= {found[p] for p in people}


def test_held_out_by_name_counts_towards_the_share():
    devices = {f"d/{i}": {"x"} for i in range(10)}
    named = ["d/3", "d/7"]
    for seed in range(5):
        found = split(devices, seed=seed, held_out_subjects=named)
        assert all(found[p] == "held_out" for p in named)
        assert Counter(found.values())["held_out"] == 5
    found = split(devices, held_out=0.0, held_out_subjects=named)
    assert {p for p, s in found.items() if s == "held_out"} == set(named)


def test_people_of_two_datasets_go_together():
    devices = {f"{d}/{i}": {d} for d in "ab" for i in range(8)}
    for seed in range(8):
        found = split(devices, seed=seed, group_of={f"b/{i}": f"a/{i}" for i in range(8)})
        assert all(found[f"a/{i}"] == found[f"b/{i}"] for i in range(8))


def test_seed_decides_who():
    devices = {f"d/{i}": {"x"} for i in range(20)}
    assert split(devices, seed=1) != split(devices, seed=2)


def test_too_few_people_is_one_line_with_reason():
    with refusal(UserError, "d/1, d/2", "held out", action="held_out or validation"):
        split({"d/1": {"x"}, "d/2": {"x"}})
    assert split({"d/1": {"x"}}, held_out=0.0, validation=0.0) == {"d/1": "train"}
    with refusal(UserError, "d/0, d/1", action="held_out or validation"):
        split({f"d/{i}": {"x"} for i in range(4)}, held_out_subjects=["d/0", "d/1", "d/2"])
    with refusal(UserError, "held_out_subjects", "d/9", action="d/0, d/1"):
        split({f"d/{i}": {"x"} for i in range(4)}, held_out_subjects=["d/9"])


def test_everybody_can_be_held_out():
    assert set(split({f"d/{i}": {"x"} for i in range(4)}, held_out=1.0).values()) == {"held_out"}
    assert split({}, held_out=1.0) == {}
