"""BrainTokenizer: encode windows of many sensors as discrete codes of a few latent sources, and decode them.

signal ──normalise_signal──▶ x ──SEANet, attention over sensors──▶ latents ──residual VQ──▶ codes, features
                                                       target ◀──losses──▶ reconstruction ◀──attention, SEANet──┘

After arXiv 2505.18185. Names load on first use; importing this package does not import torch.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
