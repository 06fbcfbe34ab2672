"""Continue recordings with a network that predicts the next token, and judge the continuations.

held-out recordings ──prompts──▶ network, linear model ──continuations──▶ metrics, controls ──▶ evaluations/<name>/

Names load on first use; importing this package does not import torch.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
