"""Prediction of the next token.

Shape letters: B batch, S latent sources, T latent steps, Q quantizer levels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from emeg import metrics
from emeg.errors import UserError
from emeg.models.draws import PretrainingDraws
from emeg.models.interface import Objective, PretrainingLosses, Sources
from emeg.models.objectives.configs import NextTokenConfig


class NextTokenPrediction(Objective):
    """Predict every token from those before it, in a stretch of the segment that fits into the context.

    The loss is the mean cross-entropy of the tokens of real sources, nats. The features and masks that `loss` takes are
    not used.

    Parameters
    ----------
    config : NextTokenConfig
    """

    def __init__(self, config: NextTokenConfig) -> None:
        self.config = config

    @override
    def check(self, encoder: Any) -> None:
        missing = [
            name
            for name in ("logits", "context_steps", "predict_linearly", "continue_codes")
            if not hasattr(encoder, name)
        ]
        if missing:
            raise UserError(
                f"objective 'next_token': encoder {encoder.kind!r} has no {' and no '.join(missing)};"
                " choose the encoder 'causal', or no objective"
            )

    @override
    def metric_names(self, encoder: Any) -> tuple[str, ...]:
        return (metrics.LOSS, metrics.ACCURACY, *(metrics.level_accuracy(n) for n in range(encoder.n_levels)))

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
        del features, draws
        codes = codes.long()
        linear = encoder.predict_linearly(codes)
        starts, n_steps = self._starts(codes, encoder.context_steps(codes.shape[1]), generator)
        if linear is not None:
            linear = type(linear)(*(_crop(part, starts, n_steps) for part in linear))
        codes = _crop(codes, starts, n_steps)
        inputs = self._corrupt(codes, encoder.tokenizer.sizes.n_codes, generator) if encoder.training else codes
        dropout = generator if codes.device.type == "cpu" else None
        logits, sequence = encoder.logits(codes, sources, inputs=inputs, linear=linear, generator=dropout)
        lost = F.cross_entropy(logits.float().flatten(0, 1), sequence.codes.flatten(), reduction="none")
        valid = sequence.valid.flatten().to(lost)
        total = (lost * valid).sum() / valid.sum()
        with torch.no_grad():
            right = (logits.argmax(dim=-1) == sequence.codes).flatten() * valid
            figures = {metrics.ACCURACY: right.sum() / valid.sum()}
            for level in range(encoder.n_levels):
                own = (sequence.level.flatten() == level) * valid
                figures[metrics.level_accuracy(level)] = (right * own).sum() / own.sum().clamp(min=1)
        return PretrainingLosses(total, figures)

    def _starts(self, codes: Tensor, n_steps: int, generator: torch.Generator | None) -> tuple[list[int], int]:
        """Draw where each sample's stretch begins; return its length too."""
        spare = codes.shape[2] - n_steps
        if spare <= 0:
            return [0] * len(codes), codes.shape[2]
        origin = codes.device if generator is None else generator.device
        return torch.randint(spare + 1, (len(codes),), generator=generator, device=origin).tolist(), n_steps

    def _corrupt(self, codes: Tensor, n_codes: int, generator: torch.Generator | None) -> Tensor:
        """Replace the codes of a share of the latent steps by random ones."""
        if self.config.corruption == 0:
            return codes
        origin = codes.device if generator is None else generator.device
        shape = (codes.shape[0], 1, codes.shape[2], 1)
        hit = torch.rand(shape, generator=generator, device=origin).to(codes.device) < self.config.corruption
        drawn = torch.randint(n_codes, codes.shape, generator=generator, device=origin).to(codes.device)
        return torch.where(hit, drawn, codes)


def _crop(values: Tensor, starts: list[int], n_steps: int) -> Tensor:
    """Cut a stretch out of each sample along the third dimension, that of steps."""
    return torch.stack([row[:, start : start + n_steps] for row, start in zip(values, starts, strict=True)])
