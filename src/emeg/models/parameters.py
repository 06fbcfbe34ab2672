"""Parameter groups of BrainOmni for the optimiser."""

from typing import Any

from torch import nn

from emeg.tokenizers.braintokenizer.parameters import group_parameters

PLAIN = ("predict_head", "projection", "mask_token", "source_token")


def parameter_groups(model: nn.Module, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Group the transformer's parameters for ``torch.optim.AdamW``; the frozen tokenizer's are in none.

    Norms, head, projection and mask token do not decay.

    Parameters
    ----------
    model : Module
    learning_rate : float
        Learning rate of all groups.
    weight_decay : float
        Weight decay of the blocks' linear layers.
    """

    def is_plain(name: str) -> bool:
        return name.startswith(PLAIN) or "_norm." in name

    groups = group_parameters(
        model,
        [
            ("tokenizer", lambda name: name.startswith("tokenizer."), learning_rate, 0.0),
            ("plain", is_plain, learning_rate, 0.0),
            ("decayed", lambda _: True, learning_rate, weight_decay),
        ],
    )
    return [group for group in groups if group["name"] != "tokenizer"]
