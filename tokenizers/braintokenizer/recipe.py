"""The published optimiser settings: which parameters decay, and which have a learning rate of their own."""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from emeg.config import Config


class AdamWRecipe(Config):
    """Settings of AdamW; defaults are the paper's for the tokenizer."""

    learning_rate: PositiveFloat = 2e-4
    """Of everything but the quantizer."""
    quantizer_learning_rate: PositiveFloat = 3e-4
    """Of the quantizer's projections, where there are any: codebooks follow running means."""
    betas: tuple[float, float] = (0.5, 0.9)
    """Decay of AdamW's running means."""
    eps: PositiveFloat = 1e-5
    """Added to AdamW's denominator."""
    weight_decay: NonNegativeFloat = Field(1e-2)
    """Of everything but norms, the sensor-type embedding and the quantizer."""


def parameter_groups(model: nn.Module, recipe: AdamWRecipe) -> list[dict[str, Any]]:
    """Group a tokenizer's parameters for ``torch.optim.AdamW``.

    Returns
    -------
    list of dict
        ``params``, ``lr``, ``weight_decay`` and, for logs, ``name``; empty groups are left out. Every parameter
        that learns is in exactly one group.
    """

    def is_plain(name: str) -> bool:
        return ".norm." in f".{name}" or "sensor_embedding_layer" in name

    quantizer = "quantizer."
    return group_parameters(
        model,
        [
            ("quantizer", lambda name: name.startswith(quantizer), recipe.quantizer_learning_rate, 0.0),
            ("plain", is_plain, recipe.learning_rate, 0.0),
            ("decayed", lambda _: True, recipe.learning_rate, recipe.weight_decay),
        ],
    )


def group_parameters(
    model: nn.Module, rules: Iterable[tuple[str, Callable[[str], bool], float, float]]
) -> list[dict[str, Any]]:
    """Give every learning parameter to the first rule (name, test, learning rate, weight decay) that takes it."""
    rules = list(rules)
    members: list[list[nn.Parameter]] = [[] for _ in rules]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            place = next(place for place, (_, takes, _, _) in enumerate(rules) if takes(name))
            members[place].append(parameter)
    return [
        {"name": name, "params": parameters, "lr": learning_rate, "weight_decay": weight_decay}
        for (name, _, learning_rate, weight_decay), parameters in zip(rules, members, strict=True)
        if parameters
    ]
