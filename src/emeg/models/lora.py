"""Low-rank adaptation (LoRA): train small factors beside the frozen linear layers of a network.

Shape letters: D features.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RANK = 8
"""Rank of the factors."""
SCALE = 2.0
"""Factor of the low-rank product: alpha over rank, as in the reference implementation with alpha 16 and rank 8."""
DOWN, UP = "lora_down", "lora_up"


class LoraLinear(nn.Linear):
    """Linear layer with a trained low-rank addition to its frozen weight.

    Its weight and bias keep their names in a state dict. The addition is 0 at first.

    Parameters
    ----------
    linear : torch.nn.Linear
        Layer whose weight and bias are used as they are.
    rank : int
        Rank of the addition.

    References
    ----------
    Hu et al., arXiv 2106.09685, section 4.1.
    """

    def __init__(self, linear: nn.Linear, rank: int = RANK) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        rank = min(rank, linear.in_features, linear.out_features)
        self.lora_down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer and its addition.

        Parameters
        ----------
        input : float, shape (..., input features)
            Dimensionless features.

        Returns
        -------
        float, shape (..., output features)
        """
        added = F.linear(F.linear(input, self.lora_down), self.lora_up)
        return F.linear(input, self.weight, self.bias) + SCALE * added

    def merged(self) -> nn.Linear:
        """Return a linear layer whose weight contains the addition."""
        merged = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        with torch.no_grad():
            merged.weight = nn.Parameter(self.weight + SCALE * self.lora_up @ self.lora_down)
        merged.bias = self.bias
        return merged


def add_lora(network: nn.Module, within: nn.Module | None = None, *, rank: int = RANK) -> list[nn.Parameter]:
    """Freeze a network and add factors to its linear layers; return the factors.

    Parameters
    ----------
    network : torch.nn.Module
        All of its parameters are frozen.
    within : torch.nn.Module, optional
        Part of the network whose linear layers are adapted; by default all of it.
    rank : int
        Rank of the factors.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    factors = []
    for owner, name, linear in list(_linear_layers(within or network)):
        adapted = LoraLinear(linear, rank)
        setattr(owner, name, adapted)
        factors += [adapted.lora_down, adapted.lora_up]
    return factors


def merge_lora(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without factors: each weight contains the addition of its factors.

    Parameters
    ----------
    state : dict of str to float tensor, any shape
        State dict of a network after `add_lora`; weights without unit.
    """
    merged = {name: value for name, value in state.items() if name.rpartition(".")[2] not in (DOWN, UP)}
    for name in state:
        owner, _, last = name.rpartition(".")
        if last == UP:
            merged[f"{owner}.weight"] = state[f"{owner}.weight"] + SCALE * state[name] @ state[f"{owner}.{DOWN}"]
    return merged


def _linear_layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Yield each linear layer that has no factors yet, with its owner and its name there."""
    for owner in network.modules():
        for name, child in owner.named_children():
            if type(child) is nn.Linear:
                yield owner, name, child
