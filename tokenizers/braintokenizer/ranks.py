"""The few words that ranks exchange about codebooks; nothing happens where there is one rank only."""

from torch import Tensor, distributed


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def add_up(tensor: Tensor) -> None:
    """Sum over the ranks, in place."""
    if _several():
        distributed.all_reduce(tensor)


def broadcast(tensor: Tensor) -> None:
    """Take rank 0's values, in place."""
    if _several():
        distributed.broadcast(tensor, src=0)
