import itertools
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.data.sampling.plan import SamplingConfig, SamplingPlan, SamplingState, fixed_batches
from emeg.errors import UserError


@dataclass
class FakeCorpus:
    """Tables without signals: (channels, dataset, number of training segments) each."""

    kinds: list[tuple[int, str, int]]
    name: str = "0123456789abcdef"
    sfreq: float = 256.0
    n_samples: int = 2560
    columns: dict = field(default_factory=dict)

    def column(self, name):
        if not self.columns:
            rows = [
                (split, channels, dataset, "meg" if channels > 100 else "eeg")
                for channels, dataset, n in sorted(self.kinds)
                for split, m in (("train", n), ("validation", 3))
                for _ in range(m)
            ]
            for key, values in zip(("split", "channels", "dataset", "modality"), zip(*rows, strict=True), strict=True):
                self.columns[key] = np.array(values)
        return self.columns[name]

    @property
    def train(self):
        return np.flatnonzero(self.column("split") == "train").tolist()


kinds = st.lists(
    st.tuples(st.sampled_from([8, 19, 64, 306]), st.sampled_from(["a", "b"]), st.integers(1, 60)),
    min_size=1,
    max_size=5,
    unique_by=lambda k: k[:2],
)


def plan_of(corpus, **config):
    return SamplingPlan(corpus, SamplingConfig(**({"budget_channel_seconds": 1000.0} | config)))


def epoch(plan, number=0):
    return [plan.micro_batches(number, step) for step in range(plan.n_steps(number))]


@settings(deadline=None)
@given(kinds, st.integers(1, 5), st.integers(0, 3), st.floats(50, 5000))
def test_an_epoch_shows_every_segment_exactly_once(kinds, m, seed, budget):
    corpus = FakeCorpus(kinds)
    total = len(corpus.train)
    if total < m:
        return
    plan = plan_of(corpus, micro_batches=m, seed=seed, budget_channel_seconds=budget)
    steps = epoch(plan)
    shown = [s for step in steps for batch in step for s in batch.segments]
    assert len(set(shown)) == len(shown)
    assert all(len(step) == m for step in steps)
    if total % m == 0 or total >= 2 * m * len(steps):
        assert sorted(shown) == corpus.train
    assert total - len(shown) < m  # only where no micro-batch could be divided further


@settings(deadline=None)
@given(kinds, st.integers(1, 4), st.floats(50, 5000))
def test_micro_batches_keep_to_one_channel_count_and_the_budget(kinds, m, budget):
    corpus = FakeCorpus(kinds)
    if len(corpus.train) < m:
        return
    for step in epoch(plan_of(corpus, micro_batches=m, budget_channel_seconds=budget)):
        for batch in step:
            channels = set(corpus.column("channels")[list(batch.segments)].tolist())
            assert len(channels) == 1
            assert len(batch.segments) == 1 or channels.pop() * 10 * len(batch.segments) <= budget * (1 + 1e-9)


def test_order_is_a_function_of_seed_epoch_and_step_alone():
    corpus = FakeCorpus([(8, "a", 50), (64, "b", 70)])
    plan = plan_of(corpus, micro_batches=2, crop_s=4.0)
    first = epoch(plan, 3)
    again = plan_of(FakeCorpus([(8, "a", 50), (64, "b", 70)]), micro_batches=2, crop_s=4.0)
    assert [again.micro_batches(3, s) for s in reversed(range(again.n_steps(3)))] == first[::-1]
    assert epoch(plan, 4) != first
    assert epoch(plan_of(corpus, micro_batches=2, crop_s=4.0, seed=1), 3) != first


def test_single_micro_batches_mix_channel_counts_over_the_epoch():
    corpus = FakeCorpus([(8, "a", 600), (64, "b", 75)])
    plan = plan_of(corpus, budget_channel_seconds=640.0)
    channels = [int(corpus.column("channels")[step[0].segments[0]]) for step in epoch(plan)]
    assert Counter(channels) == {8: 75, 64: 75}
    changes = np.mean(np.diff(channels) != 0)
    assert 0.35 < changes < 0.65


def test_lanes_share_blocks_only_where_they_meet():
    """Ranks that take whole lanes read every block once, except a window at each end of a lane."""
    corpus = FakeCorpus([(8, "a", 3200), (64, "b", 1600)])
    plan = plan_of(corpus, micro_batches=4, budget_channel_seconds=640.0, block_segments=16, window_blocks=4)
    for n_ranks in (1, 2, 4):
        shares = [plan.share(2, rank=r, n_ranks=n_ranks) for r in range(n_ranks)]
        assert sorted(np.concatenate([share.segments for share in shares]).tolist()) == corpus.train
        reads = sum(len(np.unique(share.blocks)) for share in shares)
        assert 300 <= reads <= 300 + 3 * 2 * 4
        for share in shares:
            where = [np.flatnonzero(share.blocks == b) for b in np.unique(share.blocks)]
            assert len(where) > 50
            # items of a block are due within a window of their own channel count
            assert max(w[-1] - w[0] for w in where) < len(share.segments) // n_ranks


def test_a_share_is_what_the_micro_batches_say():
    plan = plan_of(FakeCorpus([(8, "a", 210), (64, "b", 130)]), micro_batches=4, budget_channel_seconds=640.0)
    share = plan.share(1, start=2, stop=5, rank=1, n_ranks=2)
    batches = [plan.micro_batch(1, step, number) for step in (2, 3, 4) for number in (1, 3)]
    assert [batch.segments for batch in batches] == [
        tuple(share.segments[a:b].tolist()) for a, b in itertools.pairwise(share.borders.tolist())
    ]
    for block in np.unique(share.blocks):
        rows = share.segments[share.blocks == block]
        assert rows.max() - rows.min() < 16


def test_like_cost():
    corpus = FakeCorpus([(8, "a", 101), (64, "b", 67), (306, "c", 31)])
    cost = [
        len(b.segments) * int(corpus.column("channels")[b.segments[0]])
        for step in epoch(plan_of(corpus, micro_batches=4, budget_channel_seconds=6400.0))
        for b in step
    ]
    assert max(cost) <= 2 * min(cost)


def test_crops_lie_inside_and_vary():
    plan = plan_of(FakeCorpus([(8, "a", 200)]), crop_s=2.0)
    batches = [b for step in epoch(plan) for b in step]
    starts = [s for b in batches for s in b.crop_start]
    assert {b.n_samples for b in batches} == {512}
    assert min(starts) >= 0
    assert max(starts) <= 2560 - 512
    assert len(set(starts)) > 150
    assert abs(np.mean(starts) - 1024) < 150
    whole = plan_of(FakeCorpus([(8, "a", 200)]))
    assert {s for step in epoch(whole) for b in step for s in b.crop_start} == {0}


@settings(deadline=None, max_examples=40)
@given(kinds, st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.5, 2.0]), st.sampled_from([0.3, 1.0, 3.0]))
def test_weights_are_exact_counts(kinds, weight, modality_weight):
    corpus = FakeCorpus([*kinds, (8, "c", 11)])
    datasets = {k[1] for k in corpus.kinds}
    weights = {"a": weight, "eeg": modality_weight}
    weights = {k: v for k, v in weights.items() if k in datasets | {"eeg"}}
    plan = plan_of(corpus, weights=weights)
    shown = Counter(s for step in epoch(plan) for b in step for s in b.segments)
    for dataset in datasets:
        for modality in ("eeg", "meg"):
            rows = [
                r
                for r in corpus.train
                if corpus.column("dataset")[r] == dataset and corpus.column("modality")[r] == modality
            ]
            w = weights.get(dataset, 1.0) * weights.get(modality, 1.0)
            counts = [shown[r] for r in rows]
            assert sum(counts) == int(np.floor(round(w * len(rows), 9) + 0.5))


def test_a_share_is_shown_evenly_over_epochs():
    corpus = FakeCorpus([(8, "a", 40), (8, "b", 40)])
    plan = plan_of(corpus, weights={"a": 0.25})
    shown = Counter(s for e in range(4) for step in epoch(plan, e) for b in step for s in b.segments)
    assert set(shown.values()) == {1, 4}
    assert sum(v == 1 for v in shown.values()) == 40


def test_token_plan_mixes_channel_counts():
    corpus = FakeCorpus([(8, "a", 40), (64, "b", 40)])
    plan = SamplingPlan(corpus, SamplingConfig(budget_channel_seconds=1600.0), channels=16)
    steps = epoch(plan)
    assert {len(step[0].segments) for step in steps} == {10}
    assert sorted(s for step in steps for s in step[0].segments) == corpus.train
    kinds_in_step = [set(corpus.column("channels")[list(step[0].segments)].tolist()) for step in steps]
    assert all(len(kinds) == 2 for kinds in kinds_in_step)


def test_positions_go_round():
    plan = plan_of(FakeCorpus([(8, "a", 100)]))
    for step in (0, 1, plan.n_steps() - 1, plan.n_steps(), 5 * plan.n_steps() + 3):
        state = SamplingState.from_dict(plan.state(step).to_dict())
        assert plan.global_step(state) == step
    with refusal(UserError, "seed 9", action="new run"):
        plan.global_step(SamplingState(plan.corpus.name, 9, 0, 0))


def test_fixed_batches_show_all_once_in_order():
    corpus = FakeCorpus([(8, "a", 7), (64, "b", 5)])
    batches = fixed_batches(corpus, 200.0, "train")
    assert [s for b in batches for s in b.segments] == corpus.train
    assert [len(b.segments) for b in batches] == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert {b.n_samples for b in batches} == {2560}
    assert len([s for b in fixed_batches(corpus, 1e6) for s in b.segments]) == 18


def test_a_modality_that_the_corpus_has_not_does_not_matter():
    corpus = FakeCorpus([(8, "a", 5)])
    plain, weighted = plan_of(corpus), plan_of(corpus, weights={"meg": 3.0})
    assert plain.micro_batch(0, 0, 0).segments == weighted.micro_batch(0, 0, 0).segments
    assert plain.n_segments == weighted.n_segments


@pytest.mark.parametrize(
    ("config", "named", "action"),
    [
        ({"crop_s": 11.0}, "crop_s=11.0", "segment_s"),
        ({"weights": {"nowhere": 1.0}}, "nowhere", "a, eeg"),
        ({"micro_batches": 9}, "micro_batches=9", "micro_batches"),
    ],
)
def test_refusals(config, named, action):
    with refusal(UserError, named, action=action):
        plan_of(FakeCorpus([(8, "a", 5)]), **config)


def test_an_epoch_smaller_than_the_budget_is_one_step():
    plan = plan_of(FakeCorpus([(8, "a", 3)]), budget_channel_seconds=1e9)
    assert plan.n_steps() == 1
    assert sorted(plan.micro_batches(0, 0)[0].segments) == [0, 1, 2]
