"""The published optimiser settings of BrainOmni."""

from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat

from emeg.config import Config
from emeg.models.brainomni import BrainOmni
from emeg.tokenizers.braintokenizer.recipe import group_parameters


class PretrainRecipe(Config):
    """Settings of AdamW; defaults are the paper's for the tiny size (base: learning rate 4e-4)."""

    learning_rate: PositiveFloat = 5e-4
    """Of the transformer."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's running means."""
    eps: PositiveFloat = 1e-6
    """Added to AdamW's denominator."""
    weight_decay: NonNegativeFloat = 0.05
    """Of the blocks' linear layers."""


PLAIN = ("predict_head", "projection", "mask_token")


def parameter_groups(model: BrainOmni, recipe: PretrainRecipe) -> list[dict[str, Any]]:
    """Group the transformer's parameters for ``torch.optim.AdamW``; the frozen tokenizer's are in none.

    Norms, head, projection and mask token do not decay.
    """

    def is_plain(name: str) -> bool:
        return name.startswith(PLAIN) or "_norm." in name

    groups = group_parameters(
        model,
        [
            ("tokenizer", lambda name: name.startswith("tokenizer."), recipe.learning_rate, 0.0),
            ("plain", is_plain, recipe.learning_rate, 0.0),
            ("decayed", lambda _: True, recipe.learning_rate, recipe.weight_decay),
        ],
    )
    return [group for group in groups if group["name"] != "tokenizer"]
