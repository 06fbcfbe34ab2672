"""BrainOmni: a transformer over the latent sources of a frozen BrainTokenizer."""

import tempfile
from collections.abc import Callable, Mapping
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
"""In the place of a code that was not asked for."""
MASK_TOKEN_SHARE = 0.8
"""Of the masked places; the others take another place's feature."""


class PretrainingLosses(NamedTuple):
    """One pretraining step."""

    total: Tensor
    """Cross-entropy over masked places and codebooks, the mean."""
    figures: dict[str, Tensor]
    """Shares of codes found at masked places: ``accuracy`` over all codebooks, ``accuracy_0`` … for each; where
    windows overlap, ``accuracy_overlapped`` at steps whose samples a neighbouring window sees too, and
    ``accuracy_other`` at the others."""


class BrainOmni(nn.Module):
    """Predict masked codes; embed signals (arXiv 2505.18185, section 3.2).

    Arguments `x`, `pos`, `sensor_type` and `channel_mask` are those of `BrainTokenizer`. Q, W and d stand for the
    tokenizer's latent sources, its steps at this model's overlap, and `lm_dim`.

    Parameters
    ----------
    config : BrainOmniConfig
    tokenizer : BrainTokenizer or BrainTokenizerConfig
        A configuration makes a new tokenizer.
    """

    def __init__(self, config: BrainOmniConfig, tokenizer: BrainTokenizer | BrainTokenizerConfig) -> None:
        super().__init__()
        if isinstance(tokenizer, BrainTokenizerConfig):
            tokenizer = BrainTokenizer(tokenizer)
        sizes = tokenizer.config
        if config.num_quantizers_used > sizes.num_quantizers:
            raise UserError(
                f"num_quantizers_used is {config.num_quantizers_used}, but the tokenizer has {sizes.num_quantizers}"
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
        # A small head starts from the loss of equal odds.
        initialise_linear(self.predict_head, "release")
        nn.init.trunc_normal_(self.mask_token, std=RELEASE_STD)

    # Inference

    def embed(self, x: Tensor, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """Embed a signal: the last block's input, brought to length 1, (batch, Q, W, d).

        Deterministic in evaluation mode. The gradient reaches the transformer, not the tokenizer.
        """
        return self.embed_latents(self._features(x, pos, sensor_type, channel_mask))

    def logits(self, x: Tensor, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """Predict codes with nothing masked: (batch, Q, W, quantizers · codes), codebook after codebook."""
        hidden = self._enter(self._features(x, pos, sensor_type, channel_mask))
        out: Tensor = self.predict_head(self._run(hidden, self.config.lm_depth, None))
        return out

    def embed_latents(self, latents: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Embed latents (batch, Q, W, n_dim), quantised or not, differentiably: (batch, Q, W, d).

        Parameters
        ----------
        generator : torch.Generator, optional
            Source of dropout in training mode; PyTorch's own if left out.
        """
        self._check_latents(latents)
        hidden = self._run(self._enter(latents), self.config.lm_depth - 1, generator)
        return F.normalize(hidden.float(), dim=-1)

    # Training

    def pretraining_loss(
        self,
        features: Tensor,
        codes: Tensor,
        *,
        generator: torch.Generator | None = None,
        draws: PretrainingDraws | None = None,
    ) -> PretrainingLosses:
        """Mask places and predict their codes.

        Parameters
        ----------
        features : float32, shape (batch, Q, W, n_dim)
            ``tokenizer.features_from_codes(codes)``.
        codes : int, shape (batch, Q, W, quantizers)
            What `BrainTokenizer.tokenize` gave, at this model's overlap.
        generator : torch.Generator, optional
            Source of masks and dropout; PyTorch's own if left out.
        draws : PretrainingDraws, optional
            Masks, instead of drawing them.
        """
        self._check_latents(features)
        if codes.shape[:3] != features.shape[:3] or codes.shape[-1] < self.config.num_quantizers_used:
            raise UserError(f"codes: {tuple(codes.shape)} does not go with features {tuple(features.shape)}")
        if draws is None:
            shape = (features.shape[0], features.shape[1], features.shape[2])
            draws = draw_pretraining_step(generator, shape=shape, device=features.device)
        masked_BQW = draws.uniform_mask <= self.config.mask_ratio
        hidden = self._enter(self._mask(features, masked_BQW, draws))
        hidden = self._run(hidden, self.config.lm_depth, generator)
        return self._score(hidden, codes[..., : self.config.num_quantizers_used].long(), masked_BQW)

    def _score(self, hidden: Tensor, codes_BQWK: Tensor, masked_BQW: Tensor) -> PretrainingLosses:
        """Ask the head, the widest layer, at masked places only; where counting these would wait, at all places."""
        overlapped_BQW = self.overlapped_steps(masked_BQW.shape[-1], masked_BQW.device).expand_as(masked_BQW)
        if values_at_hand(hidden.device):
            hidden_Pd, codes_PK, overlapped_P = hidden[masked_BQW], codes_BQWK[masked_BQW], overlapped_BQW[masked_BQW]
            counted_P = torch.ones_like(overlapped_P)
        else:
            hidden_Pd, codes_PK = hidden.flatten(0, 2), codes_BQWK.flatten(0, 2)
            overlapped_P, counted_P = overlapped_BQW.flatten(), masked_BQW.flatten()
        logits_PKV = self.predict_head(hidden_Pd).unflatten(-1, (codes_PK.shape[-1], -1)).float()
        wanted_PK = codes_PK.masked_fill(~counted_P[:, None], NOT_COUNTED)
        total = F.cross_entropy(logits_PKV.flatten(0, 1), wanted_PK.flatten(), ignore_index=NOT_COUNTED)
        with torch.no_grad():
            steps = self.overlapped_steps(masked_BQW.shape[-1]).tolist()  # on the CPU, where asking costs nothing
            both = any(steps) and not all(steps)
            figures = self._accuracies(logits_PKV.argmax(dim=-1) == wanted_PK, counted_P, overlapped_P, both=both)
        return PretrainingLosses(total, figures)

    def overlapped_steps(self, n_steps: int, device: torch.device | None = None) -> Tensor:
        """Which of W steps see samples that a step of a neighbouring window sees too: bool (W,)."""
        sizes = self.tokenizer.config
        shared = sizes.window_length - stride_of(sizes.window_length, self.config.overlap_ratio)
        n_shared, per_window = -(-shared // sizes.samples_per_step), sizes.steps_per_window
        step = torch.arange(n_steps, device=device)
        within = step % per_window
        with_last = (within < n_shared) & (step >= per_window)
        with_next = (within >= per_window - n_shared) & (step < n_steps - per_window)
        return with_last | with_next

    def _accuracies(
        self, right_PK: Tensor, counted_P: Tensor, overlapped_P: Tensor, *, both: bool
    ) -> dict[str, Tensor]:
        right_PK, n = right_PK.float(), counted_P.sum()
        right_K = right_PK.sum(dim=0) / n
        figures = {metrics.ACCURACY: right_K.mean()}
        figures |= {metrics.level_accuracy(level): share for level, share in enumerate(right_K.unbind())}
        if both:
            for name, chosen_P in (("overlapped", overlapped_P), ("other", ~overlapped_P)):
                right = (right_PK * chosen_P[:, None]).sum()
                n_chosen = (chosen_P & counted_P).sum() * right_PK.shape[1]
                figures[f"{metrics.ACCURACY}_{name}"] = right / n_chosen.clamp(min=1)
        return figures

    def _mask(self, features: Tensor, masked_BQW: Tensor, draws: PretrainingDraws) -> Tensor:
        with_token_BQW = draws.uniform_mask_token <= MASK_TOKEN_SHARE
        elsewhere = features.flatten(0, 2)[draws.shuffle].view_as(features)
        replaced = torch.where(with_token_BQW[..., None], self.mask_token.to(features.dtype), elsewhere)
        return torch.where(masked_BQW[..., None], replaced, features)

    # Parts

    def _features(self, x: Tensor, pos: Tensor, sensor_type: Tensor, channel_mask: Tensor | None) -> Tensor:
        overlap = self.config.overlap_ratio
        return self.tokenizer.tokenize(x, pos, sensor_type, overlap=overlap, channel_mask=channel_mask).features

    def _enter(self, features: Tensor) -> Tensor:
        neuros_Q1D = self.tokenizer.encoder.neuros.detach()[:, None]
        out: Tensor = self.projection(features + neuros_Q1D)
        return out

    def _run(self, hidden: Tensor, n_blocks: int, generator: torch.Generator | None) -> Tensor:
        rotary = self.rotary(hidden.shape[2], hidden.device)
        for block in self._calls[:n_blocks]:
            if self._checkpointing and self.training and torch.is_grad_enabled():
                hidden = _checkpointed(block, hidden, rotary, generator)
            else:
                hidden = block(hidden, rotary, generator)
        return hidden

    def __getstate__(self) -> dict[str, Any]:
        # A copy compiles anew: what was compiled computes with the weights of the original.
        return {**self.__dict__, "_calls": list(self.blocks)}

    def compile_layers(self, *, backend: str = "inductor") -> None:
        """Compile the blocks when they next run; where there is dropout, its draws stay between compiled pieces."""
        self._calls = [torch.compile(block, dynamic=False, backend=backend) for block in self.blocks]

    def checkpoint_activations(self) -> None:
        """Keep each block's input only and compute the rest twice: less memory, the same numbers, draws included."""
        self._checkpointing = True

    def rotary(self, n_steps: int, device: torch.device) -> Rotary:
        """Tables for attention in time; computed anew each time, so that no cast can reach them."""
        return rotary_tables(n_steps, self.config.lm_dim // 2, mode=self.config.rotary, device=device)

    def _check_latents(self, latents: Tensor) -> None:
        sizes = self.tokenizer.config
        if latents.ndim != 4 or latents.shape[1] != sizes.n_neuro or latents.shape[3] != sizes.n_dim:
            raise UserError(
                f"latents: expected (batch, {sizes.n_neuro}, step, {sizes.n_dim}), got {tuple(latents.shape)}"
            )

    # Files

    def save_pretrained(self, folder: Path, *, provenance: Mapping[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``, the tokenizer's numbers included."""
        save_model(
            folder,
            self.state_dict(),
            kind=KIND,
            config=self.config,
            tokenizer=self.tokenizer.config,
            provenance=provenance,
        )

    def push_to_hub(self, repo: str, *, licence: str = "other", private: bool = True) -> str:
        """Put this model onto a Hugging Face hub as ``organisation/name``; gives the commit. Token: HF_TOKEN."""
        with tempfile.TemporaryDirectory() as name:
            self.save_pretrained(Path(name))
            return upload(Path(name), repo, licence=licence, private=private, message="Model saved by emeg")

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, revision: str | None = None) -> Self:
        """Load what `save_pretrained` wrote, in evaluation mode.

        Parameters
        ----------
        folder : str or Path
            The model's folder, or ``organisation/name`` of a Hugging Face hub (extra ``hub``).
        revision : str, optional
            Branch, tag or commit on the hub.

        Raises
        ------
        UserError
            A file is missing or of another kind, or names or shapes differ from what the configuration asks for.
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
            State dict with the release's names, ``.pt`` (read without pickled code) or ``.safetensors``.
        config : mapping
            The release's configuration: sizes of tokenizer and transformer side by side.

        Raises
        ------
        UserError
            The file is not readable, or names, shapes or settings do not fit; all of them are listed.
        """
        reference = read_reference(Path(weights), config)
        model = cls(reference.config, reference.tokenizer)
        load_strictly(model, reference.state, source=str(weights))
        return model.eval()


def _checkpointed(
    block: Callable[..., Tensor], hidden: Tensor, rotary: Rotary, generator: torch.Generator | None
) -> Tensor:
    """Run a block now and, for its gradient, once more with the same draws."""
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
