"""The BrainTokenizer network.

Shape letters: B batch, C channels, N samples, W windows, L samples in a window, S latent sources, T latent steps,
D features, Q quantizer levels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from emeg.errors import UserError
from emeg.sensors.regions import REGIONS
from emeg.tokenizers.braintokenizer.checks import check_input, values_at_hand
from emeg.tokenizers.braintokenizer.config import BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.draws import TokenizerDraws, draw_tokenizer_step, hide_channels, hide_regions
from emeg.tokenizers.braintokenizer.equaliser import Equaliser, PowerSum, sum_power
from emeg.tokenizers.braintokenizer.initialise import initialise_tokenizer
from emeg.tokenizers.braintokenizer.layers import N_POSITION, SensorEmbedding, SensorHarmonics
from emeg.tokenizers.braintokenizer.losses import TokenizerLosses, at_least_float32, step_losses, target
from emeg.tokenizers.braintokenizer.parameters import parameter_groups
from emeg.tokenizers.braintokenizer.precision import exact_float32
from emeg.tokenizers.braintokenizer.pretrained import load_strictly, load_weights, read_card
from emeg.tokenizers.braintokenizer.quantization.interface import normalise_latents
from emeg.tokenizers.braintokenizer.quantization.residual import ResidualQuantizer
from emeg.tokenizers.braintokenizer.quantization.scalar import ScalarQuantizer
from emeg.tokenizers.braintokenizer.spatial.leadfield import Layout, fit_leadfield, start_leadfield
from emeg.tokenizers.braintokenizer.spatial.maps import SpatialDecoder, SpatialEncoder
from emeg.tokenizers.braintokenizer.windows import cut_windows, join_windows, stride_of
from emeg.tokenizers.interface import TokenizerModule, TokenizerSizes
from emeg.tokenizers.interface import Tokens as Tokens

KIND = "braintokenizer"


class BrainTokenizer(TokenizerModule):
    """Encode windows of many sensors as codes of a few latent sources, and decode them (arXiv 2505.18185, section 3.1).

    With `channel_mask`, a padded batch gives the same results as its samples give alone. `tokenize`, `reconstruct` and
    `features_from_codes` change no state, draw no random numbers, and compute in float32 under any autocast, because
    codes must not depend on the precision. Latents have length 1. With ``target: window``, each reconstructed and
    decoded window has mean 0 and standard deviation 1; with ``target: signal``, windows have the scale of the signal.
    Without overlap, `decode` equals `reconstruct` if its windows share no samples. `prepare` fits the equaliser to the
    mean power of the training segments, and then the leadfield to their covariances.

    Parameters
    ----------
    config : BrainTokenizerConfig
    """

    kind = KIND
    fitted: ClassVar[tuple[str, ...]] = (
        "equaliser.gain",
        "encoder.leadfield.weight",
        "encoder.leadfield.log_noise",
        "encoder.leadfield.analysis",
        "decoder.leadfield.weight",
        "decoder.leadfield.synthesis",
    )
    by_sensor_type: ClassVar[tuple[str, ...]] = ("sensor_embed.sensor_embedding_layer.weight", "equaliser.gain")
    config: BrainTokenizerConfig

    def __init__(self, config: BrainTokenizerConfig) -> None:
        super().__init__(config)
        self.sensor_embed = SensorEmbedding(
            config.n_dim, config.dropout, n_types=config.n_types, n_regions=len(REGIONS) if config.regions else 0
        )
        self.sensor_harmonics = SensorHarmonics(config.gain_harmonics) if config.gain_harmonics else None
        self.encoder = SpatialEncoder(config)
        self.quantizer = _quantizer(config)
        self.decoder = SpatialDecoder(config)
        self.equaliser = None if config.equaliser is None else Equaliser(config.n_types)
        initialise_tokenizer(self, config.initialisation)

    @property
    @override
    def sizes(self) -> TokenizerSizes:
        return self.config.sizes

    @property
    @override
    def source_features(self) -> Tensor:
        return self.encoder.neuros.detach()

    # Inference

    @override
    def tokenize(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        overlap: float = 0.0,
        channel_mask: Tensor | None = None,
    ) -> Tokens:
        with torch.no_grad(), exact_float32(x.device.type):
            self._check(x, pos, sensor_type, channel_mask)
            latents_BSTD = self._latents(x, pos, sensor_type, overlap, channel_mask).flatten(2, 3)
            codes_BSTQ = self.quantizer.encode(latents_BSTD)
            return Tokens(self.features_from_codes(codes_BSTQ), codes_BSTQ)

    @override
    def features_from_codes(self, codes: Tensor) -> Tensor:
        n_levels, size = self.config.num_quantizers, self.config.codebook_size
        if codes.is_floating_point() or codes.ndim == 0 or codes.shape[-1] != n_levels:
            raise UserError(f"codes: {codes.dtype} {tuple(codes.shape)}; pass whole numbers (…, {n_levels})")
        codes = codes.long()
        if codes.numel() and values_at_hand(codes.device) and not bool(((codes >= 0) & (codes < size)).all()):
            raise UserError(
                f"codes: some are outside 0 to {size - 1}, so another tokenizer made them. Load that tokenizer."
            )
        return self.quantizer.decode(codes)

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
        self._check(x, pos, sensor_type, channel_mask, values=check_values)
        latents = self._latents(x, pos, sensor_type, overlap, channel_mask, generator=generator)
        return normalise_latents(latents).flatten(2, 3)

    @override
    def quantize(self, latents: Tensor) -> Tensor:
        return self.quantizer.encode(latents)

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
        with torch.no_grad(), exact_float32(codes.device.type):
            features = torch.unflatten(self.features_from_codes(codes), 2, (-1, self.config.steps_per_window))
            nothing = pos.new_zeros(*pos.shape[:2], self.config.window_length)
            _, sensor_BCD = self._prepare(nothing, pos, sensor_type, channel_mask)
            windows_BCWL: Tensor = self.decoder(features, sensor_BCD, None)
            length = self.config.window_length
            made_BCN = join_windows(windows_BCWL, length - stride_of(length, overlap))
            if self.equaliser is not None:
                real_type = sensor_type if channel_mask is None else sensor_type.masked_fill(~channel_mask, 0)
                made_BCN = self.equaliser.invert(made_BCN, real_type)
            return made_BCN if channel_mask is None else made_BCN.masked_fill(~channel_mask[..., None], 0.0)

    @override
    def reconstruct(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        seen: Tensor | None = None,
    ) -> Tensor:
        with torch.no_grad(), exact_float32(x.device.type):
            self._check(x, pos, sensor_type, channel_mask)
            if seen is not None and (seen.shape != sensor_type.shape or seen.dtype != torch.bool):
                raise UserError(f"seen: {seen.dtype} {tuple(seen.shape)}; pass bool {tuple(sensor_type.shape)}")
            x = cut_windows(x, self.config.window_length, 0.0).flatten(2)  # what `targets` covers
            x_BCN, sensor_BCD = self._prepare(x, pos, sensor_type, channel_mask)
            x_BCWL = cut_windows(x_BCN, self.config.window_length, self.config.crossfade / self.config.window_length)
            visible = channel_mask if seen is None else seen & _or_all(channel_mask, seen)
            latents = self.encoder(x_BCWL, sensor_BCD, visible, None)
            quantized = self.quantizer.decode(self.quantizer.encode(latents))
            out: Tensor = self.decoder(quantized, sensor_BCD, None)
            if self.config.target == "signal":
                real_type = sensor_type if channel_mask is None else sensor_type.masked_fill(~channel_mask, 0)
                out = self._join(out, real_type, x_BCN.shape[-1])
            return out if channel_mask is None else out.masked_fill(~channel_mask[..., None, None], 0.0)

    @override
    def targets(self, x: Tensor) -> Tensor:
        return self._target(cut_windows(x, self.config.window_length, 0.0))

    @property
    @override
    def has_waveforms(self) -> bool:
        return self.decoder.leadfield is not None

    @override
    def waveforms(self, features: Tensor) -> Tensor:
        if self.decoder.leadfield is None:
            return super().waveforms(features)
        windows = torch.unflatten(features, 2, (-1, self.config.steps_per_window))
        return self.decoder.leadfield.sources(windows)

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
        """Hide channels, add noise, reconstruct all channels and compute the loss.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6) or (batch, channels, 7)
            Normalised positions and orientations, dimensionless; with 7 columns also the index of the region.
        sensor_type : int, shape (batch, channels)
            Codes of `SensorType`.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        generator : torch.Generator, optional
            Source of all draws; PyTorch's default generator if omitted.
        draws : TokenizerDraws, optional
            Order of channels and noise, instead of drawing them.
        loss_ramp : float
            Weight of the terms other than correlation and commitment. It should rise from 0 to 1 over the first few
            hundred steps: at the start, these terms would drive the output to a constant.
        follow : bool
            Whether to update the codebooks in training mode. With several micro-batches in a step, pass False and
            call `update_codebooks` once, before or after the step of the optimiser.

        Returns
        -------
        TokenizerLosses
            Means over real channels.
        """
        self._check(x, pos, sensor_type, channel_mask, values=values_at_hand(x.device))
        x_BCN, sensor_BCD = self._prepare(x, pos, sensor_type, channel_mask, generator)
        x_BCWL = cut_windows(x_BCN, self.config.window_length, 0.0)
        if draws is None:
            batch, channels, windows, samples = x_BCWL.shape
            draws = draw_tokenizer_step(generator, shape=(batch, channels, windows, samples), device=x.device)
        region_BC = pos[..., N_POSITION] if self.config.hidden_by == "region" else None
        latents = self._encode_some(x_BCWL, sensor_BCD, channel_mask, region_BC, draws, generator)
        quantized = self.quantizer(latents, generator)
        reconstruction = self.decoder(quantized.features, sensor_BCD, generator)
        losses = step_losses(
            reconstruction,
            self._target(x_BCWL),
            quantized.commitment,
            channel_mask,
            ramp=loss_ramp,
            has_angles=self.config.spectral_loss == "angle",
        )
        if follow:
            self.update_codebooks()
        return losses

    @override
    def compile_layers(self, *, backend: str = "inductor") -> None:
        self.encoder.seanet_encoder.compile_layers(backend)
        self.decoder.seanet_decoder.compile_layers(backend)

    @override
    def checkpoint_activations(self) -> None:
        self.encoder.seanet_encoder.checkpointing = True
        self.decoder.seanet_decoder.checkpointing = True

    @override
    def update_codebooks(self) -> None:
        self.quantizer.follow()

    @override
    def prepare(self, segments: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        if self.equaliser is not None and self.config.equaliser is not None:
            sums = [sum_power(x, sensor_type, self.config.n_types) for x, _, sensor_type in segments]
            power = PowerSum(*(torch.stack(parts).sum(dim=0) for parts in zip(*sums, strict=True)))
            self.equaliser.fit(power, self.config.equaliser)
        inverse, forward = self.encoder.leadfield, self.decoder.leadfield
        if inverse is not None and forward is not None:
            start_leadfield(inverse, forward, fit_leadfield(self._layouts(segments), self.config.n_neuro))

    @override
    def parameter_groups(
        self, *, learning_rate: float, quantizer_learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        return parameter_groups(
            self,
            learning_rate=learning_rate,
            quantizer_learning_rate=quantizer_learning_rate,
            weight_decay=weight_decay,
        )

    @override
    def watched(self) -> dict[str, Tensor]:
        return self.quantizer.watched()

    @override
    def watch_on(self, watched: Mapping[str, Tensor]) -> None:
        self.quantizer.watch_on(watched)

    # Parts

    @torch.no_grad()
    def _layouts(self, segments: Iterable[tuple[Tensor, Tensor, Tensor]]) -> list[Layout]:
        """Return the mean covariance of the equalised segments of every layout of sensors."""
        sums: dict[bytes, Layout] = {}
        counts: Counter[bytes] = Counter()
        for x, pos, sensor_type in segments:
            x_BCN, sensor_BCD = self._prepare(x, pos, sensor_type, None)
            for x_CN, pos_C, sensor_CD, type_C in zip(x_BCN.double(), pos, sensor_BCD, sensor_type, strict=True):
                key = pos_C.numpy().tobytes() + type_C.numpy().tobytes()
                covariance_CC = x_CN @ x_CN.T / x_CN.shape[-1]
                before = sums.get(key)
                total_CC = covariance_CC if before is None else before.covariance + covariance_CC
                sums[key] = Layout(sensor_CD[:, self.config.n_dim :], total_CC, type_C)
                counts[key] += 1
        return [one._replace(covariance=one.covariance / counts[key]) for key, one in sums.items()]

    def _check(
        self, x: Tensor, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None, *, values: bool = True
    ) -> None:
        check_input(
            x,
            pos,
            sensor_type,
            channel_mask,
            values=values,
            n_types=self.config.n_types,
            needs_regions=self.config.needs_regions,
        )

    def _encode_some(
        self,
        x_BCWL: Tensor,
        sensor_BCD: Tensor,
        channel_mask: Tensor | None,
        region_BC: Tensor | None,
        draws: TokenizerDraws,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Encode the visible channels, with noise; hidden channels are not computed."""
        batch, channels = x_BCWL.shape[:2]
        ratio = self.config.hidden_ratio
        if region_BC is None:
            seen = hide_channels(draws.channel_order, channel_mask, ratio, shape=(batch, channels))
        else:
            seen = hide_regions(draws.channel_order, region_BC, channel_mask, ratio)
        rows = torch.arange(len(x_BCWL), device=x_BCWL.device)[:, None]
        noisy = x_BCWL[rows, seen.channels] + self.config.noise_std * draws.noise[rows, seen.channels]
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
        """Return the output of the encoder, (batch, sources, windows, steps of a window, n_dim)."""
        x_BCN, sensor_BCD = self._prepare(x, pos, sensor_type, channel_mask, generator)
        x_BCWL = cut_windows(x_BCN, self.config.window_length, overlap)
        latents: Tensor = self.encoder(x_BCWL, sensor_BCD, channel_mask, generator)
        return latents

    def _prepare(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Set padded channels to 0, equalise, and embed the sensors."""
        if channel_mask is not None:
            padded = ~channel_mask[..., None]
            x, pos = x.masked_fill(padded, 0.0), pos.masked_fill(padded, 0.0)
            sensor_type = sensor_type.masked_fill(~channel_mask, 0)
        if self.equaliser is not None:
            x = self.equaliser(x, sensor_type)
        dtype = self.encoder.neuros.dtype
        pos, sensor_type = pos.to(dtype), sensor_type.long()
        sensor_BCD = self.sensor_embed(pos, sensor_type, generator)
        if self.sensor_harmonics is not None:
            sensor_BCD = torch.cat([sensor_BCD, self.sensor_harmonics(pos, sensor_type)], dim=-1)
        return x.to(dtype), sensor_BCD

    def _target(self, x_BCWL: Tensor) -> Tensor:
        return target(x_BCWL) if self.config.target == "window" else at_least_float32(x_BCWL)

    def _join(self, windows_BCWL: Tensor, sensor_type: Tensor, n_samples: int) -> Tensor:
        """Join decoded windows, invert the equaliser, and cut windows side by side again."""
        joined_BCN = join_windows(windows_BCWL, self.config.crossfade)[..., :n_samples]
        if self.equaliser is not None:
            joined_BCN = self.equaliser.invert(joined_BCN, sensor_type)
        return cut_windows(joined_BCN, self.config.window_length, 0.0)

    # Files

    @classmethod
    def config_of(cls, folder: Path) -> BrainTokenizerConfig:
        """Read the configuration of a model folder, without its weights."""
        card = read_card(folder, KIND)
        return BrainTokenizerConfig.checked(card["config"], source=f"{folder}/config.json: config")

    @classmethod
    @override
    def from_pretrained(cls, folder: Path) -> Self:
        model = cls(cls.config_of(folder))
        load_strictly(model, load_weights(folder), source=str(folder))
        return model.eval()


def _quantizer(config: BrainTokenizerConfig) -> ResidualQuantizer | ScalarQuantizer:
    if config.quantizer == "scalar":
        return ScalarQuantizer(config.n_dim, config.codebook_size, config.num_quantizers, n_values=config.scalar_values)
    return ResidualQuantizer(
        config.n_dim,
        config.codebook_dim,
        config.codebook_size,
        config.num_quantizers,
        rotation_trick=config.rotation_trick,
        projections=config.projections,
    )


def _or_all(mask: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like) if mask is None else mask
