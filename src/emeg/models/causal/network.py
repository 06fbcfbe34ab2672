"""The network of the causal transformer: parameters, inputs of tokens, blocks, and logits.

codes ──sequence_of──▶ sequence, identity ──inputs_of──▶ inputs ──run──▶ hidden ──logits_of──▶ logits

The input of a token is the code before it and the identity (source, level) of the token itself; its own code is not
part of it. After FlatGPT (ricsinaruto/brain-gen f785d74, arXiv 2601.20138).

With `linear_taps`, each sample is first predicted linearly from its past (`emeg.models.causal.linear`). The network
reads this prediction and the last innovation, shifts and widens the predicted distribution, and adds its logits to it;
with `heavy_tail`, it also changes the weight and the width of the wide part of that distribution.
With `code_tables`, the logits of the network are added to counted shares of codes (`emeg.models.causal.tables`), with
`latent_prediction` also to scores by a linear prediction of latents (`emeg.models.causal.latents`).

Shape letters: B batch, N tokens, S latent sources, T latent steps, D features, Q quantizer levels, K codes.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.errors import UserError
from emeg.models.causal.blocks import CausalBlock, KeyValueCache
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.latents import build_latents
from emeg.models.causal.linear import LinearPrediction, ScaleChange, build_linear
from emeg.models.causal.sequence import TokenSequence, flatten_codes, rotary_angles
from emeg.models.causal.tables import Position, build_tables, find_pairs
from emeg.models.encoder_module import EncoderModule
from emeg.models.interface import Sources
from emeg.tokenizers.braintokenizer.config import N_TYPES
from emeg.tokenizers.braintokenizer.initialise import initialise_linear
from emeg.tokenizers.braintokenizer.layers import NORM_EPS, SensorEmbedding
from emeg.tokenizers.interface import Tokenizer

IDENTITY_STD = 0.3
"""Standard deviation of the initial vectors of levels and sources. The code before a token tells more."""
N_READ = 3
"""Values of the linear prediction that the network reads: location, logarithm of the scale, last innovation."""
MOST_INNOVATION = 5.0
"""Innovations are read up to this value, so that an outlier does not dominate the input."""


class CausalNetwork(EncoderModule):
    """Compute logits of tokens from the tokens before them.

    Parameters
    ----------
    config : CausalConfig
    tokenizer : Tokenizer
        Frozen tokenizer whose codes it predicts.
    """

    config: CausalConfig

    def __init__(self, config: CausalConfig, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer)
        sizes = tokenizer.sizes
        self.code_embedding = nn.Embedding(sizes.n_levels * sizes.n_codes + 1, config.width)
        self.level_embedding = nn.Embedding(sizes.n_levels, config.width)
        if sizes.n_sources is None:
            self.sensor_embedding = SensorEmbedding(config.width, 0.0, n_types=N_TYPES)
        else:
            self.source_embedding = nn.Embedding(sizes.n_sources, config.width)
        self.blocks = nn.ModuleList(
            CausalBlock(config.width, config.n_head, config.dropout) for _ in range(config.depth)
        )
        self.last_norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.predict_head = nn.Linear(config.width, sizes.n_codes)
        self.linear = build_linear(config, tokenizer)
        if self.linear is not None:
            self.read_linear = nn.Linear(N_READ, config.width, bias=False)
            self.correct_linear = nn.Linear(config.width, 2)
            nn.init.normal_(self.read_linear.weight, std=IDENTITY_STD)
            nn.init.zeros_(self.correct_linear.weight)
            nn.init.zeros_(self.correct_linear.bias)
        if config.heavy_tail:
            self.correct_tail = nn.Linear(config.width, 2)
            nn.init.zeros_(self.correct_tail.weight)
            nn.init.zeros_(self.correct_tail.bias)
        self.tables = build_tables(config, tokenizer)
        if self.tables is not None:
            self.paired_embedding = nn.Embedding(sizes.n_levels * sizes.n_codes + 1, config.width)
            nn.init.normal_(self.paired_embedding.weight)
        self.latents = build_latents(config, tokenizer)
        if self.latents is not None:
            self.read_latent = nn.Linear(sizes.n_dim, config.width, bias=False)
            nn.init.normal_(self.read_latent.weight)  # latents have length 1
        initialise_linear(self.blocks, "emeg")
        initialise_linear(self.predict_head, "release")
        nn.init.normal_(self.code_embedding.weight)  # as large as the embedding of a sensor, which has norm √width
        nn.init.normal_(self.level_embedding.weight, std=IDENTITY_STD)
        if sizes.n_sources is not None:
            nn.init.normal_(self.source_embedding.weight, std=IDENTITY_STD)

    @property
    @override
    def n_features(self) -> int:
        return self.config.width

    @property
    @override
    def depth(self) -> int:
        return self.config.depth

    def context_steps(self, n_sources: int) -> int:
        """Return the number of latent steps that are read together."""
        of_step: int = self.tokenizer.sizes.n_levels * (n_sources if self.config.across_sources else 1)
        return max(2, self.config.context_tokens // of_step)

    def predict_linearly(self, codes: Tensor) -> LinearPrediction | None:
        """Predict every sample linearly from its past, or return None if the network has no linear prediction.

        Parameters
        ----------
        codes : int64, shape (batch, sources, steps, levels)
            Codes of whole segments: the prediction adapts to all that is before a sample.

        Returns
        -------
        LinearPrediction or None
            Each part has shape (batch, sources, steps).
        """
        if self.linear is None:
            return None
        predicted = self.linear(codes[..., 0].flatten(0, 1))
        return LinearPrediction(*(torch.unflatten(part, 0, codes.shape[:2]) for part in predicted))

    def sequence_of(self, codes: Tensor, sources: Sources | None) -> tuple[TokenSequence, Tensor]:
        """Flatten codes into sequences, and return what identifies each token.

        Parameters
        ----------
        codes : int64, shape (batch, sources, steps, levels)
            Codes.
        sources : Sources or None
            Sensors, if each channel is a source.

        Returns
        -------
        tuple of TokenSequence and float, shape (sequences, tokens, width)
            One sequence of each sample, or of each source if each is predicted from its own past; and the sum of the
            vectors of source and level.

        Raises
        ------
        UserError
            Each channel is a source, and `sources` is None.
        """
        mask = None if sources is None else sources.mask
        if self.config.across_sources:
            sequence = flatten_codes(codes, mask)
        else:
            sequence = flatten_codes(codes.flatten(0, 1)[:, None])
            valid = sequence.valid if mask is None else sequence.valid & mask.flatten()[:, None]
            sequence = sequence._replace(valid=valid)
        vectors_BSD = self._source_vectors(codes, sources)
        if self.config.across_sources:
            index = sequence.source[..., None].expand(-1, -1, vectors_BSD.shape[-1])
            of_source = vectors_BSD.gather(1, index)
        else:
            of_source = vectors_BSD.flatten(0, 1)[:, None].expand(-1, sequence.codes.shape[1], -1)
        return sequence, of_source + self.level_embedding(sequence.level)

    def _source_vectors(self, codes: Tensor, sources: Sources | None) -> Tensor:
        if self.tokenizer.sizes.n_sources is not None:
            return self.source_embedding.weight.expand(len(codes), -1, -1)
        if sources is None:
            raise UserError("encoder 'causal': each channel is a source; pass the sensors of the codes")
        pos, types = (part.masked_fill(~mask, 0) for part, mask in _masked(sources))
        embedded: Tensor = self.sensor_embedding(pos.to(self.level_embedding.weight.dtype), types)
        return embedded

    def in_order(self, linear: LinearPrediction | None, sequence: TokenSequence) -> LinearPrediction | None:
        """Return a linear prediction in the order of a sequence.

        Parameters
        ----------
        linear : LinearPrediction or None
            Parts of shape (batch, sources, steps).
        sequence : TokenSequence
            Output of `sequence_of`.

        Returns
        -------
        LinearPrediction or None
            Parts of shape (sequences, tokens).
        """
        if linear is None:
            return None
        if not self.config.across_sources:
            return LinearPrediction(*(part.flatten(0, 1) for part in linear))
        return LinearPrediction(*(part.transpose(1, 2).flatten(1).gather(1, sequence.order) for part in linear))

    def pairs_of(
        self, codes_BN: Tensor, sequence: TokenSequence, n_sources: int, tokens: slice = slice(None)
    ) -> Position | None:
        """Return what counts and the prediction of latents tell of tokens, or None if the network has no tables.

        Parameters
        ----------
        codes_BN : int64, shape (sequences, tokens)
            Codes in the order of the sequence. Only those before a token are read.
        sequence : TokenSequence
            Output of `sequence_of`.
        n_sources : int
            Sources of a sample.
        tokens : slice
            Tokens to return.
        """
        if self.tables is None:
            return None
        in_step = n_sources if self.config.across_sources else 1
        if not self.config.across_sources:  # each sequence has one source
            source = torch.arange(len(codes_BN), device=codes_BN.device) % n_sources
            sequence = sequence._replace(source=source[:, None].expand_as(codes_BN))
        found = find_pairs(codes_BN, sequence, in_step * self.n_levels, tokens)
        return found if self.latents is None else found._replace(remaining=self.latents.remaining(codes_BN, tokens))

    def logits_of(
        self,
        hidden: Tensor,
        linear: LinearPrediction | None,
        pairs: Position | None,
        held: ScaleChange | None = None,
    ) -> Tensor:
        """Return logits of hidden features, added to the corrected linear prediction or to counted shares.

        Parameters
        ----------
        hidden : float, shape (sequences, tokens, width)
            Dimensionless features behind the last block.
        linear : LinearPrediction or None
            Output of `in_order`.
        pairs : Position or None
            Output of `pairs_of`.
        held : ScaleChange, optional
            Change of the linear prediction's scale in place of that of the network.

        Returns
        -------
        float, shape (sequences, tokens, codes)
        """
        hidden = self.last_norm(hidden)
        logits: Tensor = self.predict_head(hidden)
        if self.tables is not None and pairs is not None:
            counted: Tensor = self.tables(pairs)
            if self.latents is not None:
                counted = self.latents(pairs, counted)
            return logits.float() + counted
        if linear is None or self.linear is None:
            return logits
        change = self._scale_change(hidden) if held is None else held
        location = linear.location + self.correct_linear(hidden).float()[..., 0] * linear.scale
        return logits.float() + self.linear.log_shares(location, linear.scale * change.widening.exp(), change.tail)

    def scale_change(self, hidden: Tensor) -> ScaleChange:
        """Return how the network changes the scale and the tail of the linear prediction of tokens.

        Parameters
        ----------
        hidden : float, shape (sequences, tokens, width)
            Dimensionless features behind the last block.
        """
        return self._scale_change(self.last_norm(hidden))

    def _scale_change(self, normed: Tensor) -> ScaleChange:
        tail = self.correct_tail(normed).float() if self.config.heavy_tail else None
        return ScaleChange(self.correct_linear(normed).float()[..., 1], tail)

    def inputs_of(
        self, sequence: TokenSequence, identity: Tensor, linear: LinearPrediction | None, pairs: Position | None
    ) -> Tensor:
        """Return the inputs of tokens: the code before each, its identity, and what the starting point tells of it.

        Parameters
        ----------
        sequence : TokenSequence
            Codes to read, from the first token on.
        identity : float, shape (sequences, tokens, width)
            Output of `sequence_of`, dimensionless.
        linear : LinearPrediction or None
            Output of `in_order`.
        pairs : Position or None
            Output of `pairs_of`.

        Returns
        -------
        float, shape (sequences, tokens, width)
        """
        sizes = self.tokenizer.sizes
        ids = sequence.level * sizes.n_codes + sequence.codes
        begin = torch.full_like(ids[:, :1], sizes.n_levels * sizes.n_codes)
        entered: Tensor = self.code_embedding(torch.cat([begin, ids[:, :-1]], dim=1)) + identity
        return self._read(entered, linear, pairs)

    def next_input(
        self,
        code: Tensor,
        level: Tensor,
        identity: Tensor,
        linear: LinearPrediction | None,
        pairs: Position | None,
    ) -> Tensor:
        """Return the input of one token in each sequence, as `inputs_of` does for all.

        Parameters
        ----------
        code, level : int64, shape (sequences,)
            Code before the token, and the level of that code.
        identity : float, shape (sequences, width)
            Identity of the token, dimensionless.
        linear : LinearPrediction or None
            Linear prediction of the token.
        pairs : Position or None
            Output of `pairs_of` for the token.

        Returns
        -------
        float, shape (sequences, 1, width)
        """
        entered: Tensor = (self.code_embedding(level * self.tokenizer.sizes.n_codes + code) + identity)[:, None]
        return self._read(entered, linear, pairs)

    def _read(self, entered: Tensor, linear: LinearPrediction | None, pairs: Position | None) -> Tensor:
        """Add what the starting point tells of tokens to their input."""
        if pairs is not None:
            ids = torch.where(pairs.paired < 0, -1, pairs.level * self.tokenizer.sizes.n_codes + pairs.paired)
            entered = entered + cast("Tensor", self.paired_embedding(ids % self.paired_embedding.num_embeddings))
            return entered if pairs.remaining is None else entered + cast("Tensor", self.read_latent(pairs.remaining))
        if linear is None:
            return entered
        parts = [linear.location, linear.scale.log(), linear.innovation.clamp(-MOST_INNOVATION, MOST_INNOVATION)]
        return entered + cast("Tensor", self.read_linear(torch.stack(parts, dim=-1).to(self.read_linear.weight.dtype)))

    def angles_of(self, sequence: TokenSequence) -> Tensor:
        """Return the rotation angles of tokens, radians: float32, shape (sequences, tokens, features of a head / 2)."""
        head_dim = self.config.width // self.config.n_head
        return rotary_angles(sequence.time, sequence.source, sequence.level, head_dim)

    def run(
        self,
        hidden: Tensor,
        angles: Tensor,
        *,
        generator: torch.Generator | None = None,
        caches: Sequence[KeyValueCache] = (),
    ) -> Tensor:
        """Run all blocks: float, shape (sequences, tokens, width).

        Parameters
        ----------
        hidden : float, shape (sequences, tokens, width)
            Inputs of tokens, dimensionless.
        angles : float32, shape (sequences, tokens, features of a head / 2)
            Output of `angles_of`, radians.
        generator : torch.Generator, optional
            Source of the dropout draws in training mode.
        caches : sequence of KeyValueCache
            Keys and values of earlier tokens, one for each block; empty: there are no earlier tokens.
        """
        for number, block in enumerate(self.blocks):
            hidden = block(hidden, angles, generator, caches[number] if caches else None)
        return hidden


def _masked(sources: Sources) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return (sources.pos, sources.mask[..., None]), (sources.sensor_type, sources.mask)
