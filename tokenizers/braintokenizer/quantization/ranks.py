"""Communication between ranks about codebooks. With a single rank all functions return at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

CHECK_EVERY = 50
"""With the NCCL backend, counts are compared every 50 calls only, because each comparison synchronises the device."""

_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}

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


def exchange(sums: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    """Sum tensors over the ranks and copy others from rank 0 to all ranks, in place, in one collective operation.

    Parameters
    ----------
    sums : sequence of int64, any shape
        Dimensionless counts or fixed-point sums.
    copies : sequence of float32 or float64, any shape
        Dimensionless features. Their bits travel as integers, to which the other ranks add zeros.
    """
    if not _several():
        return
    bits = [tensor.view(_BITS[tensor.dtype]) for tensor in copies]
    if distributed.get_rank() != 0:
        bits = [torch.zeros_like(tensor) for tensor in bits]
    packed = torch.cat([tensor.flatten() for tensor in sums] + [tensor.flatten().long() for tensor in bits])
    distributed.all_reduce(packed)
    parts = torch.split(packed, [tensor.numel() for tensor in (*sums, *copies)])
    for tensor, part in zip(sums, parts, strict=False):
        tensor.copy_(part.view_as(tensor))
    for tensor, part in zip(copies, parts[len(sums) :], strict=True):
        tensor.copy_(part.to(_BITS[tensor.dtype]).view(tensor.dtype).view_as(tensor))


def broadcast(tensor: Tensor) -> None:
    """Copy the values of rank 0 to all ranks, in place.

    Parameters
    ----------
    tensor : int or float, any shape
        Any unit, or dimensionless.
    """
    if _several():
        distributed.broadcast(tensor, src=0)
