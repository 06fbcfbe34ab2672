"""A transformer that predicts each token from those before it.

codes ──network──▶ logits of each token
prompt ──network, one token after the other──▶ continuation

`emeg.models.causal.network` states how the network is built.

Shape letters: B batch, N tokens, S latent sources, T latent steps, D features, Q quantizer levels, K codes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from emeg.errors import UserError
from emeg.models.causal.continuing import continue_codes
from emeg.models.causal.latents import vectors_of_codes
from emeg.models.causal.linear import LinearPrediction
from emeg.models.causal.network import CausalNetwork
from emeg.models.causal.sequence import TokenSequence
from emeg.models.interface import Sources
from emeg.tokenizers.interface import Tokens

TOKENS_AT_ONCE = 4096
"""Tokens that are embedded together: the features of more do not fit into the cache, which costs 1.5 times the time."""


class CausalTransformer(CausalNetwork):
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
        sequence, identity = self.sequence_of(codes, sources)
        read = sequence if inputs is None else self.sequence_of(inputs, sources)[0]
        linear = self.in_order(self.predict_linearly(codes) if linear is None else linear, sequence)
        pairs = self.pairs_of(read.codes, sequence, codes.shape[1])
        hidden = self.run(self.inputs_of(read, identity, linear, pairs), self.angles_of(sequence), generator=generator)
        return self.logits_of(hidden, linear, pairs), sequence

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
        sequence, identity = self.sequence_of(codes, sources)
        pairs = self.pairs_of(sequence.codes, sequence, codes.shape[1])
        hidden = self.inputs_of(sequence, identity, self.in_order(linear, sequence), pairs)
        n_rows = len(hidden) if self.training else max(1, TOKENS_AT_ONCE // hidden.shape[1])
        rows = zip(torch.split(hidden, n_rows), torch.split(self.angles_of(sequence), n_rows), strict=True)
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

    def continue_codes(
        self,
        codes: Tensor,
        n_steps: int,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        sources: Sources | None = None,
        hold_scale: bool = False,
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
        hold_scale : bool
            Hold the scale of each source, and the tail of its distribution, at their average over the prompt. Without
            effect on a network without a linear prediction of samples.

        Returns
        -------
        int64, shape (batch, sources, n_steps, levels)
        """
        return continue_codes(
            self,
            codes,
            n_steps,
            generator=generator,
            temperature=temperature,
            top_p=top_p,
            sources=sources,
            hold_scale=hold_scale,
        )
