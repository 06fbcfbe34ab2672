"""The table is the same in memory and in a file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emeg.ingest.channel_rows import ChannelRows


@given(
    n_channels=st.integers(1, 6),
    n_samples=st.integers(1, 40),
    blocks=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 39), st.integers(1, 6), st.integers(1, 40)), max_size=8
    ),
)
def test_what_was_put_is_read_by_channels_and_by_stretches(n_channels, n_samples, blocks):
    expected = np.zeros((n_channels, n_samples), np.float32)
    with (
        ChannelRows(n_channels, n_samples, in_memory_bytes=2**20) as memory,
        ChannelRows(n_channels, n_samples, in_memory_bytes=0) as file,
    ):
        for number, (first, start, rows, length) in enumerate(blocks, 1):
            block = expected[first : first + rows, start : start + length].copy()
            block[:] = number + np.arange(block.size).reshape(block.shape) / 64
            if not block.size:
                continue
            expected[first : first + rows, start : start + length] = block
            memory.put(first, start, block)
            file.put(first, start, block)
        for table in (memory, file):
            assert table.shape == expected.shape
            assert np.array_equal(list(table), expected)
            assert np.array_equal(table.rows(0, n_channels), expected)
            assert np.array_equal(table.columns(n_samples // 3, n_samples), expected[:, n_samples // 3 :])


def test_a_file_is_gone_when_done(tmp_path):
    with ChannelRows(2, 100, in_memory_bytes=0, folder=tmp_path) as table:
        table.put(0, 0, np.ones((2, 100), np.float32))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        table.rows(0, 1)
