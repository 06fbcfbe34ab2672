"""Tokens of single samples whose codes are learned waveforms.

signal ──recurrent layer──▶ latents ──nearest kernel──▶ codes ──sum of shifted kernels──▶ signal

After EphysTokenizer (OHBA-analysis/EphysTokenizer, arXiv 2510.18080), with these differences: the latent of a sample is
a waveform, to which the nearest kernel is taken, so that features are kernels; latents and kernels start as those of a
scalar quantizer with the smallest squared error (Lloyd); the gradient passes the choice of a code.

Shape letters: B batch, C channels, N samples, W windows, L samples in a window, S latent sources, T latent steps,
D features, Q quantizer levels, K codes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer.windows import to_whole_windows
from emeg.tokenizers.interface import TokenizerModule, TokenizerSizes
from emeg.tokenizers.kernels.config import KernelsConfig

SAMPLES = 50_000
"""Training samples that the levels of the scalar quantizer are fitted to, which limits time."""
OUTERMOST = 0.0005
"""Share of samples beyond the outermost levels at the start of the fit, on each side."""


class KernelsLosses(NamedTuple):
    """Loss of one training step, scalars. Only `total` carries a gradient."""

    total: Tensor
    """Mean squared error, dimensionless."""
    explained: Tensor
    """Share of the variance that is explained, with the mixture of codes of this step."""


class Kernels(TokenizerModule):
    """Code each sample of a channel by the kernel that is to be added from this sample on.

    Each channel is a source, each sample a latent step. A code depends on the samples of its window up to its own, and
    changes the signal from its own sample on. In training a sample is a mixture of codes, which becomes a single code,
    and the loss is the squared error of the signal. There are no windows to overlap: an overlap other than 0 is
    refused. Positions, sensor types and generators are not used.

    Parameters
    ----------
    config : KernelsConfig
    """

    kind = "kernels"
    fitted = ("kernels",)
    config: KernelsConfig

    def __init__(self, config: KernelsConfig) -> None:
        super().__init__(config)
        self.recurrent = nn.GRU(1, config.width, batch_first=True)
        self.project = nn.Linear(config.width, config.kernel_length)
        nn.init.zeros_(self.project.weight)  # the latent of a sample starts as the sample itself
        nn.init.zeros_(self.project.bias)
        levels = torch.linspace(-3.0, 3.0, config.n_codes)
        self.kernels = nn.Parameter(nn.functional.pad(levels[:, None], (0, config.kernel_length - 1)))

    @property
    @override
    def sizes(self) -> TokenizerSizes:
        return self.config.sizes

    @override
    def prepare(self, segments: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        from sklearn.cluster import KMeans

        samples = torch.cat([x.flatten()[:: max(1, x.numel() // 4096)] for x, _, _ in segments]).double().numpy()
        samples = np.random.default_rng(0).permutation(samples)[:SAMPLES]
        n_codes = self.config.n_codes
        if len(samples) < n_codes:
            raise UserError(f"n_codes: is {n_codes}, but training segments have {len(samples)} samples; lower n_codes")
        spread = np.quantile(samples, (np.arange(n_codes) + 0.5) / n_codes)
        lowest, highest = np.quantile(samples, (OUTERMOST, 1 - OUTERMOST))
        even = np.linspace(lowest, highest, n_codes)
        start = 0.5 * (spread + even)  # quantiles alone leave no level for large amplitudes
        levels = np.sort(KMeans(n_codes, init=start[:, None], n_init=1).fit(samples[:, None]).cluster_centers_[:, 0])
        with torch.no_grad():
            self.kernels.zero_()
            self.kernels[:, 0] = torch.from_numpy(levels).to(self.kernels)

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
            raise UserError(
                f"overlap: is {overlap}, but tokens of single samples have no windows to overlap; pass --overlap 0"
            )
        x = to_whole_windows(x, self.config.window_length, channel_mask)
        windows = x.reshape(-1, self.config.window_length, 1)
        latents: Tensor = self.project(self.recurrent(windows)[0])
        first = nn.functional.pad(windows, (0, self.config.kernel_length - 1))
        return (latents + first).view(*x.shape, -1)

    @override
    def quantize(self, latents: Tensor) -> Tensor:
        return self._distances(latents).argmin(dim=-1, keepdim=True)

    @override
    def features_from_codes(self, codes: Tensor) -> Tensor:
        return self.kernels.detach()[codes[..., 0].long()]

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
        made = _add_shifted(self.features_from_codes(codes))
        return made if channel_mask is None else made.masked_fill(~channel_mask[..., None], 0.0)

    @override
    @torch.no_grad()
    def code_edges(self) -> Tensor | None:
        """Return the middles between the first samples of neighbouring kernels, if these are in ascending order.

        A kernel is nearly its first sample (99.98 % of its energy with 128 codes), so that this is the interval of the
        amplitude that the earlier kernels leave, not of the amplitude itself.

        Returns
        -------
        float32, shape (codes + 1,), or None
            Edges in the scale of `normalise_signal`, dimensionless; −∞ first and ∞ last. None if the order is another.
        """
        levels = self.kernels[:, 0]
        if not bool((levels.diff() > 0).all()):
            return None
        ends = levels.new_full((1,), torch.inf)
        return torch.cat([-ends, (levels[1:] + levels[:-1]) / 2, ends])

    @override
    def training_loss(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        loss_ramp: float = 1.0,
        follow: bool = True,
    ) -> KernelsLosses:
        # loss_ramp is the weight of the nearest kernel in a mixture of codes; the rest is shared by closeness
        del generator, follow
        latents = self.encode_latents(x, pos, sensor_type, 0.0, channel_mask)
        distances = self._distances(latents)
        soft = (-distances / self.config.temperature).softmax(dim=-1)
        hard = nn.functional.one_hot(distances.argmin(dim=-1), self.config.n_codes).to(soft)
        weights = soft + loss_ramp * (hard - soft).detach()
        made = _add_shifted(weights @ self.kernels)
        target = to_whole_windows(x, self.config.window_length)
        is_real = torch.ones_like(target[..., 0], dtype=torch.bool) if channel_mask is None else channel_mask
        error = (made - target)[is_real].square().mean()
        power = target[is_real].square().mean().clamp(min=torch.finfo(torch.float32).tiny)
        return KernelsLosses(error, (1 - error / power).detach())

    def _distances(self, latents: Tensor) -> Tensor:
        """Return squared distances of latents to all kernels, up to a number for each latent: (..., codes).

        Parameters
        ----------
        latents : float32, shape (..., kernel_length)
            Dimensionless.
        """
        return self.kernels.square().sum(dim=-1) - 2 * latents @ self.kernels.T


def _add_shifted(kernels: Tensor) -> Tensor:
    """Return the sum of kernels that begin at their samples: (..., samples) of (..., samples, kernel_length)."""
    n_samples, length = kernels.shape[-2:]
    parts = [nn.functional.pad(kernels[..., : n_samples - k, k], (k, 0)) for k in range(min(length, n_samples))]
    return torch.stack(parts).sum(dim=0)
