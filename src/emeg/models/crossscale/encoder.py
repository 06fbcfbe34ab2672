"""The cross-scale encoder over the sources of a frozen tokenizer: latent ones, or the channels of any cap.

Shape letters: B batch, C channels, S latent sources, T latent steps, D features.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from emeg.errors import UserError
from emeg.models.crossscale.config import CrossScaleConfig
from emeg.models.crossscale.network import CrossScaleBlocks
from emeg.models.crossscale.source_positions import locate_sources
from emeg.models.interface import EncoderModule, Sources
from emeg.tokenizers.braintokenizer.initialise import RELEASE_STD, initialise_linear
from emeg.tokenizers.braintokenizer.parameters import group_parameters
from emeg.tokenizers.interface import Tokenizer, Tokens


class CrossScale(EncoderModule):
    """Predict masked codes, and embed signals, with kernels and attention over steps, windows and regions.

    Parameters
    ----------
    config : CrossScaleConfig
    tokenizer : Tokenizer
        Frozen tokenizer. Latent sources are located by what they attend to; channels by their sensors, and their
        embeddings are averaged.

    References
    ----------
    The idea of cross-scale tokens and structured attention: arXiv 2506.23075.
    """

    kind = "crossscale"
    config: CrossScaleConfig
    source_pos: Tensor | None

    def __init__(self, config: CrossScaleConfig, tokenizer: Tokenizer) -> None:
        sizes = tokenizer.sizes
        if config.num_quantizers_used > sizes.n_levels:
            raise UserError(
                f"num_quantizers_used is {config.num_quantizers_used}, but the tokenizer has {sizes.n_levels}."
                " Set it to at most that number."
            )
        super().__init__(config, tokenizer)
        self.mask_token = nn.Parameter(torch.empty(sizes.n_dim))
        self.projection = nn.Linear(sizes.n_dim, config.n_dim)
        self.scales = CrossScaleBlocks(config)
        self.predict_head = nn.Linear(config.n_dim, config.num_quantizers_used * sizes.n_codes)
        self.register_buffer("source_pos", None if sizes.n_sources is None else locate_sources(tokenizer))
        for part in (self.projection, self.scales):
            initialise_linear(part, "emeg")
        initialise_linear(self.predict_head, "release")
        nn.init.trunc_normal_(self.mask_token, std=RELEASE_STD)

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks, for what adapts or shards them."""
        return self.scales.blocks

    @property
    @override
    def n_features(self) -> int:
        return self.config.n_dim

    @property
    @override
    def depth(self) -> int:
        return self.config.depth

    @property
    @override
    def n_sources(self) -> int:
        return int(self.tokenizer.sizes.n_sources or 1)

    @property
    @override
    def n_levels(self) -> int:
        return self.config.num_quantizers_used

    @override
    def embed(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        layers: Sequence[int] = (),
    ) -> Tensor:
        features = self._features(x, pos, sensor_type, channel_mask)
        return self._embed(features, self._channels(pos, sensor_type, channel_mask), layers)

    @override
    def embed_differentiably(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        overlap: float,
        layers: Sequence[int] = (),
        check_values: bool = True,
    ) -> Tensor:
        latents = self.tokenizer.encode_latents(
            x, pos, sensor_type, overlap=overlap, channel_mask=channel_mask, check_values=check_values
        )
        return self._embed(latents, self._channels(pos, sensor_type, channel_mask), layers)

    @override
    def embed_tokens(self, tokens: Tokens, sources: Sources | None = None, *, layers: Sequence[int] = ()) -> Tensor:
        return self._embed(tokens.features, sources, layers)

    @override
    def embed_latents(
        self, latents: Tensor, *, generator: torch.Generator | None = None, layers: Sequence[int] = ()
    ) -> Tensor:
        return self._embed(latents, None, layers, generator)

    def _embed(
        self,
        latents: Tensor,
        sources: Sources | None,
        layers: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if wrong := [layer for layer in layers if not 0 <= layer <= self.depth]:
            raise UserError(
                f"layers: {wrong[0]} is outside 0 to {self.depth}, the number of blocks of this model; choose one of"
                " them"
            )
        hidden, reached = self._enter(latents), 0
        found: dict[int, Tensor] = {}
        for layer in sorted(set(layers or (self.depth - 1,))):
            hidden = self._run(hidden, range(reached, layer), generator, sources)
            pooled = hidden if sources is None else sources.average(hidden)
            found[layer], reached = F.normalize(pooled.float(), dim=-1), layer
        return torch.stack([found[layer] for layer in layers]) if layers else found[self.depth - 1]

    @override
    def hidden(
        self, features: Tensor, *, generator: torch.Generator | None = None, sources: Sources | None = None
    ) -> Tensor:
        return self._run(self._enter(features), range(self.depth), generator, sources)

    @override
    def parameter_groups(self, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        decayed = {name for name, value in self.named_parameters() if value.ndim > 1 and name.startswith("scales.")}
        groups = group_parameters(
            self,
            [
                ("tokenizer", lambda name: name.startswith("tokenizer."), learning_rate, 0.0),
                ("decayed", lambda name: name in decayed, learning_rate, weight_decay),
                ("plain", lambda _: True, learning_rate, 0.0),
            ],
        )
        return [group for group in groups if group["name"] != "tokenizer"]

    @override
    def checkpoint_activations(self) -> None:
        self.scales.checkpointing = True

    def _enter(self, features: Tensor) -> Tensor:
        sizes = self.tokenizer.sizes
        n_sources = sizes.n_sources or features.shape[1]
        if features.ndim != 4 or features.shape[1] != n_sources or features.shape[3] != sizes.n_dim:
            raise UserError(
                f"latents: expected shape (batch, {n_sources}, steps, {sizes.n_dim}), got"
                f" {tuple(features.shape)}. Pass latents of this model's tokenizer."
            )
        sources_S1D = self.tokenizer.source_features.to(features.device)[:, None]
        out: Tensor = self.projection(features + sources_S1D)
        return out

    def _channels(self, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None) -> Sources | None:
        """Return the sensors of a signal, if each channel is a source."""
        return Sources.of(pos, sensor_type, channel_mask) if self.source_pos is None else None

    def _run(
        self, hidden: Tensor, blocks: range, generator: torch.Generator | None, sources: Sources | None = None
    ) -> Tensor:
        mask = None
        if self.source_pos is not None:
            pos = self.source_pos.expand(len(hidden), -1, -1)
        elif sources is not None:
            pos, mask = sources.pos, sources.mask
        else:
            raise UserError("encoder 'crossscale': each channel is a source; pass the sensors of the tokens")
        out: Tensor = self.scales(hidden, pos, mask, blocks=blocks, generator=generator)
        return out
