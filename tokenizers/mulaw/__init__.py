"""µ-law tokens: one code for each sample of each channel, on a logarithmic scale; nothing is trained.

Importing this package does not import torch.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
