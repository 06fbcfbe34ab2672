"""Try an encoder and its objective on tokens, and refuse results that the verbs could not use.

Pretraining calls it for every encoder before its first step; the tests of a package can call it too.

Shape letters: B batch, S latent sources, T latent steps, D features, Q quantizer levels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emeg import metrics
from emeg.errors import UserError
from emeg.models.encoder_module import EncoderModule
from emeg.models.interface import PretrainingLosses, Sources
from emeg.plugins import Role, blaming, name_plugin
from emeg.tokenizers.conformance import check_tensor, in_evaluation
from emeg.tokenizers.interface import Tokens


def check_encoder(encoder: EncoderModule, tokens: Tokens, sources: Sources | None = None) -> None:
    """Check that an encoder keeps to its interface, in evaluation mode; neither its state nor random draws change.

    Parameters
    ----------
    encoder : EncoderModule
    tokens : Tokens
        Codes and features of its tokenizer.
    sources : Sources, optional
        Sensors, if each channel is a source.

    Raises
    ------
    UserError
        The message names the package, the method, and what it returned in place of what.
    """
    who, kind = name_plugin("encoder", encoder.kind), encoder.kind
    for name, least in (("n_features", 1), ("depth", 0)):
        with blaming("encoder", kind, name):
            value = getattr(encoder, name)
        if not isinstance(value, int) or value < least:
            raise UserError(f"{who}: {name} is {value!r}; let it return a whole number from {least}")
    shape = (len(tokens.codes), encoder.n_sources, None, encoder.n_features)
    layers = (0, encoder.depth)
    with in_evaluation(encoder), torch.no_grad():
        with blaming("encoder", kind, "embed_latents"):
            embedded = encoder.embed_tokens(tokens, sources)
        check_tensor(embedded, shape, who=f"{who}: embed_latents")
        with blaming("encoder", kind, f"embed_latents with layers={layers}"):
            stacked = encoder.embed_tokens(tokens, sources, layers=layers)
        check_tensor(stacked, (len(layers), *shape), who=f"{who}: embed_latents with layers={layers}")


def check_objective(name: str, encoder: EncoderModule, tokens: Tokens, sources: Sources | None = None) -> None:
    """Check that the objective of an encoder returns a loss that can be minimised, and names its metrics.

    The encoder is in evaluation mode; neither its state nor random draws change.

    Parameters
    ----------
    name : str
        Name of the objective's entry point.
    encoder : EncoderModule
        With an objective.
    tokens : Tokens
        Codes and features of its tokenizer.
    sources : Sources, optional
        Sensors, if each channel is a source.

    Raises
    ------
    UserError
        The message names the package, the method, and what it returned in place of what.
    """
    objective = encoder.objective
    if objective is None:
        raise UserError(f"encoder {encoder.kind!r} has no objective; set its attribute objective first")
    role: Role = "objective"
    who = name_plugin(role, name)
    with blaming(role, name, "metric_names"):
        names = objective.metric_names(encoder)
    _check_names(names, who)
    generator = torch.Generator(tokens.features.device).manual_seed(0)
    with in_evaluation(encoder), torch.enable_grad(), blaming(role, name, "loss"):
        losses = objective.loss(encoder, tokens.features, tokens.codes, generator=generator, sources=sources)
    _check_losses(losses, names, learns=any(p.requires_grad for p in encoder.parameters()), who=who)


def _check_names(names: Any, who: str) -> None:  # noqa: ANN401 - of a plugin
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_list or not names or names[0] != metrics.LOSS or len(set(names)) < len(names):
        raise UserError(
            f"{who}: metric_names returned {names!r}; let it return a tuple of different names, the first of them"
            f" {metrics.LOSS!r}"
        )


def _check_losses(losses: Any, names: Sequence[str], *, learns: bool, who: str) -> None:  # noqa: ANN401 - of a plugin
    """Check what `loss` returned."""
    if not isinstance(losses, PretrainingLosses):
        raise UserError(f"{who}: loss returned a {type(losses).__name__}; let it return emeg.models.PretrainingLosses")
    for field, value in {"total": losses.total, **losses.figures}.items():
        if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"{who}: {field} of its loss is {found}; let it return a scalar tensor of floats")
    if learns and not losses.total.requires_grad:
        raise UserError(f"{who}: total of its loss has no gradient; make it from the output of the encoder")
    if not bool(torch.isfinite(losses.total)):
        raise UserError(
            f"{who}: total of its loss is {losses.total.item()} for finite features; let it return a finite loss"
        )
    if unknown := [field for field in losses.figures if field not in names]:
        raise UserError(f"{who}: loss returned the metrics {', '.join(unknown)}; name them in metric_names too")
