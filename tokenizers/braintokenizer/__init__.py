"""BrainTokenizer: windows of many sensors become a few latent sources in discrete codes, and signals again.

signal ──normalise_signal──▶ x ──SEANet, attention over sensors──▶ latents ──residual VQ──▶ codes, features
                                                       target ◀──losses──▶ reconstruction ◀──attention, SEANet──┘

After arXiv 2505.18185. Names are loaded when first used, so that importing this package imports no torch.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
