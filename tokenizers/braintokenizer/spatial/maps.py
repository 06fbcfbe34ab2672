"""Map channels to latent sources and back: SEANet on each channel, attention across channels, and a linear leadfield.

Shape letters: B batch, C channels, W windows, L samples in a window, S latent sources, T latent steps, D features,
K functions of a sensor.
"""

import torch
from torch import Tensor, nn

from emeg.tokenizers.braintokenizer.attention import attend, join_heads, split_heads
from emeg.tokenizers.braintokenizer.config import BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.layers import n_sensor_functions
from emeg.tokenizers.braintokenizer.seanet import SeanetDecoder, SeanetEncoder
from emeg.tokenizers.braintokenizer.spatial.leadfield import ForwardModel, InverseModel

NETWORK_SHARE = 0.1
"""Factor of what the network adds to the leadfield, which explains most of a signal before the first step."""


class SignedGain(nn.Module):
    """Learned gain between every sensor and every latent source, by head: what a leadfield is to dipoles."""

    def __init__(self, config: BrainTokenizerConfig) -> None:
        super().__init__()
        n_dim, degree = config.n_dim, config.gain_harmonics
        self.source = nn.Parameter(torch.randn(config.n_neuro, n_dim))
        self.sensor = nn.Linear(n_dim, n_dim)
        self.harmonics = nn.Linear(n_sensor_functions(degree), n_dim) if degree else None
        self.n_head, self.n_dim = config.n_head, n_dim

    def forward(self, sensor_BCD: Tensor) -> Tensor:
        """Compute the gains.

        Parameters
        ----------
        sensor_BCD : float, shape (batch, channels, n_dim or more)
            Dimensionless features of the sensors; behind the embedding follow the functions of `SensorHarmonics` if
            `gain_harmonics` is above 0.

        Returns
        -------
        float, shape (batch, heads, sources, channels)
        """
        source = split_heads(self.source, self.n_head)
        gain_BCD = self.sensor(sensor_BCD[..., : self.n_dim])
        if self.harmonics is not None:
            gain_BCD = gain_BCD + self.harmonics(sensor_BCD[..., self.n_dim :])
        sensor = split_heads(gain_BCD, self.n_head)
        out: Tensor = source @ sensor.transpose(-2, -1) / source.shape[-1] ** 0.5
        return out


class SpatialEncoder(nn.Module):
    """Encode windows of any number of channels as latent sources."""

    def __init__(self, config: BrainTokenizerConfig) -> None:
        super().__init__()
        self.neuros = nn.Parameter(torch.randn(config.n_neuro, config.n_dim))
        self.seanet_encoder = SeanetEncoder(
            config.n_filters, config.ratios, config.n_dim, config.kernel_size, config.last_kernel_size
        )
        self.k_proj = nn.Linear(config.n_dim, config.n_dim)
        self.backwardsolution = nn.ModuleDict(
            {"v": nn.Linear(config.n_dim, config.n_dim), "proj": nn.Linear(config.n_dim, config.n_dim)}
        )
        self.sensor_gain = nn.Linear(config.n_dim, config.n_dim) if config.sensor_gain else None
        self.signed_gain = SignedGain(config) if config.signed_weights else None
        self.leadfield = InverseModel(*_leadfield_sizes(config)) if config.leadfield else None
        self.network_share = _network_share(config)
        self.n_head, self.n_dim, self.dropout_p = config.n_head, config.n_dim, config.dropout

    def forward(
        self, x_BCWL: Tensor, sensor_BCD: Tensor, seen_BC: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Encode windows as latents.

        Parameters
        ----------
        x_BCWL : float, shape (batch, channels, windows, samples)
            Normalised signal, dimensionless.
        sensor_BCD : float, shape (batch, channels, n_dim or more)
            Dimensionless features of the sensors; see `SignedGain`.
        seen_BC : bool, shape (batch, channels), optional
            True for channels to attend to. None: all.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, sources, windows, steps of a window, n_dim)
        """
        batch, channels, windows, _ = x_BCWL.shape
        rows = self.seanet_encoder(x_BCWL.reshape(batch * channels * windows, -1, 1))
        features = torch.unflatten(rows, 0, (batch, channels, windows)).permute(0, 2, 3, 1, 4)  # B W T C D
        steps = features.shape[2]
        gain = None if self.signed_gain is None else self.signed_gain(sensor_BCD)
        sensor_BCD, functions_BCK = sensor_BCD[..., : self.n_dim], sensor_BCD[..., self.n_dim :]
        key = self.k_proj(features + sensor_BCD[:, None, None])
        value = self.backwardsolution["v"](features)
        if self.sensor_gain is not None:
            value = value * (1.0 + self.sensor_gain(sensor_BCD))[:, None, None]
        query = split_heads(self.neuros.to(key.dtype), self.n_head).expand(batch * windows * steps, -1, -1, -1)
        gathered = attend(
            query,
            split_heads(key.flatten(0, 2), self.n_head),
            split_heads(value.flatten(0, 2), self.n_head),
            key_mask=None if seen_BC is None else seen_BC.repeat_interleave(windows * steps, dim=0),
            gain=None if gain is None else gain.repeat_interleave(windows * steps, dim=0),
            dropout_p=self.dropout_p if self.training else 0.0,
            generator=generator,
        )
        latents = self.backwardsolution["proj"](join_heads(gathered))
        out: Tensor = torch.unflatten(latents, 0, (batch, windows, steps)).permute(0, 3, 1, 2, 4)
        if self.leadfield is not None:
            out = self.network_share * out + self.leadfield(x_BCWL, functions_BCK, seen_BC)
        return out


class SpatialDecoder(nn.Module):
    """Decode latent sources as windows of any channels with known sensors."""

    def __init__(self, config: BrainTokenizerConfig) -> None:
        super().__init__()
        self.forwardsolution = nn.ModuleDict(
            {"kv": nn.Linear(config.n_dim, 2 * config.n_dim), "proj": nn.Linear(config.n_dim, config.n_dim)}
        )
        self.seanet_decoder = SeanetDecoder(
            config.n_filters, config.ratios, config.n_dim, config.kernel_size, config.last_kernel_size
        )
        self.sensor_gain = nn.Linear(config.n_dim, config.n_dim) if config.sensor_gain else None
        self.signed_gain = SignedGain(config) if config.signed_weights else None
        self.leadfield = ForwardModel(*_leadfield_sizes(config)) if config.leadfield else None
        self.network_share = _network_share(config)
        self.n_head, self.n_dim, self.dropout_p = config.n_head, config.n_dim, config.dropout

    def forward(self, latents_BSWTD: Tensor, sensor_BCD: Tensor, generator: torch.Generator | None) -> Tensor:
        """Decode latents as the signals of given sensors.

        Parameters
        ----------
        latents_BSWTD : float, shape (batch, sources, windows, steps of a window, n_dim)
            Dimensionless features.
        sensor_BCD : float, shape (batch, channels, n_dim or more)
            Dimensionless features of the sensors to reconstruct; see `SignedGain`.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        float, shape (batch, channels, windows, samples)
        """
        batch, _, windows, steps, _ = latents_BSWTD.shape
        rows = latents_BSWTD.permute(0, 2, 3, 1, 4).flatten(0, 2)
        key, value = self.forwardsolution["kv"](rows).chunk(2, dim=-1)
        gain = None if self.signed_gain is None else self.signed_gain(sensor_BCD).transpose(-2, -1)
        sensor_BCD, functions_BCK = sensor_BCD[..., : self.n_dim], sensor_BCD[..., self.n_dim :]
        query = split_heads(sensor_BCD.to(key.dtype), self.n_head).repeat_interleave(windows * steps, dim=0)
        spread = attend(
            query,
            split_heads(key, self.n_head),
            split_heads(value, self.n_head),
            gain=None if gain is None else gain.repeat_interleave(windows * steps, dim=0),
            dropout_p=self.dropout_p if self.training else 0.0,
            generator=generator,
        )
        features = self.forwardsolution["proj"](join_heads(spread))
        if self.sensor_gain is not None:
            features = features * (1.0 + self.sensor_gain(sensor_BCD)).repeat_interleave(windows * steps, dim=0)
        channels = features.shape[1]
        by_channel = torch.unflatten(features, 0, (batch, windows, steps)).permute(0, 3, 1, 2, 4)
        signal = self.seanet_decoder(by_channel.reshape(batch * channels * windows, steps, -1))
        out: Tensor = signal.squeeze(-1).unflatten(0, (batch, channels, windows))
        if self.leadfield is not None:
            out = self.network_share * out + self.leadfield(latents_BSWTD, functions_BCK)
        return out


def _leadfield_sizes(config: BrainTokenizerConfig) -> tuple[int, int, int, int]:
    return n_sensor_functions(config.gain_harmonics), config.n_neuro, config.samples_per_step, config.n_dim


def _network_share(config: BrainTokenizerConfig) -> float:
    # electrodes inside the head have no functions on the sphere, so that their leadfield is 0
    return 1.0 if config.intracranial else NETWORK_SHARE
