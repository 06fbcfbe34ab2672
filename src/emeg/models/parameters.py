"""Parameter groups of encoders for the optimiser, without the frozen tokenizer, and those of BrainOmni."""

from collections.abc import Callable, Sequence
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

    return groups_beside_tokenizer(
        model, [("plain", is_plain, learning_rate, 0.0), ("decayed", lambda _: True, learning_rate, weight_decay)]
    )


def groups_beside_tokenizer(
    model: nn.Module, rules: Sequence[tuple[str, Callable[[str], bool], float, float]]
) -> list[dict[str, Any]]:
    """Group the parameters of an encoder by the first rule that matches; those of its tokenizer are in no group.

    Parameters
    ----------
    model : Module
    rules : sequence of tuple
        Name of a group, whether a parameter of a name belongs to it, learning rate, and weight decay.
    """
    tokenizer = ("tokenizer", lambda name: name.startswith("tokenizer."), 0.0, 0.0)
    return [group for group in group_parameters(model, [tokenizer, *rules]) if group["name"] != "tokenizer"]
