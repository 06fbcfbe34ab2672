"""A transformer that predicts each token from those before it.

codes ──flatten──▶ sequence (time, source, level) ──blocks──▶ hidden ──predict_head──▶ logits of each token
prompt ──blocks, cache of keys and values──▶ next token ──▶ … ──▶ continuation

The input of a token is the code before it and the identity (source, level) of the token itself; its own code is not
part of it. After FlatGPT (ricsinaruto/brain-gen f785d74, arXiv 2601.20138).

With `linear_taps`, each sample is first predicted linearly from its past (`emeg.models.causal.linear`). The network
reads this prediction and the last innovation, shifts and widens the predicted distribution, and adds its logits to it;
with `heavy_tail`, it also changes the weight and the width of the wide part of that distribution.
With `code_tables`, the logits of the network are added to counted shares of codes (`emeg.models.causal.tables`), with
`latent_prediction` also to scores by a linear prediction of latents (`emeg.models.causal.latents`).

Shape letters: B batch, N tokens, S latent sources, T latent steps, D features, Q quantizer levels, K codes.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.errors import UserError
from emeg.models.causal.blocks import CausalBlock, KeyValueCache
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.drawing import Draws, mixing
from emeg.models.causal.latents import build_latents, vectors_of_codes
from emeg.models.causal.linear import LinearPrediction, LinearState, build_linear
from emeg.models.causal.sequence import TokenSequence, flatten_codes, rotary_angles
from emeg.models.causal.tables import Position, build_tables, find_pairs
from emeg.models.encoder_module import EncoderModule
from emeg.models.interface import Sources
from emeg.tokenizers.braintokenizer.config import N_TYPES
from emeg.tokenizers.braintokenizer.initialise import initialise_linear
from emeg.tokenizers.braintokenizer.layers import NORM_EPS, SensorEmbedding
from emeg.tokenizers.interface import Tokenizer, Tokens

IDENTITY_STD = 0.3
"""Standard deviation of the initial vectors of levels and sources. The code before a token tells more."""
N_READ = 3
"""Values of the linear prediction that the network reads: location, logarithm of the scale, last innovation."""
TOKENS_AT_ONCE = 4096
"""Tokens that are embedded together: the features of more do not fit into the cache, which costs 1.5 times the time."""
MOST_INNOVATION = 5.0
"""Innovations are read up to this value, so that an outlier does not dominate the input."""


class CausalTransformer(EncoderModule):
    """Predict the next token, embed signals, and continue recordings.

    Latents are quantized before they are embedded, so that no gradient reaches the tokenizer. By default the embedding
    is that of the last block, averaged over levels. If each channel is a source, it is averaged over channels too, and
    `embed_latents`, which gets no sensors, raises a UserError.

    Parameters
    ----------
    config : CausalConfig
    tokenizer : Tokenizer
        Frozen tokenizer whose codes it predicts.
    """

    kind = "causal"
    fitted = (
        *("linear.gram", "linear.cross", "linear.power", "linear.mixture.values"),
        *("tables.by_source", "tables.pairs", "tables.smoothing"),
        *(f"latents.{name}" for name in ("vectors", "constant", "before", "same", "table_weight", "inverse")),
    )
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

    # Training

    @override
    def prepare(self, batches: Iterable[Tokens]) -> None:
        if self.linear is not None:
            self.linear.fit_prior(batch.codes[..., 0].flatten(0, 1) for batch in batches)
        elif self.tables is not None:
            segments = [codes.long() for batch in batches for codes in batch.codes]
            self.tables.fit(segments)
            if self.latents is not None:
                self.latents.fit(segments, vectors_of_codes(self.tokenizer), self.tables)

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

    def logits(
        self,
        codes: Tensor,
        sources: Sources | None = None,
        *,
        inputs: Tensor | None = None,
        linear: LinearPrediction | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, TokenSequence]:
        """Predict every token from those before it.

        Parameters
        ----------
        codes : int64, shape (batch, sources, steps, levels)
            Codes.
        sources : Sources, optional
            Sensors, if each channel is a source.
        inputs : int64, shape (batch, sources, steps, levels), optional
            Codes to read instead of `codes`.
        linear : LinearPrediction, optional
            Linear prediction of `codes`, if it was made of a longer past; computed from `codes` otherwise.
        generator : torch.Generator, optional
            Source of the dropout draws.

        Returns
        -------
        tuple of (float, shape (sequences, tokens, codes)) and TokenSequence
            Logits, and the codes that they predict, in the same order.
        """
        sequence, identity = self._sequence(codes, sources)
        read = sequence if inputs is None else self._sequence(inputs, sources)[0]
        linear = self._in_order(self.predict_linearly(codes) if linear is None else linear, sequence)
        pairs = self._pairs(read.codes, sequence, codes.shape[1])
        hidden = self._run(self._inputs(read, identity, linear, pairs), self._angles(sequence), generator=generator)
        return self._head(hidden, linear, pairs), sequence

    # Inference

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
        # codes are inputs of this encoder: the gradient ends at its own weights
        del overlap, check_values
        return self.embed(x, pos, sensor_type, channel_mask, layers=layers)

    @override
    def embed_tokens(self, tokens: Tokens, sources: Sources | None = None, *, layers: Sequence[int] = ()) -> Tensor:
        return self.embed_codes(tokens.codes, sources, layers=layers)

    @override
    def embed_latents(
        self, latents: Tensor, *, generator: torch.Generator | None = None, layers: Sequence[int] = ()
    ) -> Tensor:
        if self.tokenizer.sizes.n_sources is None:
            raise UserError(
                "encoder 'causal': each channel is a source, and latents alone do not tell its sensor; call embed or"
                " embed_tokens with the sensors"
            )
        return self.embed_codes(self.tokenizer.quantize(latents), generator=generator, layers=layers)

    def embed_codes(
        self,
        codes: Tensor,
        sources: Sources | None = None,
        *,
        generator: torch.Generator | None = None,
        layers: Sequence[int] = (),
    ) -> Tensor:
        """Embed codes as features scaled to length 1, averaged over levels and, if they are channels, over sources.

        Parameters
        ----------
        codes : int64, shape (batch, sources, steps, levels)
            Codes.
        sources : Sources, optional
            Sensors, if each channel is a source.
        generator : torch.Generator, optional
            Source of the dropout draws in training mode.
        layers : sequence of int
            See `embed_latents`.

        Returns
        -------
        float32, shape (batch, sources, steps, width) or (layers, batch, sources, steps, width)
        """
        self.check_layers(layers)
        linear, length = self.predict_linearly(codes), self.context_steps(codes.shape[1])
        parts = [
            self._embed_part(
                codes[:, :, start : start + length],
                None if linear is None else linear.cut(start, start + length),
                sources,
                generator,
                tuple(layers) or (self.depth,),
            )
            for start in range(0, codes.shape[2], length)
        ]
        found = nn.functional.normalize(torch.cat(parts, dim=3).float(), dim=-1)
        return found if layers else found[0]

    def _embed_part(
        self,
        codes: Tensor,
        linear: LinearPrediction | None,
        sources: Sources | None,
        generator: torch.Generator | None,
        layers: tuple[int, ...],
    ) -> Tensor:
        """Return (layers, batch, sources, steps, width) of a part that fits into the context."""
        sequence, identity = self._sequence(codes, sources)
        pairs = self._pairs(sequence.codes, sequence, codes.shape[1])
        hidden = self._inputs(sequence, identity, self._in_order(linear, sequence), pairs)
        n_rows = len(hidden) if self.training else max(1, TOKENS_AT_ONCE // hidden.shape[1])
        rows = zip(torch.split(hidden, n_rows), torch.split(self._angles(sequence), n_rows), strict=True)
        stacked = torch.cat([self._run_layers(*some, generator, layers) for some in rows], dim=1)
        order = sequence.order.expand(len(layers), -1, -1)[..., None].expand_as(stacked)
        flat = torch.zeros_like(stacked).scatter(2, order, stacked)
        batch, n_sources, n_steps, n_levels = codes.shape
        if self.config.across_sources:
            grid = torch.unflatten(flat, 2, (n_steps, n_sources, n_levels)).mean(dim=4).transpose(2, 3)
        else:
            grid = torch.unflatten(torch.unflatten(flat, 2, (n_steps, n_levels)).mean(dim=3), 1, (batch, n_sources))
        if sources is None:
            return grid
        return sources.average(grid)

    def _run_layers(
        self, hidden: Tensor, angles: Tensor, generator: torch.Generator | None, layers: tuple[int, ...]
    ) -> Tensor:
        """Return the features behind each of the layers: (layers, sequences, tokens, width)."""
        found = {0: hidden}
        for number, block in enumerate(self.blocks[: max(layers)], 1):  # later blocks are not asked for
            found[number] = block(found[number - 1], angles, generator)
        return torch.stack([found[layer] for layer in layers])

    # Generation

    @torch.no_grad()
    def continue_codes(
        self,
        codes: Tensor,
        n_steps: int,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        sources: Sources | None = None,
    ) -> Tensor:
        """Draw the codes of further latent steps, one token after the other.

        Whenever the context is full, its later half is read again as the prompt of the next tokens.

        Parameters
        ----------
        codes : int64, shape (batch, sources, steps, levels)
            Codes of the prompt. All sources are there.
        n_steps : int
            Latent steps to draw.
        generator : torch.Generator
            Source of the draws, on the CPU.
        temperature : float
            Divides the logits; 0 takes the most likely code.
        top_p : float
            Draw from the most likely codes whose probabilities together reach this value.
        sources : Sources, optional
            Sensors, if each channel is a source.

        Returns
        -------
        int64, shape (batch, sources, n_steps, levels)
        """
        n_prompt, limit = codes.shape[2], self.context_steps(codes.shape[1])
        draws = Draws(generator, temperature, top_p)
        linear = None if self.linear is None else LinearState(self.linear, codes)
        if linear is not None and not self.config.across_sources:
            draws = draws._replace(mixing=mixing(linear.innovations))
        grown = codes
        while grown.shape[2] < n_prompt + n_steps:
            start = max(0, grown.shape[2] - limit // 2)
            n_new = min(limit - (grown.shape[2] - start), n_prompt + n_steps - grown.shape[2])
            new = self._continue_part(grown, start, n_new, sources, linear, draws)
            grown = torch.cat([grown, new], dim=2)
        return grown[:, :, n_prompt:]

    def _continue_part(
        self,
        grown: Tensor,
        start: int,
        n_new: int,
        sources: Sources | None,
        linear: LinearState | None,
        draws: Draws,
    ) -> Tensor:
        """Draw `n_new` steps after all codes, of which the network reads those from `start` on."""
        codes = grown[:, :, start:]
        batch, n_sources, n_before, n_levels = codes.shape
        blank = torch.cat([codes, codes.new_zeros(batch, n_sources, n_new, n_levels)], dim=2)
        sequence, identity = self._sequence(blank, sources)
        in_step = n_sources if self.config.across_sources else 1
        of_step = n_levels * in_step
        first, total = n_before * of_step, sequence.codes.shape[1]
        caches = [KeyValueCache(total) for _ in self.blocks]
        angles, filled = self._angles(sequence), sequence.codes.clone()
        predicted = None if linear is None else linear.of_prompt(grown, start, in_step)
        paired = self._pairs(filled, sequence, n_sources, slice(0, first + 1))
        prompt = self._inputs(sequence.cut(0, first + 1), identity[:, : first + 1], predicted, paired)
        hidden = self._run(prompt, angles[:, : first + 1], caches=caches)[:, -1:]
        for index in range(first, total):
            here = None if linear is None else linear.predict(index % in_step, in_step)
            paired = self._pairs(filled, sequence, n_sources, slice(index, index + 1))
            drawn = draws.draw(self._head(hidden, here, paired)[:, 0])
            filled[:, index] = drawn
            if linear is not None:
                linear.add(drawn, index % in_step, in_step)
            if index + 1 < total:
                following = None if linear is None else linear.predict((index + 1) % in_step, in_step)
                paired = self._pairs(filled, sequence, n_sources, slice(index + 1, index + 2))
                token = self._token(drawn, sequence.level[:, index], identity[:, index + 1], following, paired)
                hidden = self._run(token, angles[:, index + 1 : index + 2], caches=caches)
        grid = filled[:, first:]
        if self.config.across_sources:
            return torch.unflatten(grid, 1, (n_new, n_sources, n_levels)).transpose(1, 2)
        return torch.unflatten(torch.unflatten(grid, 1, (n_new, n_levels)), 0, (batch, n_sources))

    # Parts

    def _sequence(self, codes: Tensor, sources: Sources | None) -> tuple[TokenSequence, Tensor]:
        """Flatten codes, and return what identifies each token: float, shape (sequences, tokens, width)."""
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

    def _in_order(self, linear: LinearPrediction | None, sequence: TokenSequence) -> LinearPrediction | None:
        """Return a linear prediction in the order of a sequence: (sequences, tokens)."""
        if linear is None:
            return None
        if not self.config.across_sources:
            return LinearPrediction(*(part.flatten(0, 1) for part in linear))
        return LinearPrediction(*(part.transpose(1, 2).flatten(1).gather(1, sequence.order) for part in linear))

    def _pairs(
        self, codes_BN: Tensor, sequence: TokenSequence, n_sources: int, tokens: slice = slice(None)
    ) -> Position | None:
        """Return what counts and the prediction of latents tell of tokens, or None if the network has no tables."""
        if self.tables is None:
            return None
        in_step = n_sources if self.config.across_sources else 1
        if not self.config.across_sources:  # each sequence has one source
            source = torch.arange(len(codes_BN), device=codes_BN.device) % n_sources
            sequence = sequence._replace(source=source[:, None].expand_as(codes_BN))
        found = find_pairs(codes_BN, sequence, in_step * self.n_levels, tokens)
        return found if self.latents is None else found._replace(remaining=self.latents.remaining(codes_BN, tokens))

    def _head(self, hidden: Tensor, linear: LinearPrediction | None, pairs: Position | None) -> Tensor:
        """Return logits of hidden features, added to the corrected linear prediction or to counted shares."""
        hidden = self.last_norm(hidden)
        logits: Tensor = self.predict_head(hidden)
        if self.tables is not None and pairs is not None:
            counted: Tensor = self.tables(pairs)
            if self.latents is not None:
                counted = self.latents(pairs, counted)
            return logits.float() + counted
        if linear is None or self.linear is None:
            return logits
        shift, widening = self.correct_linear(hidden).float().unbind(-1)
        location = linear.location + shift * linear.scale
        change = self.correct_tail(hidden).float() if self.config.heavy_tail else None
        return logits.float() + self.linear.log_shares(location, linear.scale * widening.exp(), change)

    def _inputs(
        self, sequence: TokenSequence, identity: Tensor, linear: LinearPrediction | None, pairs: Position | None
    ) -> Tensor:
        """Add the code before each token, its linear prediction and its paired code to its identity."""
        sizes = self.tokenizer.sizes
        ids = sequence.level * sizes.n_codes + sequence.codes
        begin = torch.full_like(ids[:, :1], sizes.n_levels * sizes.n_codes)
        entered: Tensor = self.code_embedding(torch.cat([begin, ids[:, :-1]], dim=1)) + identity
        return self._read(entered, linear, pairs)

    def _token(
        self,
        code: Tensor,
        level: Tensor,
        identity: Tensor,
        linear: LinearPrediction | None,
        pairs: Position | None,
    ) -> Tensor:
        """Return the input of one token from the code before it, (sequences, 1, width)."""
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

    def _angles(self, sequence: TokenSequence) -> Tensor:
        head_dim = self.config.width // self.config.n_head
        return rotary_angles(sequence.time, sequence.source, sequence.level, head_dim)

    def _run(
        self,
        hidden: Tensor,
        angles: Tensor,
        *,
        generator: torch.Generator | None = None,
        caches: Sequence[KeyValueCache] = (),
    ) -> Tensor:
        for number, block in enumerate(self.blocks):
            hidden = block(hidden, angles, generator, caches[number] if caches else None)
        return hidden


def _masked(sources: Sources) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return (sources.pos, sources.mask[..., None]), (sources.sensor_type, sources.mask)
