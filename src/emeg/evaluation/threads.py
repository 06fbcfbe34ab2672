"""Threads of the numerical libraries, bounded for as long as a block runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Give torch `n_threads` threads (0: as it is set) and put its setting back afterwards."""
    import torch

    before = torch.get_num_threads()
    if n_threads:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: its matrices are small here, and on a busy machine threads cost 50 times their gain."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
