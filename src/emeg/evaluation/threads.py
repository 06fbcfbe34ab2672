"""Limit the threads of numerical libraries inside a block."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: for small matrices on a busy machine, threads cost 50 times what they save."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
