"""Masked prediction: replace tokens by a mask token or another token, and predict their codes (arXiv 2505.18185).

Tokens that are the power of a window are predicted themselves, because they have no codes.

Shape letters: B batch, S latent sources, T latent steps, W windows, D features, Q quantizer levels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from emeg import metrics
from emeg.errors import UserError
from emeg.models.draws import PretrainingDraws, draw_pretraining_step
from emeg.models.interface import Objective, PretrainingLosses, Sources
from emeg.models.objectives.configs import MaskedConfig
from emeg.tokenizers.braintokenizer.checks import values_at_hand
from emeg.tokenizers.braintokenizer.layers import N_POSITION

NOT_COUNTED = -100
"""Marks codes that are not predicted."""
UNIFORM_STEPS = 2**24
"""Number of values that uniform random numbers in float32 have."""
MASK_TOKEN_SHARE = 0.8
"""Share of the masked tokens that become the mask token; the others take the features of another token."""


class MaskedPrediction(Objective):
    """Mask tokens and predict their codes.

    The encoder has ``mask_token`` (a parameter of n_dim features), ``hidden`` and ``predict_head``.

    Parameters
    ----------
    config : MaskedConfig
    """

    def __init__(self, config: MaskedConfig) -> None:
        self.config = config

    @override
    def check(self, encoder: Any) -> None:
        if self.config.mask_by == "region" and encoder.tokenizer.sizes.n_sources is not None:
            raise UserError(
                f"mask_by region: each token of tokenizer {encoder.tokenizer.kind} holds all sensors, so masking tokens"
                " hides no region; train the tokenizer with hidden_by region, or use one whose sources are channels"
            )
        missing = [name for name in ("mask_token", "hidden", "predict_head") if not hasattr(encoder, name)]
        if missing:
            raise UserError(
                f"objective 'masked': encoder {encoder.kind!r} has no {' and no '.join(missing)}; choose the objective"
                " that it is made for, or none"
            )

    @override
    def metric_names(self, encoder: Any) -> tuple[str, ...]:
        if _reads_windows(encoder):
            return (metrics.LOSS, metrics.EXPLAINED)
        levels = [metrics.level_accuracy(level) for level in range(encoder.n_levels)]
        by_overlap = (f"{metrics.ACCURACY}_overlapped", f"{metrics.ACCURACY}_other")
        return (metrics.LOSS, metrics.ACCURACY, *levels, *by_overlap)

    @override
    def loss(
        self,
        encoder: Any,
        features: Tensor,
        codes: Tensor,
        *,
        generator: torch.Generator | None = None,
        draws: PretrainingDraws | None = None,
        sources: Sources | None = None,
    ) -> PretrainingLosses:
        if codes.shape[:3] != features.shape[:3] or codes.shape[-1] < encoder.n_levels:
            raise UserError(
                f"codes: shape {tuple(codes.shape)} does not match features {tuple(features.shape)} and"
                f" num_quantizers_used {encoder.n_levels}. Pass codes and features of the same segments."
            )
        tokens = encoder.window_power(features) if _reads_windows(encoder) else features
        if draws is None:
            shape = (tokens.shape[0], tokens.shape[1], tokens.shape[2])
            draws = draw_pretraining_step(generator, shape=shape, device=features.device)
        ratio = encoder.config.mask_ratio if self.config.mask_ratio is None else self.config.mask_ratio
        drawn = generator if features.device.type == "cpu" else None
        if _reads_windows(encoder):
            return _score_power(encoder, tokens, draws.uniform_mask <= ratio, drawn)
        masked_BST = draws.uniform_mask <= ratio
        if sources is not None:
            masked_BST = masked_BST & sources.mask[..., None]  # absent channels are not predicted
        if self.config.mask_by == "region":
            masked_BST = _masked_regions(sources, draws.uniform_mask, ratio)
            draws = draws._replace(uniform_mask_token=torch.zeros_like(draws.uniform_mask_token))  # no other token
        given = {} if sources is None else {"sources": sources}  # encoders of latent sources know no sensors
        # not bound to a name, so that it is freed after the first layer
        hidden = encoder.hidden(
            mask_features(features, encoder.mask_token, masked_BST, draws), generator=drawn, **given
        )
        return _score(encoder, hidden, codes[..., : encoder.n_levels].long(), masked_BST)


def _masked_regions(sources: Sources | None, uniform_BST: Tensor, ratio: float) -> Tensor:
    """Return which tokens are masked: all steps of all sensors in drawn regions."""
    if sources is None or sources.pos.shape[-1] != N_POSITION + 1:
        raise UserError("mask_by region: positions have no regions; pass `positions_with_regions` of the sensors")
    by_region_BS = mask_regions(sources.pos[..., N_POSITION], sources.mask, uniform_BST[..., 0], ratio)
    is_possible_B11 = by_region_BS.any(dim=1)[:, None, None]
    by_token_BST = (uniform_BST <= ratio) & sources.mask[..., None]
    return torch.where(is_possible_B11, by_region_BS[..., None].expand_as(uniform_BST), by_token_BST)


def mask_regions(region_BS: Tensor, real_BS: Tensor, uniform_BS: Tensor, ratio: float) -> Tensor:
    """Draw the regions to mask and return their sensors.

    Each region is masked with a probability, at least one and never all. A sensor without a region is a region of its
    own. If a sample has one region only, none of its sensors is masked.

    Parameters
    ----------
    region_BS : float or int, shape (batch, sources)
        Index of each sensor's region; 0 unknown. No unit.
    real_BS : bool, shape (batch, sources)
        True for sensors that are there.
    uniform_BS : float32, shape (batch, sources)
        Uniform random numbers below 1, dimensionless. The fraction of the sum over a region's sensors, which is uniform
        too, decides: it does not depend on the order of the sensors.
    ratio : float
        Probability that a region is masked.

    Returns
    -------
    bool, shape (batch, sources)
    """
    own = -1 - torch.arange(region_BS.shape[1], device=region_BS.device)
    region_BS = torch.where(region_BS == 0, own, region_BS.long())
    same_BSS = (region_BS[:, :, None] == region_BS[:, None, :]) & real_BS[:, None, :]
    whole_BS = (uniform_BS * UNIFORM_STEPS).long()  # integers, because sums of floats depend on their order
    drawn_BS = (same_BSS * whole_BS[:, None, :]).sum(dim=2).remainder(UNIFORM_STEPS).to(uniform_BS) / UNIFORM_STEPS
    lowest_B1 = drawn_BS.masked_fill(~real_BS, 2.0).amin(dim=1, keepdim=True)
    highest_B1 = drawn_BS.masked_fill(~real_BS, -1.0).amax(dim=1, keepdim=True)
    masked_BS = (drawn_BS <= ratio) | (drawn_BS == lowest_B1)
    return masked_BS & (drawn_BS != highest_B1) & real_BS


def mask_features(features: Tensor, mask_token: Tensor, masked_BST: Tensor, draws: PretrainingDraws) -> Tensor:
    """Replace the features of masked tokens by the mask token, or by those of another token.

    Parameters
    ----------
    features : float32, shape (batch, sources, steps, n_dim)
        Dimensionless.
    mask_token : float32, shape (n_dim,)
        Dimensionless.
    masked_BST : bool, shape (batch, sources, steps)
        Tokens to replace.
    draws : PretrainingDraws
    """
    with_token_BST = draws.uniform_mask_token <= MASK_TOKEN_SHARE
    elsewhere = features.flatten(0, 2)[draws.shuffle].view_as(features)
    replaced = torch.where(with_token_BST[..., None], mask_token.to(features.dtype), elsewhere)
    return torch.where(masked_BST[..., None], replaced, features)


def _reads_windows(encoder: Any) -> bool:  # noqa: ANN401 - any encoder
    """Return whether the tokens of an encoder are the power of windows, which has no codes."""
    return getattr(encoder, "window_power", None) is not None


def _score_power(
    encoder: Any,  # noqa: ANN401 - any encoder
    tokens_BSWD: Tensor,
    masked_BSW: Tensor,
    generator: torch.Generator | None,
) -> PretrainingLosses:
    """Predict masked tokens of windows: mean squared error over them, in variances of training segments."""
    hidden = encoder.hidden_windows(tokens_BSWD, masked_BSW, generator=generator)
    errors_BSW = (encoder.predict_head(hidden).float() - tokens_BSWD).square().mean(dim=-1)
    weights_BSW = masked_BSW / masked_BSW.sum().clamp(min=1)
    total = (errors_BSW * weights_BSW).sum()
    with torch.no_grad():
        mean = (tokens_BSWD * weights_BSW[..., None]).sum(dim=(0, 1, 2))
        variance = ((tokens_BSWD - mean).square().mean(dim=-1) * weights_BSW).sum()
        figures = {metrics.EXPLAINED: 1.0 - total / variance.clamp(min=1e-9)}
    return PretrainingLosses(total, figures)


def _score(encoder: Any, hidden: Tensor, codes_BSTQ: Tensor, masked_BST: Tensor) -> PretrainingLosses:  # noqa: ANN401
    """Compute loss and metrics. The head runs on masked tokens, or on all where counting them would synchronise."""
    overlapped_BST = encoder.overlapped_steps(masked_BST.shape[-1], masked_BST.device).expand_as(masked_BST)
    if values_at_hand(hidden.device):
        hidden_masked, codes_masked, overlapped_masked = (
            hidden[masked_BST],
            codes_BSTQ[masked_BST],
            overlapped_BST[masked_BST],
        )
        counted = torch.ones_like(overlapped_masked)
    else:
        hidden_masked, codes_masked = hidden.flatten(0, 2), codes_BSTQ.flatten(0, 2)
        overlapped_masked, counted = overlapped_BST.flatten(), masked_BST.flatten()
    logits_masked = encoder.predict_head(hidden_masked).unflatten(-1, (codes_masked.shape[-1], -1)).float()
    wanted = codes_masked.masked_fill(~counted[:, None], NOT_COUNTED)
    total = F.cross_entropy(logits_masked.flatten(0, 1), wanted.flatten(), ignore_index=NOT_COUNTED)
    with torch.no_grad():
        steps = encoder.overlapped_steps(masked_BST.shape[-1]).tolist()  # on the CPU, which synchronises nothing
        both = any(steps) and not all(steps)
        figures = count_right(logits_masked.argmax(dim=-1) == wanted, counted, overlapped_masked, both=both)
    return PretrainingLosses(total, figures)


def count_right(right_masked: Tensor, counted: Tensor, overlapped_masked: Tensor, *, both: bool) -> dict[str, Tensor]:
    """Return the shares of correctly predicted codes.

    Parameters
    ----------
    right_masked : bool, shape (tokens, levels)
        Whether the code was predicted.
    counted, overlapped_masked : bool, shape (tokens,)
        Whether the token counts; whether a neighbouring window repeats its samples.
    both : bool
        Whether some steps are repeated and others are not.
    """
    right_masked, n = right_masked.float(), counted.sum()
    right_Q = right_masked.sum(dim=0) / n
    figures = {metrics.ACCURACY: right_Q.mean()}
    figures |= {metrics.level_accuracy(level): share for level, share in enumerate(right_Q.unbind())}
    if both:
        for name, chosen in (("overlapped", overlapped_masked), ("other", ~overlapped_masked)):
            right = (right_masked * chosen[:, None]).sum()
            n_chosen = (chosen & counted).sum() * right_masked.shape[1]
            figures[f"{metrics.ACCURACY}_{name}"] = right / n_chosen.clamp(min=1)
    return figures
