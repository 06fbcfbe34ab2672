"""Parameter groups for the optimiser: which parameters decay, and which have a learning rate of their own."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, *, learning_rate: float, quantizer_learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Group a tokenizer's parameters for ``torch.optim.AdamW``.

    Parameters
    ----------
    model : Module
    learning_rate : float
        Learning rate of everything but the quantizer.
    quantizer_learning_rate : float
        Learning rate of the quantizer's projections, if there are any: codebooks follow running means.
    weight_decay : float
        Weight decay of everything but norms, the sensor-type embedding and the quantizer.

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
            ("quantizer", lambda name: name.startswith(quantizer), quantizer_learning_rate, 0.0),
            ("plain", is_plain, learning_rate, 0.0),
            ("decayed", lambda _: True, learning_rate, weight_decay),
        ],
    )


def group_parameters(
    model: nn.Module, rules: Iterable[tuple[str, Callable[[str], bool], float, float]]
) -> list[dict[str, Any]]:
    """Assign every learning parameter to the first rule (name, test, learning rate, weight decay) that takes it."""
    rules = list(rules)
    members: list[list[nn.Parameter]] = [[] for _ in rules]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            index = next(index for index, (_, takes, _, _) in enumerate(rules) if takes(name))
            members[index].append(parameter)
    return [
        {"name": name, "params": parameters, "lr": learning_rate, "weight_decay": weight_decay}
        for (name, _, learning_rate, weight_decay), parameters in zip(rules, members, strict=True)
        if parameters
    ]
