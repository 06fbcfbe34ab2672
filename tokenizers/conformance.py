"""Try a tokenizer on one signal, and refuse results that the verbs could not use.

Training and tokenizing call it for every tokenizer before they write anything; the tests of a package can call it too.

Shape letters: B batch, S latent sources, T latent steps, D features, Q quantizer levels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from emeg.errors import UserError
from emeg.plugins import blaming, name_plugin
from emeg.tokenizers.braintokenizer.layers import N_POSITION
from emeg.tokenizers.braintokenizer.precision import exact_float32
from emeg.tokenizers.interface import TokenizerModule
from emeg.tokenizers.sizes import TokenizerSizes

MOST_CODES = 65_536
"""Codes that 16 bits can store."""
TRIAL_WINDOWS = 2
"""Windows of the signal that are tried; more tell nothing new."""


def check_tokenizer(tokenizer: TokenizerModule, x: Tensor, pos: Tensor, sensor_type: Tensor) -> None:
    """Check that a tokenizer keeps to its interface, in evaluation mode; neither its state nor random draws change.

    Parameters
    ----------
    tokenizer : TokenizerModule
    x : float, shape (batch, channels, samples)
        Output of `normalise_signal`, dimensionless; its first two windows are tried.
    pos : float, shape (batch, channels, 6) or (batch, channels, 7)
        Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
    sensor_type : int, shape (batch, channels)
        Codes of `SensorType`.

    Raises
    ------
    UserError
        The message names the package, the method, and what it returned in place of what.
    """
    who, kind = name_plugin("tokenizer", tokenizer.kind), tokenizer.kind
    if tokenizer.learns and type(tokenizer).training_loss is TokenizerModule.training_loss:
        raise UserError(f"{who}: it has parameters to train but no loss; define training_loss, or freeze them")
    with blaming("tokenizer", kind, "sizes"):
        sizes = check_sizes(tokenizer.sizes, who=who)
    x = x[..., : TRIAL_WINDOWS * sizes.window_length]
    given = (x, pos, sensor_type)
    with_region = (x, torch.nn.functional.pad(pos[..., :N_POSITION], (0, 1)), sensor_type)
    n_sources = sizes.n_sources or x.shape[1]
    with in_evaluation(tokenizer), torch.no_grad(), exact_float32(x.device.type):
        shape_BST = (len(x), n_sources, tokenizer.steps_of(x.shape[-1]))
        with blaming("tokenizer", kind, "encode_latents"):
            latents_BSTD = tokenizer.encode_latents(*given, overlap=0.0, channel_mask=None, check_values=True)
        check_tensor(latents_BSTD, (*shape_BST, sizes.n_dim), who=f"{who}: encode_latents")
        with blaming("tokenizer", kind, "quantize"):
            codes_BSTQ = tokenizer.quantize(latents_BSTD)
        check_codes(codes_BSTQ, (*shape_BST, sizes.n_levels), sizes.n_codes, who=f"{who}: quantize")
        with blaming("tokenizer", kind, "features_from_codes"):
            features_BSTD = tokenizer.features_from_codes(codes_BSTQ)
        check_tensor(features_BSTD, (*shape_BST, sizes.n_dim), who=f"{who}: features_from_codes")
        with blaming("tokenizer", kind, "decode"):
            made, wanted = tokenizer.reconstruct(*given), tokenizer.targets(x)
        check_tensor(made, tuple(wanted.shape), who=f"{who}: reconstruct, which calls decode,")
        with blaming("tokenizer", kind, "tokenize"):
            again_BSTQ = tokenizer.tokenize(*given).codes
        with blaming("tokenizer", kind, "encode_latents with the regions of the sensors in a seventh column of pos"):
            tokenizer.encode_latents(*with_region)
    if not torch.equal(codes_BSTQ.long(), again_BSTQ.long()):
        raise UserError(
            f"{who}: the same signal has other codes at the second call; let encode_latents and quantize draw nothing"
            " in evaluation mode"
        )


def check_sizes(sizes: object, *, who: str) -> TokenizerSizes:
    """Return the sizes of a tokenizer if they can be used.

    Raises
    ------
    UserError
        They are no `TokenizerSizes`, or a number contradicts another.
    """
    if not isinstance(sizes, TokenizerSizes):
        raise UserError(f"{who}: sizes is a {type(sizes).__name__}; let it return emeg.tokenizers.sizes.TokenizerSizes")
    for name, value in sizes._asdict().items():
        if value is None and name == "n_sources":
            continue
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{who}: {name} of its sizes is {value!r}; set it to a whole number from 1")
    if sizes.n_codes > MOST_CODES:
        raise UserError(f"{who}: n_codes is {sizes.n_codes}, but codes are stored in 16 bits; set it to at most 65,536")
    if sizes.window_length % sizes.samples_per_step:
        raise UserError(
            f"{who}: samples_per_step {sizes.samples_per_step} does not divide window_length {sizes.window_length};"
            " set it to a divisor"
        )
    return sizes


def check_codes(codes_BSTQ: object, shape: tuple[int, ...] | None, n_codes: int, *, who: str) -> None:
    """Raise an error unless codes are integers from 0 to below `n_codes` in the given shape.

    Parameters
    ----------
    codes_BSTQ : int64, shape (batch, sources, steps, levels)
        Codes that a tokenizer returned.
    shape : tuple of int, optional
        Expected shape; not checked if omitted.
    n_codes : int
        Codes to choose from.
    who : str
        Beginning of the message.

    Raises
    ------
    UserError
        The message has the range or the type that was found.
    """
    if not isinstance(codes_BSTQ, Tensor) or codes_BSTQ.is_floating_point() or codes_BSTQ.dtype == torch.bool:
        found = codes_BSTQ.dtype if isinstance(codes_BSTQ, Tensor) else type(codes_BSTQ).__name__
        raise UserError(f"{who} returned {found}; let it return codes as int64")
    if shape is not None and tuple(codes_BSTQ.shape) != shape:
        raise UserError(f"{who} returned codes of shape {tuple(codes_BSTQ.shape)}; let it return shape {shape}")
    low, high = (int(value) for value in codes_BSTQ.aminmax())
    if low < 0 or high >= n_codes:
        raise UserError(f"{who} returned codes from {low} to {high}; let it return codes from 0 to {n_codes - 1}")


def check_tensor(value: object, shape: tuple[int | None, ...], *, who: str) -> None:
    """Raise an error unless a value is a float32 tensor of the given shape without NaN or infinity.

    Parameters
    ----------
    value : float32, any shape
        What a method of a plugin returned; dimensionless.
    shape : tuple of int or None
        Expected shape; None for a dimension of any size.
    who : str
        Beginning of the message.

    Raises
    ------
    UserError
        The message has the type, the shape or the values that were found.
    """
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"{who} returned {found}; let it return a tensor of float32")
    fits = len(value.shape) == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UserError(f"{who} returned shape {tuple(value.shape)}; let it return shape ({wanted})")
    if not bool(torch.isfinite(value).all()):
        raise UserError(f"{who} returned values that are not finite, for finite input; let it return finite values")


def loss_terms(losses: Any, *, who: str) -> dict[str, Tensor]:  # noqa: ANN401 - of a plugin
    """Return the terms of a tokenizer's loss by name, ``total`` first.

    Raises
    ------
    UserError
        They are no named tuple of scalar tensors that begins with a ``total`` that has a gradient.
    """
    fields = getattr(losses, "_fields", ())
    if not isinstance(losses, tuple) or not fields or fields[0] != "total":
        raise UserError(
            f"{who}: training_loss returned a {type(losses).__name__}; let it return a named tuple with total as first"
            " field"
        )
    terms = dict(zip(fields, losses, strict=True))
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.ndim:
            raise UserError(f"{who}: {name} of its training_loss is no scalar tensor; let it return a scalar")
    if not terms["total"].requires_grad:
        raise UserError(f"{who}: total of its training_loss has no gradient; make it from the parameters")
    return terms


@contextmanager
def in_evaluation(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a block; restore each module's mode and the state of random draws."""
    modes = {module: module.training for module in network.modules()}
    with torch.random.fork_rng(devices=[]):
        network.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
