"""BrainTokenizer: windows of many sensors become a few latent sources in discrete codes, and signals again.

signal ──normalise_signal──▶ x ──SEANet, attention over sensors──▶ latents ──residual VQ──▶ codes, features
                                                       target ◀──losses──▶ reconstruction ◀──attention, SEANet──┘

After arXiv 2505.18185. Names are loaded when first used, so that importing this package imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from emeg.tokenizers.braintokenizer.config import PRESETS, BrainTokenizerConfig

if TYPE_CHECKING:
    from emeg.tokenizers.braintokenizer.draws import TokenizerDraws, draw_tokenizer_step
    from emeg.tokenizers.braintokenizer.losses import correlation, pcc, target
    from emeg.tokenizers.braintokenizer.model import BrainTokenizer, TokenizerLosses, Tokens
    from emeg.tokenizers.braintokenizer.normalise import normalise_signal
    from emeg.tokenizers.braintokenizer.quantizer import CodebookUse, codebook_use
    from emeg.tokenizers.braintokenizer.recipe import AdamWRecipe, parameter_groups

__all__ = [
    "PRESETS",
    "AdamWRecipe",
    "BrainTokenizer",
    "BrainTokenizerConfig",
    "CodebookUse",
    "TokenizerDraws",
    "TokenizerLosses",
    "Tokens",
    "codebook_use",
    "correlation",
    "draw_tokenizer_step",
    "normalise_signal",
    "parameter_groups",
    "pcc",
    "target",
]

_HOME = {
    "draws": ("TokenizerDraws", "draw_tokenizer_step"),
    "losses": ("correlation", "pcc", "target"),
    "model": ("BrainTokenizer", "TokenizerLosses", "Tokens"),
    "normalise": ("normalise_signal",),
    "quantizer": ("CodebookUse", "codebook_use"),
    "recipe": ("AdamWRecipe", "parameter_groups"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
