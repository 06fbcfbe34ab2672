"""Draw the codes that follow a prompt, one token after the other.

prompt ──network, cache of keys and values──▶ logits of the next token ──draw──▶ code ──▶ … ──▶ continuation

A network that widens a linear prediction reads how large its last draws were. In a continuation small draws narrow the
next ones, and so on. `hold_scale` breaks this loop.

Shape letters: B batch, S latent sources, T latent steps, Q quantizer levels.
"""

import torch
from torch import Tensor

from emeg.models.causal.blocks import KeyValueCache
from emeg.models.causal.drawing import Draws, mixing
from emeg.models.causal.linear import LinearState, ScaleChange
from emeg.models.causal.network import CausalNetwork
from emeg.models.interface import Sources


@torch.no_grad()
def continue_codes(
    network: CausalNetwork,
    codes: Tensor,
    n_steps: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_p: float = 1.0,
    sources: Sources | None = None,
    hold_scale: bool = False,
) -> Tensor:
    """Draw the codes of further latent steps, one token after the other.

    Whenever the context is full, its later half is read again as the prompt of the next tokens.

    Parameters
    ----------
    network : CausalNetwork
    codes : int64, shape (batch, sources, steps, levels)
        Codes of the prompt. All sources are there.
    n_steps : int
        Latent steps to draw.
    generator : torch.Generator
        Source of the draws, on the CPU.
    temperature : float
        Divides the logits; 0 takes the most likely code.
    top_p : float
        Draw from the most likely codes whose probabilities together reach this value.
    sources : Sources, optional
        Sensors, if each channel is a source.
    hold_scale : bool
        Hold the scale of each source, and the tail of its distribution, at their average over the prompt. Without
        effect on a network without a linear prediction of samples.

    Returns
    -------
    int64, shape (batch, sources, n_steps, levels)
    """
    n_prompt, limit = codes.shape[2], network.context_steps(codes.shape[1])
    draws = Draws(generator, temperature, top_p)
    linear = None if network.linear is None else LinearState(network.linear, codes)
    if linear is not None and not network.config.across_sources:
        draws = draws._replace(mixing=mixing(linear.innovations))
    held = average_scale_change(network, codes, sources) if hold_scale and linear is not None else None
    grown = codes
    while grown.shape[2] < n_prompt + n_steps:
        start = max(0, grown.shape[2] - limit // 2)
        n_new = min(limit - (grown.shape[2] - start), n_prompt + n_steps - grown.shape[2])
        new = _continue_part(network, grown, start, n_new, sources, linear, held, draws)
        grown = torch.cat([grown, new], dim=2)
    return grown[:, :, n_prompt:]


@torch.no_grad()
def average_scale_change(network: CausalNetwork, codes: Tensor, sources: Sources | None) -> ScaleChange:
    """Return the change of the scale, its root mean square, and of the tail, its mean, over a prompt.

    Parameters
    ----------
    network : CausalNetwork
        With a linear prediction of samples.
    codes : int64, shape (batch, sources, steps, levels)
        Codes of the prompt. All sources are there.
    sources : Sources, optional
        Sensors, if each channel is a source.

    Returns
    -------
    ScaleChange
        Of shape (sequences, sources of a sequence).
    """
    linear, length = network.predict_linearly(codes), network.context_steps(codes.shape[1])
    in_step = codes.shape[1] if network.config.across_sources else 1
    starts = range(0, codes.shape[2], length)
    found = []
    for start in starts[1:] or starts:  # the linear prediction of the first part knows little of the channel
        sequence, identity = network.sequence_of(codes[:, :, start : start + length], sources)
        predicted = None if linear is None else network.in_order(linear.cut(start, start + length), sequence)
        hidden = network.run(network.inputs_of(sequence, identity, predicted, None), network.angles_of(sequence))
        found.append(network.scale_change(hidden))
    widening = torch.cat([torch.unflatten(one.widening, 1, (-1, in_step)) for one in found], dim=1)
    tails = [torch.unflatten(one.tail, 1, (-1, in_step)) for one in found if one.tail is not None]
    root_mean_square = 0.5 * (2 * widening).exp().mean(dim=1).log()
    return ScaleChange(root_mean_square, torch.cat(tails, dim=1).mean(dim=1) if tails else None)


def _continue_part(
    network: CausalNetwork,
    grown: Tensor,
    start: int,
    n_new: int,
    sources: Sources | None,
    linear: LinearState | None,
    held: ScaleChange | None,
    draws: Draws,
) -> Tensor:
    """Draw `n_new` steps after all codes, of which the network reads those from `start` on."""
    codes = grown[:, :, start:]
    batch, n_sources, n_before, n_levels = codes.shape
    blank = torch.cat([codes, codes.new_zeros(batch, n_sources, n_new, n_levels)], dim=2)
    sequence, identity = network.sequence_of(blank, sources)
    in_step = n_sources if network.config.across_sources else 1
    of_step = n_levels * in_step
    first, total = n_before * of_step, sequence.codes.shape[1]
    caches = [KeyValueCache(total) for _ in network.blocks]
    angles, filled = network.angles_of(sequence), sequence.codes.clone()
    predicted = None if linear is None else linear.of_prompt(grown, start, in_step)
    paired = network.pairs_of(filled, sequence, n_sources, slice(0, first + 1))
    prompt = network.inputs_of(sequence.cut(0, first + 1), identity[:, : first + 1], predicted, paired)
    hidden = network.run(prompt, angles[:, : first + 1], caches=caches)[:, -1:]
    for index in range(first, total):
        here = None if linear is None else linear.predict(index % in_step, in_step)
        paired = network.pairs_of(filled, sequence, n_sources, slice(index, index + 1))
        change = None if held is None else held.of_source(index % in_step)
        drawn = draws.draw(network.logits_of(hidden, here, paired, change)[:, 0])
        filled[:, index] = drawn
        if linear is not None:
            linear.add(drawn, index % in_step, in_step)
        if index + 1 < total:
            following = None if linear is None else linear.predict((index + 1) % in_step, in_step)
            paired = network.pairs_of(filled, sequence, n_sources, slice(index + 1, index + 2))
            token = network.next_input(drawn, sequence.level[:, index], identity[:, index + 1], following, paired)
            hidden = network.run(token, angles[:, index + 1 : index + 2], caches=caches)
    grid = filled[:, first:]
    if network.config.across_sources:
        return torch.unflatten(grid, 1, (n_new, n_sources, n_levels)).transpose(1, 2)
    return torch.unflatten(torch.unflatten(grid, 1, (n_new, n_levels)), 0, (batch, n_sources))
