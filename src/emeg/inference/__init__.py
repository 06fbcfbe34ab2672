"""What a trained model is used for: embeddings of recordings and epochs, and of a stream while it arrives.

mne.Epochs, mne.io.Raw, arrays ──``signals``──▶ windows at the model's rate ──``Embedder``──▶ features for scikit-learn
packets ──``packets``──▶ samples in order ──``causal``──▶ causal filters, model's rate ──``OnlineEncoder``──▶ tokens
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.inference.embedding import Embedder
    from emeg.inference.online import OnlineConfig, OnlineEncoder, TokenWindow

__all__ = ["Embedder", "OnlineConfig", "OnlineEncoder", "TokenWindow"]

_HOMES = {"Embedder": "embedding", "OnlineConfig": "online", "OnlineEncoder": "online", "TokenWindow": "online"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"emeg.inference.{_HOMES[name]}"), name)
