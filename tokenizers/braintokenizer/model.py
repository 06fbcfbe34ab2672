"""The BrainTokenizer network and what can be asked of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer.checks import check_input, values_at_hand
from emeg.tokenizers.braintokenizer.config import BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.draws import TokenizerDraws, draw_tokenizer_step, hide_channels
from emeg.tokenizers.braintokenizer.initialise import initialise_tokenizer
from emeg.tokenizers.braintokenizer.layers import SensorEmbedding
from emeg.tokenizers.braintokenizer.losses import at_least_float32, correlation, mean_over_channels, spectrum, target
from emeg.tokenizers.braintokenizer.pretrained import load_strictly, load_weights, read_card, save_model
from emeg.tokenizers.braintokenizer.quantization.residual import ResidualQuantizer, normalise_latents
from emeg.tokenizers.braintokenizer.spatial import SpatialDecoder, SpatialEncoder
from emeg.tokenizers.braintokenizer.windows import count_windows, cut_windows

KIND = "braintokenizer"
PHASE_WEIGHT = 0.5


class Tokens(NamedTuple):
    """A signal in codes."""

    features: Tensor
    """float32 (batch, latent, windows · 8, n_dim): sums of code vectors."""
    codes: Tensor
    """int64 (batch, latent, windows · 8, quantizer)."""


class TokenizerLosses(NamedTuple):
    """Terms of one training step, scalars; only `total` carries a gradient."""

    total: Tensor
    """ramp · (time + amplitude + 0.5 · phase) + exp(−pcc) + commitment."""
    time: Tensor
    """Mean absolute difference."""
    pcc: Tensor
    """Pearson correlation of reconstruction and target per channel and window, averaged."""
    amplitude: Tensor
    """Mean absolute difference of the spectra's magnitudes."""
    phase: Tensor
    """Mean absolute difference of the spectra's angles, rad, not wrapped."""
    commitment: Tensor


class BrainTokenizer(nn.Module):
    """Turn windows of many sensors into codes of a few latent sources, and back (arXiv 2505.18185, section 3.1).

    Everywhere `x` is (batch, channel, sample) as `normalise_signal` gives it, `pos` (batch, channel, 6) normalised
    positions and orientations, `sensor_type` (batch, channel) 0 EEG, 1 magnetometer, 2 gradiometer, and
    `channel_mask` (batch, channel) bool, True for real channels: a padded batch gives what its samples give alone.
    `tokenize`, `reconstruct` and `features_from_codes` neither learn nor draw, and compute in float32 whatever the
    precision around them: codes must not depend on it.

    Parameters
    ----------
    config : BrainTokenizerConfig
    """

    def __init__(self, config: BrainTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sensor_embed = SensorEmbedding(config.n_dim, config.dropout)
        self.encoder = SpatialEncoder(config)
        self.quantizer = ResidualQuantizer(
            config.n_dim,
            config.codebook_dim,
            config.codebook_size,
            config.num_quantizers,
            rotation_trick=config.rotation_trick,
        )
        self.decoder = SpatialDecoder(config)
        initialise_tokenizer(self, config.initialisation)

    # Inference

    def tokenize(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        overlap: float = 0.0,
        channel_mask: Tensor | None = None,
    ) -> Tokens:
        """Find the codes of a signal and the features they stand for.

        Parameters
        ----------
        overlap : float
            Share of a window that the next one sees too. A signal shorter than a window is padded with zeros.

        Returns
        -------
        Tokens
            ``features == features_from_codes(codes)``, bit for bit.

        Raises
        ------
        UserError
            Shapes, types or values that do not fit.
        """
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            latents_BQND = self._latents(x, pos, sensor_type, overlap, channel_mask).flatten(2, 3)
            codes_BQWK = self.quantizer.encode(latents_BQND)
            return Tokens(self.features_from_codes(codes_BQWK), codes_BQWK)

    def features_from_codes(self, codes: Tensor) -> Tensor:
        """Rebuild features (…, D) from codes (…, K), any whole-number type.

        Raises
        ------
        UserError
            The last dimension is not the number of quantizers, or a code is none of the codebook's.
        """
        n_levels, size = self.config.num_quantizers, self.config.codebook_size
        if codes.is_floating_point() or codes.ndim == 0 or codes.shape[-1] != n_levels:
            raise UserError(f"codes: expected whole numbers (…, {n_levels}), got {codes.dtype} {tuple(codes.shape)}")
        codes = codes.long()
        if codes.numel() and values_at_hand(codes.device) and not bool(((codes >= 0) & (codes < size)).all()):
            raise UserError(f"codes: outside 0 to {size - 1}; they come from another tokenizer")
        return self.quantizer.decode(codes)

    def encode_latents(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        overlap: float = 0.0,
        channel_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Give the latents before quantising, brought to length 1: (batch, latent, windows · 8, n_dim).

        Differentiable; quantizer and decoder stay out of the graph.
        """
        latents = self._latents(x, pos, sensor_type, overlap, channel_mask, generator=generator)
        return normalise_latents(latents).flatten(2, 3)

    def reconstruct(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Encode, quantise and decode: (batch, channel, window, sample), in the units of `targets`.

        Parameters
        ----------
        seen : bool, shape (batch, channel), optional
            Channels that the encoder may look at (all real ones by default); the others are reconstructed from these.

        Returns
        -------
        float
            0 in padded channels.
        """
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            check_input(x, pos, sensor_type, channel_mask)
            if seen is not None and (seen.shape != sensor_type.shape or seen.dtype != torch.bool):
                raise UserError(f"seen: expected bool {tuple(sensor_type.shape)}, got {seen.dtype} {tuple(seen.shape)}")
            x_BCT, sensor_BCD = self._prepare(x, pos, sensor_type, channel_mask)
            x_BCNL = cut_windows(x_BCT, self.config.window_length, 0.0)
            looked_at = channel_mask if seen is None else seen & _or_all(channel_mask, seen)
            latents = self.encoder(x_BCNL, sensor_BCD, looked_at, None)
            quantized = self.quantizer.decode(self.quantizer.encode(latents))
            out: Tensor = self.decoder(quantized, sensor_BCD, None)
            return out if channel_mask is None else out.masked_fill(~channel_mask[..., None, None], 0.0)

    def targets(self, x: Tensor) -> Tensor:
        """Give what `reconstruct` is held to: (batch, channel, window, sample), each window mean 0 and deviation 1."""
        return target(cut_windows(x, self.config.window_length, 0.0))

    # Training

    def training_loss(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        draws: TokenizerDraws | None = None,
        loss_ramp: float = 1.0,
        follow: bool = True,
    ) -> TokenizerLosses:
        """Hide channels, add noise, reconstruct all channels; in training mode the codebooks learn too.

        Parameters
        ----------
        generator : torch.Generator, optional
            Source of all chance; PyTorch's own if left out.
        draws : TokenizerDraws, optional
            Order of channels and noise, instead of drawing them.
        loss_ramp : float
            Weight of the terms other than correlation and commitment. From 0 to 1 over the first few hundred
            steps: from the start, the phase term would drive the output to a constant.
        follow : bool
            Whether the codebooks follow at once. With several micro-batches in a step pass False and call
            `update_codebooks` once, before or after the optimiser's step.

        Returns
        -------
        TokenizerLosses
            Means run over real channels.
        """
        check_input(x, pos, sensor_type, channel_mask, values=values_at_hand(x.device))
        x_BCT, sensor_BCD = self._prepare(x, pos, sensor_type, channel_mask, generator)
        x_BCNL = cut_windows(x_BCT, self.config.window_length, 0.0)
        if draws is None:
            batch, channels, windows, samples = x_BCNL.shape
            draws = draw_tokenizer_step(generator, shape=(batch, channels, windows, samples), device=x.device)
        latents = self._encode_some(x_BCNL, sensor_BCD, channel_mask, draws, generator)
        quantized = self.quantizer(latents, generator)
        reconstruction = self.decoder(quantized.features, sensor_BCD, generator)
        losses = self._losses(reconstruction, target(x_BCNL), quantized.commitment, channel_mask, loss_ramp)
        if follow:
            self.update_codebooks()
        return losses

    def compile_layers(self, *, backend: str = "inductor") -> None:
        """Compile the convolutions of encoder and decoder when they next run: minutes, once for each shape."""
        self.encoder.seanet_encoder.compile_layers(backend)
        self.decoder.seanet_decoder.compile_layers(backend)

    def checkpoint_activations(self) -> None:
        """Keep no activations of the convolutions for the way back: compute them twice, for less memory."""
        self.encoder.seanet_encoder.checkpointing = True
        self.decoder.seanet_decoder.checkpointing = True

    def update_codebooks(self) -> None:
        """Let the codebooks follow what `training_loss` has shown them since the last time, on all ranks."""
        self.quantizer.follow()

    def _losses(
        self, x: Tensor, target_BCNL: Tensor, commitment: Tensor, channel_mask: Tensor | None, ramp: float
    ) -> TokenizerLosses:
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x)
            magnitude, angle = spectrum(x)
            target_magnitude, target_angle = spectrum(target_BCNL)
            time = mean_over_channels((x - target_BCNL).abs(), channel_mask)
            pcc = mean_over_channels(correlation(x, target_BCNL), channel_mask)
            amplitude = mean_over_channels((magnitude - target_magnitude).abs(), channel_mask)
            phase = mean_over_channels((angle - target_angle).abs(), channel_mask)
            total = ramp * (time + amplitude + PHASE_WEIGHT * phase) + torch.exp(-pcc) + commitment
        terms = (term.detach() for term in (time, pcc, amplitude, phase, commitment))
        return TokenizerLosses(total, *terms)

    # Parts

    def _encode_some(
        self,
        x_BCNL: Tensor,
        sensor_BCD: Tensor,
        channel_mask: Tensor | None,
        draws: TokenizerDraws,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Encode what is not hidden, with noise; hidden channels are not computed at all."""
        batch, channels = x_BCNL.shape[:2]
        seen = hide_channels(draws.channel_order, channel_mask, self.config.hidden_ratio, shape=(batch, channels))
        rows = torch.arange(len(x_BCNL), device=x_BCNL.device)[:, None]
        noisy = x_BCNL[rows, seen.channels] + self.config.noise_std * draws.noise[rows, seen.channels]
        latents: Tensor = self.encoder(noisy, sensor_BCD[rows, seen.channels], seen.mask, generator)
        return latents

    def _latents(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        overlap: float,
        channel_mask: Tensor | None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Latents as the encoder gives them: (B, Q, N, S, D)."""
        check_input(x, pos, sensor_type, channel_mask)
        x_BCT, sensor_BCD = self._prepare(x, pos, sensor_type, channel_mask, generator)
        x_BCNL = cut_windows(x_BCT, self.config.window_length, overlap)
        latents: Tensor = self.encoder(x_BCNL, sensor_BCD, channel_mask, generator)
        return latents

    def _prepare(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Blank padded channels, whatever they hold, and embed the sensors."""
        if channel_mask is not None:
            padded_BC1 = ~channel_mask[..., None]
            x, pos = x.masked_fill(padded_BC1, 0.0), pos.masked_fill(padded_BC1, 0.0)
            sensor_type = sensor_type.masked_fill(~channel_mask, 0)
        dtype = self.encoder.neuros.dtype
        return x.to(dtype), self.sensor_embed(pos.to(dtype), sensor_type.long(), generator)

    def steps_of(self, n_samples: int, overlap: float = 0.0) -> int:
        """Latent steps that `tokenize` makes of a signal."""
        return count_windows(n_samples, self.config.window_length, overlap) * self.config.steps_per_window

    # Files

    def save_pretrained(self, folder: Path, *, provenance: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, which is made if it is not there."""
        save_model(folder, self.state_dict(), kind=KIND, config=self.config, provenance=provenance)

    @classmethod
    def config_of(cls, folder: Path) -> BrainTokenizerConfig:
        """Read the configuration of what `save_pretrained` wrote, without its weights."""
        card = read_card(folder, KIND)
        return BrainTokenizerConfig.checked(card["config"], source=f"{folder}/config.json: config")

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Load what `save_pretrained` wrote, in evaluation mode.

        Raises
        ------
        UserError
            A file is missing or of another kind, or names or shapes differ from what the configuration asks for.
        """
        model = cls(cls.config_of(folder))
        load_strictly(model, load_weights(folder), source=str(folder))
        return model.eval()


def _or_all(mask: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like) if mask is None else mask
