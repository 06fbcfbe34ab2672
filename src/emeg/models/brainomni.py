"""BrainOmni: a transformer over the latent sources of a frozen BrainTokenizer.

Shape letters: B batch, S latent sources, T latent steps, D features, Q quantizer levels.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from emeg import metrics
from emeg.errors import UserError
from emeg.models.blocks import Block
from emeg.models.config import BrainOmniConfig
from emeg.models.draws import PretrainingDraws, draw_pretraining_step
from emeg.models.hub import resolve, upload
from emeg.models.reference import read_reference
from emeg.models.rotary import Rotary, rotary_tables
from emeg.tokenizers.braintokenizer.checks import values_at_hand
from emeg.tokenizers.braintokenizer.config import BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.initialise import RELEASE_STD, initialise_linear
from emeg.tokenizers.braintokenizer.model import BrainTokenizer
from emeg.tokenizers.braintokenizer.pretrained import load_strictly, load_weights, read_card, save_model
from emeg.tokenizers.braintokenizer.windows import stride_of

KIND = "brainomni"
NOT_COUNTED = -100
"""Marks codes that are not predicted."""
MASK_TOKEN_SHARE = 0.8
"""Share of the masked tokens that become the mask token; the others take the features of another token."""


class PretrainingLosses(NamedTuple):
    """Loss and metrics of one pretraining step."""

    total: Tensor
    """Mean cross-entropy over masked tokens and codebooks."""
    figures: dict[str, Tensor]
    """Shares of correctly predicted codes of masked tokens: ``accuracy`` over all codebooks, ``accuracy_0`` … for each.
    If windows overlap, also ``accuracy_overlapped`` for steps whose samples a neighbouring window repeats, and
    ``accuracy_other`` for the other steps."""


class BrainOmni(nn.Module):
    """Predict masked codes, and embed signals (arXiv 2505.18185, section 3.2).

    Sources are the latent sources of the tokenizer; steps are its latent steps at the overlap of this model.

    Parameters
    ----------
    config : BrainOmniConfig
    tokenizer : BrainTokenizer or BrainTokenizerConfig
        From a configuration, a new tokenizer is initialised.
    """

    def __init__(self, config: BrainOmniConfig, tokenizer: BrainTokenizer | BrainTokenizerConfig) -> None:
        super().__init__()
        if isinstance(tokenizer, BrainTokenizerConfig):
            tokenizer = BrainTokenizer(tokenizer)
        sizes = tokenizer.config
        if config.num_quantizers_used > sizes.num_quantizers:
            raise UserError(
                f"num_quantizers_used is {config.num_quantizers_used}, but the tokenizer has {sizes.num_quantizers}."
                " Set it to at most that number."
            )
        self.config = config
        self.tokenizer = tokenizer
        self.mask_token = nn.Parameter(torch.empty(sizes.n_dim))
        same = sizes.n_dim == config.lm_dim
        self.projection = nn.Identity() if same else nn.Linear(sizes.n_dim, config.lm_dim)
        self.blocks = nn.ModuleList(
            Block(config.lm_dim, config.lm_head, config.lm_dropout) for _ in range(config.lm_depth)
        )
        self._calls: list[Callable[..., Tensor]] = list(self.blocks)
        self._checkpointing = False
        self.predict_head = nn.Linear(config.lm_dim, config.num_quantizers_used * sizes.codebook_size)
        self._initialise()

    def _initialise(self) -> None:
        scheme = self.config.initialisation
        for part in (self.projection, self.blocks):
            initialise_linear(part, scheme)
        # A head of small weights starts from the loss of equal probabilities.
        initialise_linear(self.predict_head, "release")
        nn.init.trunc_normal_(self.mask_token, std=RELEASE_STD)

    # Inference

    def embed(
        self,
        x: Tensor,
        pos: Tensor,
        sensor_type: Tensor,
        channel_mask: Tensor | None = None,
        *,
        layers: Sequence[int] = (),
    ) -> Tensor:
        """Embed a signal as the input of the last block, scaled to length 1.

        The result is deterministic in evaluation mode. The gradient reaches the transformer but not the tokenizer.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        sensor_type : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.
        layers : sequence of int
            Layers to return instead; see `embed_latents`.

        Returns
        -------
        float32, shape (batch, sources, steps, lm_dim)
        """
        return self.embed_latents(self._features(x, pos, sensor_type, channel_mask), layers=layers)

    def logits(self, x: Tensor, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """Predict the codes of a signal with no token masked.

        Parameters
        ----------
        x : float, shape (batch, channels, samples)
            Output of `normalise_signal`, dimensionless.
        pos : float, shape (batch, channels, 6)
            Normalised positions and orientations, dimensionless.
        sensor_type : int, shape (batch, channels)
            Codes: 0 EEG, 1 magnetometer, 2 gradiometer.
        channel_mask : bool, shape (batch, channels), optional
            True for real channels.

        Returns
        -------
        float, shape (batch, sources, steps, levels · codes)
            Logits, codebook after codebook.
        """
        hidden = self._enter(self._features(x, pos, sensor_type, channel_mask))
        out: Tensor = self.predict_head(self._run(hidden, range(self.config.lm_depth), None))
        return out

    def embed_latents(
        self, latents: Tensor, *, generator: torch.Generator | None = None, layers: Sequence[int] = ()
    ) -> Tensor:
        """Embed latents. Differentiable.

        Parameters
        ----------
        latents : float, shape (batch, sources, steps, n_dim)
            Dimensionless features of the tokenizer, quantized or not.
        generator : torch.Generator, optional
            Source of the dropout draws in training mode; PyTorch's default generator if omitted.
        layers : sequence of int
            Number of blocks behind each embedding, from 0 to ``lm_depth``; their results are stacked in front. Empty:
            the embedding of the last block but one, not stacked.

        Returns
        -------
        float32, shape (batch, sources, steps, lm_dim) or (layers, batch, sources, steps, lm_dim)

        Raises
        ------
        UserError
            There is no such layer.
        """
        self._check_latents(latents)
        depth = self.config.lm_depth
        if wrong := [layer for layer in layers if not 0 <= layer <= depth]:
            raise UserError(
                f"layers: {wrong[0]} is outside 0 to {depth}, the number of blocks of this model; choose one of them"
            )
        hidden = self._enter(latents)
        if not layers:
            return F.normalize(self._run(hidden, range(depth - 1), generator).float(), dim=-1)
        found: dict[int, Tensor] = {}
        reached = 0
        for layer in sorted(set(layers)):
            hidden = self._run(hidden, range(reached, layer), generator)
            found[layer], reached = F.normalize(hidden.float(), dim=-1), layer
        return torch.stack([found[layer] for layer in layers])

    # Training

    def pretraining_loss(
        self,
        features: Tensor,
        codes: Tensor,
        *,
        generator: torch.Generator | None = None,
        draws: PretrainingDraws | None = None,
    ) -> PretrainingLosses:
        """Mask tokens, predict their codes and compute the loss.

        Parameters
        ----------
        features : float32, shape (batch, sources, steps, n_dim)
            The features ``tokenizer.features_from_codes(codes)``.
        codes : int, shape (batch, sources, steps, levels)
            Codes of `BrainTokenizer.tokenize` at the overlap of this model.
        generator : torch.Generator, optional
            Source of masks and, on a CPU, of dropout; PyTorch's default generator if omitted. Elsewhere dropout draws
            from the device's default generator, as fused kernels do: seed it for each micro-batch.
        draws : PretrainingDraws, optional
            Masks, instead of drawing them.
        """
        self._check_latents(features)
        if codes.shape[:3] != features.shape[:3] or codes.shape[-1] < self.config.num_quantizers_used:
            raise UserError(
                f"codes: shape {tuple(codes.shape)} does not match features {tuple(features.shape)} and"
                f" num_quantizers_used {self.config.num_quantizers_used}. Pass codes and features of the same segments."
            )
        if draws is None:
            shape = (features.shape[0], features.shape[1], features.shape[2])
            draws = draw_pretraining_step(generator, shape=shape, device=features.device)
        masked_BST = draws.uniform_mask <= self.config.mask_ratio
        hidden = self._enter(self._mask(features, masked_BST, draws))
        drawn = generator if hidden.device.type == "cpu" else None
        hidden = self._run(hidden, range(self.config.lm_depth), drawn)
        return self._score(hidden, codes[..., : self.config.num_quantizers_used].long(), masked_BST)

    def _score(self, hidden: Tensor, codes_BSTQ: Tensor, masked_BST: Tensor) -> PretrainingLosses:
        """Compute loss and metrics. The head runs on masked tokens, or on all where counting them would synchronise."""
        overlapped_BST = self.overlapped_steps(masked_BST.shape[-1], masked_BST.device).expand_as(masked_BST)
        if values_at_hand(hidden.device):
            hidden_masked, codes_masked, overlapped_masked = (
                hidden[masked_BST],
                codes_BSTQ[masked_BST],
                overlapped_BST[masked_BST],
            )
            counted = torch.ones_like(overlapped_masked)
        else:
            hidden_masked, codes_masked = hidden.flatten(0, 2), codes_BSTQ.flatten(0, 2)
            overlapped_masked, counted = overlapped_BST.flatten(), masked_BST.flatten()
        logits_masked = self.predict_head(hidden_masked).unflatten(-1, (codes_masked.shape[-1], -1)).float()
        wanted = codes_masked.masked_fill(~counted[:, None], NOT_COUNTED)
        total = F.cross_entropy(logits_masked.flatten(0, 1), wanted.flatten(), ignore_index=NOT_COUNTED)
        with torch.no_grad():
            steps = self.overlapped_steps(masked_BST.shape[-1]).tolist()  # on the CPU, which synchronises nothing
            both = any(steps) and not all(steps)
            figures = self._accuracies(logits_masked.argmax(dim=-1) == wanted, counted, overlapped_masked, both=both)
        return PretrainingLosses(total, figures)

    def overlapped_steps(self, n_steps: int, device: torch.device | None = None) -> Tensor:
        """Return which steps cover samples that a neighbouring window repeats: bool, shape (steps,)."""
        sizes = self.tokenizer.config
        shared = sizes.window_length - stride_of(sizes.window_length, self.config.overlap_ratio)
        n_shared, per_window = -(-shared // sizes.samples_per_step), sizes.steps_per_window
        step = torch.arange(n_steps, device=device)
        within = step % per_window
        with_last = (within < n_shared) & (step >= per_window)
        with_next = (within >= per_window - n_shared) & (step < n_steps - per_window)
        return with_last | with_next

    def _accuracies(
        self, right_masked: Tensor, counted: Tensor, overlapped_masked: Tensor, *, both: bool
    ) -> dict[str, Tensor]:
        right_masked, n = right_masked.float(), counted.sum()
        right_Q = right_masked.sum(dim=0) / n
        figures = {metrics.ACCURACY: right_Q.mean()}
        figures |= {metrics.level_accuracy(level): share for level, share in enumerate(right_Q.unbind())}
        if both:
            for name, chosen in (("overlapped", overlapped_masked), ("other", ~overlapped_masked)):
                right = (right_masked * chosen[:, None]).sum()
                n_chosen = (chosen & counted).sum() * right_masked.shape[1]
                figures[f"{metrics.ACCURACY}_{name}"] = right / n_chosen.clamp(min=1)
        return figures

    def _mask(self, features: Tensor, masked_BST: Tensor, draws: PretrainingDraws) -> Tensor:
        with_token_BST = draws.uniform_mask_token <= MASK_TOKEN_SHARE
        elsewhere = features.flatten(0, 2)[draws.shuffle].view_as(features)
        replaced = torch.where(with_token_BST[..., None], self.mask_token.to(features.dtype), elsewhere)
        return torch.where(masked_BST[..., None], replaced, features)

    # Parts

    def _features(self, x: Tensor, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None) -> Tensor:
        overlap = self.config.overlap_ratio
        return self.tokenizer.tokenize(x, pos, sensor_type, overlap=overlap, channel_mask=channel_mask).features

    def _enter(self, features: Tensor) -> Tensor:
        neuros = self.tokenizer.encoder.neuros.detach()[:, None]
        out: Tensor = self.projection(features + neuros)
        return out

    def _run(self, hidden: Tensor, blocks: range, generator: torch.Generator | None) -> Tensor:
        rotary = self.rotary(hidden.shape[2], hidden.device)
        for block in self._calls[blocks.start : blocks.stop]:
            if self._checkpointing and self.training and torch.is_grad_enabled():
                hidden = _checkpointed(block, hidden, rotary, generator)
            else:
                hidden = block(hidden, rotary, generator)
        return hidden

    def __getstate__(self) -> dict[str, Any]:
        # A copy compiles again: compiled code computes with the weights of the original.
        return {**self.__dict__, "_calls": list(self.blocks)}

    def compile_layers(self, *, backend: str = "inductor") -> None:
        """Compile the blocks at their next call. Dropout draws stay outside the compiled code."""
        self._calls = [torch.compile(block, dynamic=False, backend=backend) for block in self.blocks]

    def checkpoint_activations(self) -> None:
        """Recompute the blocks in the backward pass from their inputs: less memory, the same numbers."""
        self._checkpointing = True

    def rotary(self, n_steps: int, device: torch.device) -> Rotary:
        """Compute the tables for attention over time, at each call, so that no cast of the model changes them."""
        return rotary_tables(n_steps, self.config.lm_dim // 2, mode=self.config.rotary, device=device)

    def _check_latents(self, latents: Tensor) -> None:
        sizes = self.tokenizer.config
        if latents.ndim != 4 or latents.shape[1] != sizes.n_neuro or latents.shape[3] != sizes.n_dim:
            raise UserError(
                f"latents: expected shape (batch, {sizes.n_neuro}, steps, {sizes.n_dim}), got {tuple(latents.shape)}."
                " Pass latents of this model's tokenizer."
            )

    # Files

    def save_pretrained(self, folder: Path, *, provenance: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``, including the weights of the tokenizer."""
        save_model(
            folder,
            self.state_dict(),
            kind=KIND,
            config=self.config,
            tokenizer=self.tokenizer.config,
            provenance=provenance,
        )

    def push_to_hub(self, repo: str, *, licence: str = "other", private: bool = True) -> str:
        """Upload this model to a Hugging Face hub as ``organisation/name`` and return the commit. Token: HF_TOKEN."""
        with tempfile.TemporaryDirectory() as name:
            self.save_pretrained(Path(name))
            return upload(Path(name), repo, licence=licence, private=private, message="Model saved by emeg")

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, revision: str | None = None) -> Self:
        """Load a model folder written by `save_pretrained`, in evaluation mode.

        Parameters
        ----------
        folder : str or Path
            Folder of the model, or ``organisation/name`` on a Hugging Face hub (extra ``hub``).
        revision : str, optional
            Branch, tag or commit on the hub.

        Raises
        ------
        UserError
            A file is missing or of another kind, or names or shapes do not match the configuration.
        """
        folder = resolve(folder, revision=revision)
        card = read_card(folder, KIND)
        source = f"{folder}/config.json"
        config = BrainOmniConfig.checked(card["config"], source=f"{source}: config")
        tokenizer = BrainTokenizerConfig.checked(card.get("tokenizer", {}), source=f"{source}: tokenizer")
        model = cls(config, tokenizer)
        load_strictly(model, load_weights(folder), source=str(folder))
        return model.eval()

    @classmethod
    def from_reference(cls, weights: Path, config: Mapping[str, Any]) -> Self:
        """Load weights of the reference release, in evaluation mode.

        Parameters
        ----------
        weights : Path
            State dict with the names of the release: ``.pt`` (read without pickled code) or ``.safetensors``.
        config : mapping
            Configuration of the release: sizes of tokenizer and transformer in one mapping.

        Raises
        ------
        UserError
            The file is not readable, or names, shapes or settings do not match; all of them are listed.
        """
        reference = read_reference(Path(weights), config)
        model = cls(reference.config, reference.tokenizer)
        load_strictly(model, reference.state, source=str(weights))
        return model.eval()


def _checkpointed(
    block: Callable[..., Tensor], hidden: Tensor, rotary: Rotary, generator: torch.Generator | None
) -> Tensor:
    """Run a block, and once more with the same draws in the backward pass."""
    if generator is None:
        again: Tensor = checkpoint(block, hidden, rotary, None, use_reentrant=False)
        return again
    start = generator.get_state()
    sources = [generator]

    def run(x: Tensor) -> Tensor:
        source = sources.pop() if sources else torch.Generator(generator.device).set_state(start)
        return block(x, rotary, source)

    out: Tensor = checkpoint(run, hidden, use_reentrant=False, preserve_rng_state=False)
    return out
