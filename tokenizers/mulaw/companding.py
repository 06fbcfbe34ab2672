"""One code for each sample of each channel.

Shape letters: B batch, C channels, N samples, S latent sources, T latent steps, D features, Q quantizer levels.
"""

from math import log, log1p

import torch
from torch import Tensor
from typing_extensions import override

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer.windows import to_whole_windows
from emeg.tokenizers.interface import TokenizerModule, TokenizerSizes
from emeg.tokenizers.mulaw.config import MuLawConfig


class MuLaw(TokenizerModule):
    """Compress amplitudes logarithmically and round them to codes (ITU-T G.711; for MEG, arXiv 2602.16626).

    Each channel is a source, each sample a latent step. Decoding returns the centre of a code's interval, so that the
    compressed amplitude is right to half an interval unless it was clipped. Latents are compressed amplitudes from −1
    to 1, with 0 in padded channels. There are no windows to overlap: an overlap other than 0 is refused. Positions,
    sensor types and generators are not used.

    Parameters
    ----------
    config : MuLawConfig
    """

    kind = "mulaw"
    config: MuLawConfig

    @property
    @override
    def sizes(self) -> TokenizerSizes:
        return self.config.sizes

    @override
    def encode_latents(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        overlap: float = 0.0,
        channel_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        check_values: bool = True,
    ) -> Tensor:
        if overlap != 0:
            raise UserError(f"overlap: is {overlap}, but µ-law tokens have no windows to overlap; pass --overlap 0")
        x = to_whole_windows(x, self.config.window_length, channel_mask)
        unit = (x / self.config.limit).clamp(-1.0, 1.0)
        return (unit.sign() * torch.log1p(self.config.mu * unit.abs()) / log1p(self.config.mu))[..., None]

    @override
    def quantize(self, latents: Tensor) -> Tensor:
        n_codes = self.config.n_codes
        return ((latents + 1) * (n_codes / 2)).floor().long().clamp(0, n_codes - 1)

    @override
    def features_from_codes(self, codes: Tensor) -> Tensor:
        return (codes.float() + 0.5) * (2 / self.config.n_codes) - 1

    @override
    def decode(
        self,
        codes: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        overlap: float = 0.0,
    ) -> Tensor:
        made = self._expand(self.features_from_codes(codes)[..., 0])
        return made if channel_mask is None else made.masked_fill(~channel_mask[..., None], 0.0)

    @override
    def code_edges(self) -> Tensor:
        """Return the edges of the intervals of all codes: float32, shape (codes + 1,), −∞ first and ∞ last."""
        edges = self._expand(torch.linspace(-1.0, 1.0, self.config.n_codes + 1))
        edges[0], edges[-1] = -torch.inf, torch.inf
        return edges

    def _expand(self, compressed: Tensor) -> Tensor:
        """Return the amplitudes of compressed ones."""
        expanded = torch.expm1(compressed.abs() * log(1 + self.config.mu)) / self.config.mu
        return compressed.sign() * expanded * self.config.limit
