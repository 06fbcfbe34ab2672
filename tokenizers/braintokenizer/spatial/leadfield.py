"""Learned leadfield: what latent sources give to sensors, and the sources estimated from any sensors.

A sensor measures G s plus noise. The leadfield G is linear in fixed functions of the sensors (`SensorHarmonics`), so
that any cap has one; sources s have variance 1. `InverseModel` estimates sources by their minimum norm and projects
each latent step of theirs to features; `ForwardModel` turns features into signals. Both start from the leadfield that
`fit_leadfield` finds in covariances of training segments, and learn on with the network.

The quantizer scales latents to length 1. The last feature is therefore 1 before that scaling: ratios to it hold the
amplitude.

Shape letters: B batch, C channels, W windows, L samples in a window, S latent sources, T latent steps, D features,
K functions of a sensor.
"""

from collections.abc import Sequence
from math import log, sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from emeg.tokenizers.braintokenizer.losses import at_least_float32

NOISE_FLOOR = 0.01
"""Smallest variance of the noise of a sensor, in variances of the equalised signal: that of the noise in training."""
INITIAL_NOISE = 0.1
SMALLEST_REFERENCE = 0.1
"""Smallest last feature that others are divided by; quantized latents may come close to 0."""
ITERATIONS = 200
MOST_LAYOUTS = 32
"""Layouts that a leadfield is fitted to; further ones cost time."""
SCALE_WEIGHT = 0.003
"""Weight of log² of the sources' variance in each layout, so that sources have about the same variance everywhere."""
RIDGE = 1e-5
"""Weight of the squared coefficients, for directions of the functions that no layout determines."""


class Layout(NamedTuple):
    """Sensors of some recordings and the covariance of their signals."""

    functions: Tensor
    """float, shape (channels, functions): `SensorHarmonics`."""
    covariance: Tensor
    """float64, shape (channels, channels), dimensionless."""
    sensor_type: Tensor
    """int64, shape (channels,): codes of `SensorType`."""


class LeadfieldFit(NamedTuple):
    """Result of `fit_leadfield`."""

    weight: Tensor
    """float32, shape (functions, sources)."""
    log_noise: Tensor
    """float32, shape (1,): logarithm of the variance of the noise above `NOISE_FLOOR`."""


def minimum_norm(gain: Tensor, noise: Tensor) -> Tensor:
    """Return the matrices that estimate sources of variance 1 from sensors: (GᵀG + λ)⁻¹ Gᵀ.

    Parameters
    ----------
    gain : float, shape (..., channels, sources)
        Leadfields, dimensionless; 0 for channels that are not visible.
    noise : float, shape (1,)
        Variance λ of the noise of a sensor, dimensionless, above 0.

    Returns
    -------
    float, shape (..., sources, channels)

    References
    ----------
    Hämäläinen and Ilmoniemi 1994, doi 10.1007/BF02512476.
    """
    turned = gain.transpose(-2, -1)
    gram = turned @ gain + noise * torch.eye(gain.shape[-1], dtype=gain.dtype, device=gain.device)
    # without its check of errors, which would wait for the device; gram is positive definite
    out: Tensor = torch.cholesky_solve(turned, torch.linalg.cholesky_ex(gram)[0])
    return out


def noise_variance(log_noise: Tensor) -> Tensor:
    """Return the variance of the noise of a sensor.

    Parameters
    ----------
    log_noise : float, shape (1,)
        Logarithm of the variance above `NOISE_FLOOR`, dimensionless.
    """
    return log_noise.exp() + NOISE_FLOOR


class InverseModel(nn.Module):
    """Estimate the latent sources from the visible sensors, and project each latent step of theirs to features."""

    def __init__(self, n_functions: int, n_sources: int, step: int, n_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_functions, n_sources) / sqrt(n_functions))
        self.log_noise = nn.Parameter(torch.full((1,), log(INITIAL_NOISE)))
        self.analysis = nn.Parameter(_orthonormal(n_dim - 1, step).T.contiguous())

    def forward(self, x_BCWL: Tensor, functions_BCK: Tensor, seen_BC: Tensor | None) -> Tensor:
        """Encode windows.

        Parameters
        ----------
        x_BCWL : float, shape (batch, channels, windows, samples)
            Normalised signal, dimensionless.
        functions_BCK : float, shape (batch, channels, functions)
            `SensorHarmonics`, dimensionless.
        seen_BC : bool, shape (batch, channels), optional
            True for visible channels. None: all.

        Returns
        -------
        float, shape (batch, sources, windows, steps of a window, n_dim)
        """
        with torch.autocast(x_BCWL.device.type, enabled=False):
            weight, analysis = at_least_float32(self.weight), at_least_float32(self.analysis)
            gain_BCS = functions_BCK.to(weight.dtype) @ weight
            if seen_BC is not None:
                gain_BCS = gain_BCS * seen_BC[..., None]
            inverse_BSC = minimum_norm(gain_BCS, noise_variance(at_least_float32(self.log_noise)))
            source_BSWL = torch.einsum("bsc,bcwl->bswl", inverse_BSC, x_BCWL.to(weight.dtype))
            step = len(analysis)
            features = torch.unflatten(source_BSWL, -1, (-1, step)) @ analysis / sqrt(step)
            return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


class ForwardModel(nn.Module):
    """Turn features of the latent sources into the signals of given sensors."""

    def __init__(self, n_functions: int, n_sources: int, step: int, n_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_functions, n_sources) / sqrt(n_functions))
        self.synthesis = nn.Parameter(_orthonormal(n_dim - 1, step))

    def forward(self, latents_BSWTD: Tensor, functions_BCK: Tensor) -> Tensor:
        """Decode latents.

        Parameters
        ----------
        latents_BSWTD : float, shape (batch, sources, windows, steps of a window, n_dim)
            Dimensionless features, of any length.
        functions_BCK : float, shape (batch, channels, functions)
            `SensorHarmonics`, dimensionless.

        Returns
        -------
        float, shape (batch, channels, windows, samples)
        """
        with torch.autocast(latents_BSWTD.device.type, enabled=False):
            source_BSWL = self.sources(latents_BSWTD)
            weight = at_least_float32(self.weight)
            gain_BCS = functions_BCK.to(weight.dtype) @ weight
            return torch.einsum("bcs,bswl->bcwl", gain_BCS, source_BSWL)

    def sources(self, latents_BSWTD: Tensor) -> Tensor:
        """Return the waveforms of the latent sources, equalised and dimensionless.

        Parameters
        ----------
        latents_BSWTD : float, shape (batch, sources, windows, steps of a window, n_dim)
            Dimensionless features, of any length.

        Returns
        -------
        float, shape (batch, sources, windows, samples)
        """
        synthesis = at_least_float32(self.synthesis)
        latents_BSWTD = latents_BSWTD.to(synthesis.dtype)
        reference = latents_BSWTD[..., -1:].clamp(min=SMALLEST_REFERENCE)
        scaled = latents_BSWTD[..., :-1] / reference * sqrt(synthesis.shape[1])
        return (scaled @ synthesis).flatten(-2)


@torch.no_grad()
def start_leadfield(inverse: InverseModel, forward: ForwardModel, fit: LeadfieldFit) -> None:
    """Copy a fitted leadfield into both models, and the transposed analysis of one into the other."""
    inverse.weight.copy_(fit.weight)
    forward.weight.copy_(fit.weight)
    inverse.log_noise.copy_(fit.log_noise)
    forward.synthesis.copy_(inverse.analysis.T)


def fit_leadfield(layouts: Sequence[Layout], n_sources: int) -> LeadfieldFit:
    """Fit the leadfield with which sources of the minimum norm explain most of the variance of every sensor.

    The mean share of a sensor's variance that is left counts: over sensors of a type, then types, then layouts. It is a
    function of covariances only and is minimised by L-BFGS in float64. As many principal components of one layout are
    the limit. Functions that no layout has get weight 0.

    Parameters
    ----------
    layouts : sequence of Layout
        At most `MOST_LAYOUTS` of them are used, spread over the sequence.
    n_sources : int
    """
    every = max(1, -(-len(layouts) // MOST_LAYOUTS))
    used = [Layout(one.functions.double(), one.covariance.double(), one.sensor_type) for one in layouts[::every]]
    n_functions = used[0].functions.shape[-1]
    present_K = torch.stack([one.functions.abs().amax(dim=0) for one in used]).amax(dim=0) > 0
    drawn = torch.randn(n_functions, n_sources, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = (drawn / sqrt(n_functions) * present_K[:, None]).requires_grad_()
    log_noise = torch.full((1,), log(INITIAL_NOISE), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, log_noise], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        optimiser.zero_grad()
        noise = noise_variance(log_noise)
        losses = [_unexplained(one, weight, noise) for one in used]
        total = torch.stack(losses).mean() + RIDGE * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(step)  # type: ignore[no-untyped-call]
    return LeadfieldFit(weight.detach().float(), log_noise.detach().float())


def _unexplained(layout: Layout, weight_KS: Tensor, noise: Tensor) -> Tensor:
    """Return the share of the variance that sources leave, by sensor type, summed, and the term for their scale."""
    covariance_CC = layout.covariance
    gain_CS = layout.functions @ weight_KS
    inverse_SC = minimum_norm(gain_CS, noise)
    crossed_SC = inverse_SC @ covariance_CC
    sources_SS = crossed_SC @ inverse_SC.T
    variance_C = covariance_CC.diagonal().clamp(min=1e-12)
    left_C = (
        variance_C - 2 * (gain_CS * crossed_SC.T).sum(dim=1) + (gain_CS @ sources_SS * gain_CS).sum(dim=1)
    ) / variance_C
    types = [left_C[layout.sensor_type == code].mean() for code in torch.unique(layout.sensor_type)]
    scale = sources_SS.diagonal().mean().clamp(min=1e-12).log().square()
    return torch.stack(types).sum() + SCALE_WEIGHT * scale


def _orthonormal(rows: int, columns: int) -> Tensor:
    """Draw a matrix of features and samples whose shorter side is orthonormal."""
    drawn = torch.randn(max(rows, columns), min(rows, columns))
    basis: Tensor = torch.linalg.qr(drawn)[0]
    return basis if rows >= columns else basis.T.contiguous()
