import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emeg.data.sampling.order import block_permutation, draws, exact, permutation, round_half_down, round_half_up


def test_draws_are_philox_4x64_10_and_frozen():
    # Known answer of Philox4x64-10 for key 0, counter 0 (Random123 kat_vectors); numpy counts from 1.
    generator = np.random.Philox(key=0)
    generator.state = generator.state | {
        "state": {"counter": np.array([2**64 - 1] * 4, np.uint64), "key": np.zeros(2, np.uint64)}
    }
    assert [hex(int(v)) for v in generator.random_raw(4)] == [
        "0x16554d9eca36314c",
        "0xdb20fe9d672d0fdc",
        "0xd7e772cee186176b",
        "0x7e68b68aec7ba23b",
    ]
    # An order that corpora and runs depend on: it may never change.
    assert permutation(8, "steps", 0, 0).tolist() == FROZEN


FROZEN = [6, 4, 3, 0, 7, 2, 1, 5]


@given(st.integers(0, 300), st.integers(1, 20), st.integers(1, 9), st.integers(0, 5))
def test_block_permutation_is_a_permutation_that_stays_local(n, block, window, seed):
    order = block_permutation(n, block, window, seed)
    assert sorted(order.tolist()) == list(range(n))
    blocks = order // block
    opened = {b: i for i, b in reversed(list(enumerate(blocks.tolist())))}
    closed = {b: i for i, b in enumerate(blocks.tolist())}
    for i in range(n):
        assert sum(opened[b] <= i < closed[b] for b in opened) <= window


def test_a_window_of_one_block_reads_block_after_block():
    blocks = block_permutation(100, 10, 1, 5) // 10
    assert np.count_nonzero(np.diff(blocks)) == 9
    assert (block_permutation(100, 10, 1, 5) % 10)[:10].tolist() != list(range(10))


def test_block_permutation_mixes():
    order = block_permutation(4096, 16, 32, 1)
    neighbours = np.abs(np.diff(order)) == 1
    assert neighbours.mean() < 0.02
    assert abs(np.corrcoef(order, np.arange(4096))[0, 1]) < 0.3


def test_keys_are_independent():
    assert not np.array_equal(draws(4, 1, 2), draws(4, 2, 1))
    assert not np.array_equal(draws(4, 1, 23), draws(4, 12, 3))
    assert np.array_equal(draws(9, "a", 1)[:4], draws(4, "a", 1))


def test_rounding_reads_settings_as_written():
    assert round_half_up(exact(0.15) * 10) == 2
    assert round_half_down(exact(0.15) * 10) == 1
    assert round_half_down(exact(0.35) * 10) == 3  # 0.35 * 10 in doubles is 3.5, but 0.35 itself lies below 7/20
    assert [round_half_up(exact(v)) for v in (0.5, 1.5, 2.4, 2.6)] == [1, 2, 2, 3]
