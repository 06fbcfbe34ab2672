"""Start values.

`release` starts as the published code does. There, of the first output (rms 0.055) only 4e-8 depends on the input:
biases of the convolutions drown the signal, and linear layers of standard deviation 0.02 make attention uniform.
`emeg` keeps the variance from layer to layer; a small model learns from it and not from the other.
"""

from math import sqrt
from typing import Literal

import torch
from torch import nn

from emeg.tokenizers.braintokenizer.seanet import Conv, TransposedConv

RELEASE_STD = 0.02
CONV_GAIN = 1.2

Scheme = Literal["emeg", "release"]


def initialise_linear(module: nn.Module, scheme: Scheme) -> None:
    """Give truncated normal weights and zero biases to every linear layer below; let embeddings start small."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            std = RELEASE_STD if scheme == "release" else 1 / sqrt(part.in_features)
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=RELEASE_STD)


def initialise_tokenizer(tokenizer: nn.Module, scheme: Scheme) -> None:
    """Give a tokenizer its start values; draws come from PyTorch's own generator, which the caller seeds."""
    initialise_linear(tokenizer, scheme)
    if scheme == "release":
        return
    with torch.no_grad():
        for part in tokenizer.modules():
            if isinstance(part, Conv):
                _start_conv(part.conv, part.conv.in_channels * part.conv.kernel_size[0])
            elif isinstance(part, TransposedConv):
                fan_in = part.convtr.in_channels * part.convtr.kernel_size[0] // part.convtr.stride[0]
                _start_conv(part.convtr, fan_in)
        # Quantised latents have length 1, not a mean square of 1: without this, attention starts uniform.
        key_value = tokenizer.get_submodule("decoder.forwardsolution.kv")
        if isinstance(key_value, nn.Linear):
            key_value.weight.mul_(sqrt(key_value.in_features))


def _start_conv(conv: nn.Conv1d | nn.ConvTranspose1d, fan_in: int) -> None:
    # Assigning a normed weight sets its direction to the value and its length to the value's norm.
    conv.weight = torch.randn_like(conv.weight) * (CONV_GAIN / sqrt(fan_in))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
