import threading

import numpy as np
import pytest
from tests.data.sampling.test_plan import FakeCorpus
from tests.messages import refusal

from emeg.data import BatchReader, Corpus, Loader, SamplingConfig, SamplingPlan, ShardConfig, collate, shard
from emeg.data.batch import Sample
from emeg.data.corpus.ranges import ByteRange, coalesce
from emeg.errors import UserError
from emeg.store import open_recording


@pytest.fixture
def corpus(people):
    return Corpus.open(people, shard(ShardConfig(root=str(people.root), segment_s=5.0)).corpus)


def loader_of(corpus, rank=0, n_ranks=1, start=0, stop=12, workers=1, **config):
    config = {"budget_channel_seconds": 50.0, "crop_s": 2.0, "micro_batches": 2} | config
    plan = SamplingPlan(corpus, SamplingConfig(**config))
    return Loader(plan, BatchReader(corpus), rank=rank, n_ranks=n_ranks, start=start, stop=stop, workers=workers)


def same(a, b):
    return (a.step, a.micro_batch) == (b.step, b.micro_batch) and all(
        np.array_equal(x, y) for x, y in zip(a.batch, b.batch, strict=True)
    )


def test_batches_are_the_recordings_samples(corpus, people):
    plan = loader_of(corpus).plan
    for micro_batch, loaded in zip(plan.micro_batches(0, 0), loader_of(corpus), strict=False):
        assert loaded.batch.segments.tolist() == list(micro_batch.segments)
        assert loaded.batch.signal.dtype == np.int16
        assert loaded.batch.channel_mask.all()
        values = loaded.batch.values()
        for b, (row, crop) in enumerate(zip(micro_batch.segments, micro_batch.crop_start, strict=True)):
            recording = open_recording(people, str(corpus.column("recording")[row]))
            start = int(corpus.column("start")[row]) + crop
            assert np.array_equal(values.signal[b], recording.read(start, start + 512))
            assert np.array_equal(values.pos[b], recording.sensors.model_positions())
            assert np.array_equal(values.sensor_type[b], recording.sensors.types)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_ranks_and_threads_change_nothing(corpus, workers):
    alone = {(x.step, x.micro_batch): x for x in loader_of(corpus, workers=0)}
    shares = [list(loader_of(corpus, rank=r, n_ranks=2, workers=workers)) for r in range(2)]
    assert {len(share) for share in shares} == {12}
    for share in shares:
        for loaded in share:
            assert same(loaded, alone.pop((loaded.step, loaded.micro_batch)))
    assert not alone


def test_the_order_of_samples_is_the_same_on_any_ranks_and_workers(corpus):
    """1, 2 and 4 ranks, 0, 1 and 4 workers, from the start and resumed in mid-epoch on every other number."""
    config = {"micro_batches": 4, "stop": 9}

    def order(n_ranks, workers, state=None):
        seen = []
        for rank in range(n_ranks):
            loader = loader_of(corpus, rank=rank, n_ranks=n_ranks, workers=workers, **config)
            if state is not None:
                loader.load_state_dict(state)
            seen += [(x.step, x.micro_batch, x.batch.segments.tolist(), x.batch.signal.tobytes()) for x in loader]
        return sorted(seen)

    whole = order(1, 0)
    for n_ranks in (1, 2, 4):
        for workers in (0, 1, 4):
            first = loader_of(corpus, rank=n_ranks - 1, n_ranks=n_ranks, workers=workers, **config)
            taken = iter(first)
            for _ in range(4 // n_ranks * 5):
                next(taken)
            taken.close()
            assert first.state_dict()["epoch"] == 5 // first.plan.n_steps()
            assert order(n_ranks, workers, first.state_dict()) == [x for x in whole if x[0] >= 5]
            assert order(n_ranks, workers) == whole


@pytest.mark.parametrize("seed", range(50))
def test_uneven_layouts_end_with_every_rank_equal(seed):
    """For random numbers of segments per channel count, ranks get equally many batches within the budget."""
    rng = np.random.default_rng(seed)
    n_groups = int(rng.integers(1, 6))
    sizes = rng.integers(1, 200, n_groups)
    layout = FakeCorpus(
        [
            (int(c), "ab"[int(rng.integers(2))], int(n))
            for c, n in zip(rng.choice([8, 19, 64, 128, 306], n_groups, replace=False), sizes, strict=True)
        ]
    )
    n_ranks = int(rng.choice([1, 2, 4, 8]))
    m = n_ranks * int(rng.integers(1, 4))
    if sizes.sum() < m:
        pytest.skip("fewer segments than micro-batches")
    budget = float(rng.uniform(200, 8000))
    plan = SamplingPlan(layout, SamplingConfig(micro_batches=m, budget_channel_seconds=budget, seed=seed))
    stop = plan.n_steps() + 2
    reader = NullReader()
    ranks = [list(Loader(plan, reader, stop=stop, rank=r, n_ranks=n_ranks, workers=seed % 3)) for r in range(n_ranks)]
    steps = [[x.step for x in rank] for rank in ranks]
    assert all(s == steps[0] for s in steps)
    assert len(steps[0]) == stop * m // n_ranks
    shown = [s for rank in ranks for x in rank if x.step < plan.n_steps() for s in x.batch]
    assert len(shown) == len(set(shown)) > plan.n_segments - m
    for rank in ranks:
        for x in rank:
            cost = len(x.batch) * int(layout.column("channels")[x.batch[0]]) * 10
            assert len(x.batch) == 1 or cost <= budget * (1 + 1e-9)


class NullReader:
    """Gives the rows of a batch."""

    def follow(self, share, *, ahead):
        self.share = share
        return self

    def read(self, number, micro_batch):
        return micro_batch.segments

    def close(self):
        pass


@pytest.mark.parametrize("taken", [0, 2, 6, 14])
def test_resumed_is_uninterrupted(corpus, taken):
    whole = list(loader_of(corpus))
    first = loader_of(corpus)
    iterator = iter(first)
    head = [next(iterator) for _ in range(taken)]
    iterator.close()
    state = first.state_dict()
    assert set(state) == {"corpus", "seed", "epoch", "step"}
    second = loader_of(corpus)
    second.load_state_dict(state)
    assert len(second) == len(whole) - taken
    for a, b in zip([*head, *second], whole, strict=True):
        assert same(a, b)


def test_more_ranks_resume_where_one_stopped(corpus):
    whole = {(x.step, x.micro_batch): x for x in loader_of(corpus)}
    first = loader_of(corpus)
    iterator = iter(first)
    for _ in range(8):
        next(iterator)
    rest = []
    for rank in range(2):
        second = loader_of(corpus, rank=rank, n_ranks=2)
        second.load_state_dict(first.state_dict())
        rest += list(second)
    assert sorted((x.step, x.micro_batch) for x in rest) == [k for k in sorted(whole) if k[0] >= 4]


def test_a_step_cut_short_is_done_again(corpus):
    first = loader_of(corpus)
    iterator = iter(first)
    for _ in range(3):  # one and a half steps of two micro-batches
        next(iterator)
    assert first.state_dict()["step"] + first.state_dict()["epoch"] * first.plan.n_steps() == 1


def test_ranks_must_divide_the_step(corpus):
    with refusal(UserError, "3 ranks", "micro_batches=2", action="1, 2, or set micro_batches to 3"):
        loader_of(corpus, n_ranks=3)
    with refusal(UserError, "seed 1", "seed 0", action="new run"):
        loader_of(corpus, seed=1).load_state_dict(loader_of(corpus).state_dict())


def test_stopping_early_leaves_no_thread(corpus):
    iterator = iter(loader_of(corpus))
    next(iterator)
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("emeg-loader")]


def test_errors_of_the_thread_reach_the_caller(corpus):
    loader = loader_of(corpus)
    for path in (corpus.folder.local_path() / "shards").iterdir():
        path.unlink()
    with refusal(UserError, "-00000.tar", action="shard again"):
        list(loader)


def test_collate_pads_channels_and_masks_them():
    samples = [
        Sample(np.full((c, 4), c, np.float32), np.full((c, 6), c, np.float32), np.full(c, 2, np.int8), 10 * c)
        for c in (3, 5)
    ]
    batch = collate(samples)
    assert batch.channel_mask.sum(axis=1).tolist() == [3, 5]
    assert batch.signal.shape == (2, 5, 4)
    assert not batch.signal[~batch.channel_mask].any()
    assert np.array_equal(batch.signal[1], samples[1].signal)
    assert batch.pos[0, :3].min() == 3
    assert batch.segments.tolist() == [30, 50]


def test_neighbouring_ranges_are_one_read():
    ranges = [ByteRange("a", 0, 10), ByteRange("b", 5, 6), ByteRange("a", 12, 20), ByteRange("a", 40, 50)]
    assert coalesce(ranges, max_gap=2) == [ByteRange("a", 0, 20), ByteRange("a", 40, 50), ByteRange("b", 5, 6)]
    assert coalesce([ByteRange("a", 0, 50), ByteRange("a", 10, 20)], max_gap=0) == [ByteRange("a", 0, 50)]
