"""The cross-scale encoder over the sources of a frozen tokenizer: latent ones, or the channels of any cap.

Shape letters: B batch, C channels, S latent sources, T latent steps, D features.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from emeg.errors import UserError
from emeg.models.crossscale.config import CrossScaleConfig
from emeg.models.crossscale.network import CrossScaleBlocks
from emeg.models.crossscale.source_positions import locate_sources
from emeg.models.encoder_module import MaskedEncoder
from emeg.models.interface import Sources
from emeg.tokenizers.braintokenizer.initialise import RELEASE_STD, initialise_linear
from emeg.tokenizers.interface import Tokenizer, Tokens


class CrossScale(MaskedEncoder):
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
    decayed = "scales."
    config: CrossScaleConfig
    source_pos: Tensor | None

    def __init__(self, config: CrossScaleConfig, tokenizer: Tokenizer) -> None:
        sizes = tokenizer.sizes
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
        return self._embed(latents, self.channel_sources(pos, sensor_type, channel_mask), layers)

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
        self.check_layers(layers)
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
        scale = math.sqrt(sizes.n_dim) if self.config.scaled_features else 1.0
        out: Tensor = self.projection(scale * features + sources_S1D)
        return out

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
