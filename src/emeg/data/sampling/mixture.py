"""Turn mixture weights into exact counts: how often an epoch shows each segment."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emeg.data.sampling.order import exact, permutation, round_half_up


class Part(NamedTuple):
    """Segments of one dataset, modality and channel count, and how many of them an epoch shows."""

    name: str
    rows: NDArray[np.int64]
    n_shown: int

    def items(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the segments of an epoch: whole passes, then a piece that advances from epoch to epoch.

        The pieces of successive epochs tile one permutation, so a weight of 0.25 shows each segment once in four
        epochs.
        """
        n = len(self.rows)
        passes, rest = divmod(self.n_shown, n)
        whole = np.tile(self.rows, passes)
        if not rest:
            return whole
        order = permutation(n, "weights", seed, self.name)
        piece = order[(epoch * rest + np.arange(rest)) % n]
        return np.concatenate([whole, self.rows[piece]])


def sort_into_parts(
    rows: NDArray[np.int64],
    channels: NDArray[np.int64],
    cells: Sequence[NDArray[Any]],
    weights: Mapping[str, float],
) -> dict[int, list[Part]]:
    """Sort segments by channel count, dataset and modality, with the number to show of each part.

    A segment's weight is the product of the weights of its cells (dataset, modality). Of n segments with the same
    cells, ⌊w · n + 1/2⌋ are shown, computed exactly from w as it was written. Channel counts share this number by
    rounding running sums, so that the parts add up to it.

    Parameters
    ----------
    rows : int64, shape (segments,)
        Row indices of the corpus.
    channels : int64, shape (segments,)
        Channel count of each segment, dimensionless.
    cells : sequence of str arrays, shape (segments,)
        Dataset and modality of each segment; no unit.
    weights : mapping
        Weight by dataset or modality; 1 where absent.
    """
    groups: dict[int, list[Part]] = {int(c): [] for c in np.unique(channels)}
    texts = np.array(["\x00".join(parts) for parts in zip(*(c.tolist() for c in cells), strict=True)])
    names, which = np.unique(texts, return_inverse=True)
    for number, name in enumerate(names.tolist()):
        mine = which == number
        weight = Fraction(1)
        for cell in name.split("\x00"):
            weight *= exact(weights.get(cell, 1.0))
        seen = given = 0
        for channel_count, parts in groups.items():
            members = rows[mine & (channels == channel_count)]
            if len(members):
                seen += len(members)
                count = round_half_up(weight * seen) - given
                given += count
                parts.append(Part(f"{channel_count} {name}", members, count))
    return groups
