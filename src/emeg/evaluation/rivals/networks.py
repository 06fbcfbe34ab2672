"""Convolutional networks that are trained from scratch: EEGNet and a shallow network.

Shape letters: B batch, C channels, N samples, D features.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NETWORK_RATE = 128.0
"""Rate to which windows are reduced before a network, Hz: that of the EEGNet paper."""


class EEGNet(nn.Module):
    """EEGNet: a filter bank over time, spatial filters of each, a separable convolution, one linear layer.

    Parameters
    ----------
    n_channels, n_samples, n_outputs : int
        Sizes of input and output.
    sfreq : float
        Sampling rate, Hz; kernels last half a second and an eighth of a second.
    n_filters : int
        Filters over time (F1).
    depth : int
        Spatial filters of each filter over time (D).
    dropout : float
        Share of activations set to 0 in training.

    References
    ----------
    Lawhern et al., J Neural Eng 15:056013, 2018, table 2.
    """

    def __init__(
        self,
        n_channels: int,
        n_samples: int,
        n_outputs: int,
        *,
        sfreq: float = NETWORK_RATE,
        n_filters: int = 8,
        depth: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        width = n_filters * depth
        self.temporal = nn.Conv2d(1, n_filters, (1, max(round(sfreq / 2), 1)), bias=False)
        self.temporal_norm = nn.BatchNorm2d(n_filters)
        self.spatial = nn.Conv2d(n_filters, width, (n_channels, 1), groups=n_filters, bias=False)
        self.spatial_norm = nn.BatchNorm2d(width)
        kernel = max(round(sfreq / 8), 1)
        self.depthwise = nn.Conv2d(width, width, (1, kernel), groups=width, bias=False)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.separable_norm = nn.BatchNorm2d(width)
        self.pools = (min(4, n_samples), min(8, max(n_samples // 4, 1)))
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(width * (n_samples // self.pools[0] // self.pools[1]), n_outputs)

    def forward(self, signal_BCN: Tensor) -> Tensor:
        """Return the outputs, shape (batch, outputs).

        Parameters
        ----------
        signal_BCN : float32, shape (batch, channels, samples)
            Standardised signal.
        """
        hidden = self.temporal_norm(self.temporal(_padded(signal_BCN[:, None], self.temporal)))
        hidden = F.elu(self.spatial_norm(self.spatial(hidden)))
        hidden = self.dropout(F.avg_pool2d(hidden, (1, self.pools[0])))
        hidden = F.elu(self.separable_norm(self.pointwise(self.depthwise(_padded(hidden, self.depthwise)))))
        hidden = self.dropout(F.avg_pool2d(hidden, (1, self.pools[1])))
        outputs: Tensor = self.classes(hidden.flatten(1))
        return outputs

    @torch.no_grad()
    def constrain(self) -> None:
        """Limit the norm of each spatial filter to 1, and of each row of the last layer to 0.25, as in the paper."""
        self.spatial.weight.copy_(torch.renorm(self.spatial.weight, p=2, dim=0, maxnorm=1.0))
        self.classes.weight.copy_(torch.renorm(self.classes.weight, p=2, dim=0, maxnorm=0.25))


class ShallowNet(nn.Module):
    """Shallow convolutional network: filters over time and space, then log power in overlapping stretches.

    Parameters
    ----------
    n_channels, n_samples, n_outputs : int
        Sizes of input and output.
    sfreq : float
        Sampling rate, Hz; kernels last a tenth of a second, and power is averaged over 0.3 s in steps of 0.06 s.
    n_filters : int
        Filters over time, and over space.
    dropout : float
        Share of activations set to 0 in training.

    References
    ----------
    Schirrmeister et al., Hum Brain Mapp 38:5391-5420, 2017, figure 2.
    """

    def __init__(
        self,
        n_channels: int,
        n_samples: int,
        n_outputs: int,
        *,
        sfreq: float = NETWORK_RATE,
        n_filters: int = 24,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.temporal = nn.Conv2d(1, n_filters, (1, min(max(round(sfreq / 10), 1), n_samples)), bias=False)
        self.spatial = nn.Conv2d(n_filters, n_filters, (n_channels, 1), bias=False)
        self.norm = nn.BatchNorm2d(n_filters)
        length = n_samples - self.temporal.kernel_size[1] + 1
        self.window = min(max(round(0.3 * sfreq), 1), length)
        self.stride = min(max(round(0.06 * sfreq), 1), self.window)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(n_filters * ((length - self.window) // self.stride + 1), n_outputs)

    def forward(self, signal_BCN: Tensor) -> Tensor:
        """Return the outputs, shape (batch, outputs).

        Parameters
        ----------
        signal_BCN : float32, shape (batch, channels, samples)
            Standardised signal.
        """
        hidden = self.norm(self.spatial(self.temporal(signal_BCN[:, None])))
        power = F.avg_pool2d(hidden.square(), (1, self.window), stride=(1, self.stride))
        outputs: Tensor = self.classes(self.dropout(power.clamp(min=1e-6).log()).flatten(1))
        return outputs


ARCHITECTURES: dict[str, type[EEGNet] | type[ShallowNet]] = {"eegnet": EEGNet, "shallow": ShallowNet}
"""Networks by name."""


def _padded(hidden: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Pad the samples with zeros, so that a convolution keeps their number."""
    width = convolution.kernel_size[1]
    return F.pad(hidden, ((width - 1) // 2, width // 2))


def cosine_rate(step: int, n_steps: int) -> float:
    """Return the factor of the learning rate: a rise over a tenth of the steps, then half a cosine to 0."""
    rise = max(n_steps // 10, 1)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(n_steps - rise, 1)))


class ScratchBuilder:
    """Function that creates a network with random weights.

    Parameters
    ----------
    architecture : str
        One of `ARCHITECTURES`.
    dropout : float
        Share of activations set to 0 in training.
    """

    def __init__(self, architecture: str, dropout: float) -> None:
        self.architecture = architecture
        self.dropout = dropout

    def __call__(self, n_channels: int, n_samples: int, n_outputs: int, sfreq: float) -> nn.Module:
        """Create the network."""
        kind = ARCHITECTURES[self.architecture]
        return kind(n_channels, n_samples, n_outputs, sfreq=sfreq, dropout=self.dropout)
