"""Learned tokens of single samples: each code is a short waveform, and the signal is the sum of those of all samples.

Importing this package does not import torch.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
