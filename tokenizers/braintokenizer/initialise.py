"""Initial values of the parameters.

`release` initialises as the published code does. There, only 4e-8 of the first output (rms 0.055) depends on the input:
the biases of the convolutions outweigh the signal, and linear layers of standard deviation 0.02 make attention uniform.
`emeg` preserves the variance from layer to layer. A small model learns from `emeg` and does not learn from `release`.
"""

from math import sqrt
from typing import Literal

import torch
from torch import nn

from emeg.tokenizers.braintokenizer.quantization.scalar import ScalarQuantizer
from emeg.tokenizers.braintokenizer.seanet import Conv, TransposedConv

RELEASE_STD = 0.02
CONV_GAIN = 1.2

Scheme = Literal["emeg", "release"]


def initialise_linear(module: nn.Module, scheme: Scheme) -> None:
    """Initialise every linear layer of a module with truncated normal weights and zero biases, and its embeddings."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            std = RELEASE_STD if scheme == "release" else 1 / sqrt(part.in_features)
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=RELEASE_STD)
            if part.padding_idx is not None:
                with torch.no_grad():
                    part.weight[part.padding_idx].zero_()


def initialise_tokenizer(tokenizer: nn.Module, scheme: Scheme) -> None:
    """Initialise a tokenizer; the draws come from PyTorch's default generator, which the caller seeds."""
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
        quantizer = tokenizer.get_submodule("quantizer")
        if isinstance(quantizer, ScalarQuantizer):
            # Features of codes should be as long as latents, whose length is 1, and not have a mean square of 1.
            quantizer.project_out.weight.div_(sqrt(quantizer.project_out.out_features))
        # Quantised latents have length 1, not a mean square of 1: without this factor, attention starts uniform.
        key_value = tokenizer.get_submodule("decoder.forwardsolution.kv")
        if isinstance(key_value, nn.Linear):
            key_value.weight.mul_(sqrt(key_value.in_features))


def _start_conv(conv: nn.Conv1d | nn.ConvTranspose1d, fan_in: int) -> None:
    # Assigning a weight-normed weight sets its direction to the value and its length to the norm of the value.
    conv.weight = torch.randn_like(conv.weight) * (CONV_GAIN / sqrt(fan_in))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
