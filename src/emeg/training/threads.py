"""How many CPU threads to compute with; loads PyTorch only when it is used."""

from collections.abc import Iterator
from contextlib import contextmanager

SMALL_NETWORK = 1_000_000
"""Parameters below which a network computes with one thread on a CPU.

The operations of such a network last about as long as it takes threads to meet: beside a process that kept one of two
cores busy, a tokenizer of the size `emeg-nano` took six times as long with two threads as on idle cores. Two ranks of
one thread each meet once a step (see ``processes``), and give the same model bit for bit as one rank.
"""


def n_threads(n_parameters: int, given: int) -> int:
    """Return the number of threads for a network: `given`; if that is 0, 1 for a small network, 0 (all) otherwise."""
    return given or int(n_parameters < SMALL_NETWORK)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Set the number of torch threads (0: unchanged) and restore it afterwards."""
    import torch

    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
