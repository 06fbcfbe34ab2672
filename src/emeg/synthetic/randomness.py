"""Random numbers keyed by what they are for, so that one draw more here changes nothing there."""

import numpy as np

from emeg.hashing import hash_json


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """Make the generator for one purpose, say ``generator(0, "sub-01", "blinks")``; equal arguments, equal draws."""
    return np.random.Generator(np.random.PCG64(int(hash_json([str(seed), *purpose]), 16)))
