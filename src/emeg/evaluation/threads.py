"""Limit the threads of numerical libraries inside a block."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Set the number of torch threads (0: unchanged) and restore it afterwards."""
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
    """Limit BLAS to one thread: for small matrices on a busy machine, threads cost 50 times what they save."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
