import pytest

from emeg.flows.pipeline import _shared_by_ranks
from emeg.training import TrainTokenizerConfig


@pytest.mark.parametrize(("workers", "micro_batches", "ranks"), [(1, 2, 1), (2, 2, 2), (2, 3, 1), (8, 4, 2), (2, 1, 1)])
def test_ranks_divide_the_micro_batches_and_are_at_most_two(workers, micro_batches, ranks):
    config = TrainTokenizerConfig(root="store", device="cpu", sampling={"micro_batches": micro_batches})
    assert _shared_by_ranks(config, workers).processes == ranks
