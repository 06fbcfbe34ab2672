import numpy as np

from emeg.evaluation.rivals.row_cache import RowCache


def test_a_window_is_described_once_whatever_the_fold_and_order():
    cache, calls = RowCache(), []

    def compute(windows):
        calls.append(len(windows))
        return windows.mean(axis=2)

    windows = np.random.default_rng(0).normal(size=(6, 2, 5))
    first = cache.features("mean", windows[:4], compute)
    again = cache.features("mean", windows[::-1], compute)
    assert calls == [4, 2]
    assert np.array_equal(again[::-1], windows.mean(axis=2))
    assert np.array_equal(first, again[::-1][:4])
    assert np.array_equal(cache.features("half", windows, lambda x: x.mean(axis=2) / 2), windows.mean(axis=2) / 2)


def test_the_oldest_features_are_dropped_when_memory_is_used_up():
    cache, calls = RowCache(most_bytes=3 * 16), []

    def compute(windows):
        calls.append(len(windows))
        return windows.mean(axis=2)

    windows = np.random.default_rng(0).normal(size=(5, 2, 5))
    assert np.array_equal(cache.features("mean", windows, compute), windows.mean(axis=2))
    cache.features("mean", windows[2:], compute)
    cache.features("mean", windows[:2], compute)
    assert calls == [5, 2]
