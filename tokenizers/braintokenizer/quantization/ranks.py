"""Communication between ranks about codebooks. With a single rank all functions return at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

CHECK_EVERY = 50
"""With the NCCL backend, counts are compared every 50 calls only, because each comparison synchronises the device."""

_calls = 0


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def check_alike(counts: Sequence[int], what: str) -> None:
    """Raise where ranks hold different counts, which would make the exchanges that follow block for ever.

    Parameters
    ----------
    counts : sequence of int
        Counts of this rank.
    what : str
        What is counted, for the message.

    Raises
    ------
    RuntimeError
        Ranks have different counts.
    """
    global _calls
    if not _several():
        return
    by_device = distributed.get_backend() == "nccl"
    _calls += 1
    if by_device and _calls % CHECK_EVERY != 1:
        return
    device = torch.device("cuda", torch.cuda.current_device()) if by_device else torch.device("cpu")
    mine = torch.tensor(list(counts), dtype=torch.int64, device=device)
    gathered = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, mine)
    by_rank = [counts_of_rank.tolist() for counts_of_rank in gathered]
    if any(counts_of_rank != by_rank[0] for counts_of_rank in by_rank):
        raise RuntimeError(
            f"{what}: ranks 0 to {len(by_rank) - 1} have {by_rank}, but the counts must be equal."
            " Give every rank the same number of micro-batches in a step."
        )


def add_up(tensor: Tensor) -> None:
    """Sum over the ranks, in place.

    Parameters
    ----------
    tensor : int or float, any shape
        Any unit, or dimensionless.
    """
    if _several():
        distributed.all_reduce(tensor)


def broadcast(tensor: Tensor) -> None:
    """Copy the values of rank 0 to all ranks, in place.

    Parameters
    ----------
    tensor : int or float, any shape
        Any unit, or dimensionless.
    """
    if _several():
        distributed.broadcast(tensor, src=0)
