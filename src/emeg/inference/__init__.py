"""Use a trained model: embed recordings and epochs, or a stream while it arrives.

mne.Epochs, mne.io.Raw, arrays ──``signals``──▶ windows at the model's rate ──``Embedder``──▶ features for scikit-learn
packets ──``packets``──▶ samples in order ──``causal``──▶ causal filters, model's rate ──``OnlineEncoder``──▶ tokens
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
