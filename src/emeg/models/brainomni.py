"""BrainOmni: a transformer over the latent sources of a frozen BrainTokenizer.

Shape letters: B batch, S latent sources, T latent steps, W windows, D features, Q quantizer levels.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from emeg.errors import UserError
from emeg.models.blocks import Block
from emeg.models.config import BrainOmniConfig
from emeg.models.encoder_module import MaskedEncoder
from emeg.models.hub import upload
from emeg.models.parameters import parameter_groups
from emeg.models.reference import read_reference
from emeg.models.rotary import Rotary, rotary_tables
from emeg.models.window_power import WindowPower, log_power, waveform_bands, waveform_power
from emeg.tokenizers.braintokenizer.config import BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.initialise import RELEASE_STD, initialise_linear
from emeg.tokenizers.braintokenizer.model import BrainTokenizer
from emeg.tokenizers.braintokenizer.pretrained import load_strictly
from emeg.tokenizers.interface import Tokenizer, TokenizerModule, Tokens

KIND = "brainomni"
SOURCE_STD = 0.3
"""Standard deviation of the initial vectors of the sources, where tokens are windows."""


class BrainOmni(MaskedEncoder):
    """Predict masked codes, and embed signals (arXiv 2505.18185, section 3.2).

    Sources are the latent sources of the tokenizer; steps are its latent steps at the overlap of this model, or its
    windows if `token` is window or waveform.

    Parameters
    ----------
    config : BrainOmniConfig
    tokenizer : Tokenizer or BrainTokenizerConfig
        From the configuration of a BrainTokenizer, a new one is initialised.
    """

    kind = KIND
    fitted: ClassVar[tuple[str, ...]] = ("window_power.centre", "window_power.spread")
    config: BrainOmniConfig

    def __init__(self, config: BrainOmniConfig, tokenizer: Tokenizer | BrainTokenizerConfig) -> None:
        if isinstance(tokenizer, BrainTokenizerConfig):
            tokenizer = BrainTokenizer(tokenizer)
        sizes = tokenizer.sizes
        if sizes.n_sources is None:
            raise UserError(
                "encoder 'brainomni': the tokenizer has a source for each channel, and this encoder needs the same"
                " number of sources for every device; choose another tokenizer, or the encoder 'causal'"
            )
        super().__init__(config, tokenizer)
        self.window_power = _window_power(config, tokenizer)
        n_entry = sizes.n_dim if self.window_power is None else self.window_power.n_values
        self.mask_token = nn.Parameter(torch.empty(sizes.n_dim if self.window_power is None else config.lm_dim))
        same = n_entry == config.lm_dim
        self.projection = nn.Identity() if same else nn.Linear(n_entry, config.lm_dim)
        if self.window_power is not None:
            self.source_token = nn.Parameter(SOURCE_STD * torch.randn(sizes.n_sources, 1, config.lm_dim))
        self.blocks = nn.ModuleList(
            Block(config.lm_dim, config.lm_head, config.lm_dropout) for _ in range(config.lm_depth)
        )
        self._calls: list[Callable[..., Tensor]] = list(self.blocks)
        self._checkpointing = False
        n_predicted = config.num_quantizers_used * sizes.n_codes if self.window_power is None else n_entry
        self.predict_head = nn.Linear(config.lm_dim, n_predicted)
        self._initialise()

    def _initialise(self) -> None:
        scheme = self.config.initialisation
        for part in (self.projection, self.blocks):
            initialise_linear(part, scheme)
        # A head of small weights starts from the loss of equal probabilities.
        initialise_linear(self.predict_head, "release")
        nn.init.trunc_normal_(self.mask_token, std=RELEASE_STD)

    @property
    @override
    def n_features(self) -> int:
        return self.config.lm_dim

    @property
    @override
    def depth(self) -> int:
        return self.config.lm_depth

    # Inference

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

        Raises
        ------
        UserError
            The model predicts no codes.
        """
        if self.window_power is not None:
            raise UserError("logits: a model with tokens of windows predicts power, not codes; use `embed`")
        tokens = self.tokenizer.tokenize(
            x, pos, sensor_type, overlap=self.config.overlap_ratio, channel_mask=channel_mask
        )
        hidden = self._enter(tokens.features)
        out: Tensor = self.predict_head(self._run(hidden, range(self.config.lm_depth), None))
        return out

    @override
    def embed_latents(
        self, latents: Tensor, *, generator: torch.Generator | None = None, layers: Sequence[int] = ()
    ) -> Tensor:
        self._check_latents(latents)
        self.check_layers(layers)
        hidden = self._enter(latents)
        if not layers:
            return F.normalize(self._run(hidden, range(self.depth - 1), generator).float(), dim=-1)
        found: dict[int, Tensor] = {}
        reached = 0
        for layer in sorted(set(layers)):
            hidden = self._run(hidden, range(reached, layer), generator)
            found[layer], reached = F.normalize(hidden.float(), dim=-1), layer
        return torch.stack([found[layer] for layer in layers])

    # Training

    @override
    def hidden(self, features: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        self._check_latents(features)
        return self._run(self._enter(features), range(self.config.lm_depth), generator)

    def hidden_windows(
        self, tokens_BSWD: Tensor, masked_BSW: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Run all blocks on tokens of windows, some of them masked: float, shape (batch, sources, windows, lm_dim).

        Parameters
        ----------
        tokens_BSWD : float32, shape (batch, sources, windows, values)
            Output of `window_power`, dimensionless.
        masked_BSW : bool, shape (batch, sources, windows)
            Tokens that the mask token replaces.
        generator : torch.Generator, optional
            Source of the dropout draws in training mode.
        """
        entered = torch.where(masked_BSW[..., None], self.mask_token, self.projection(tokens_BSWD))
        return self._run(entered + self.source_token, range(self.config.lm_depth), generator)

    @override
    def prepare(self, batches: Iterable[Tokens]) -> None:
        if self.window_power is not None:
            self.window_power.fit(batch.features for batch in batches)

    @override
    def parameter_groups(self, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        return parameter_groups(self, learning_rate=learning_rate, weight_decay=weight_decay)

    # Parts

    def _enter(self, features: Tensor) -> Tensor:
        if self.window_power is not None:
            entered: Tensor = self.projection(self.window_power(features)) + self.source_token
            return entered
        sources_S1D = self.tokenizer.source_features.to(features.device)[:, None]
        if self.config.scaled_features:
            features = math.sqrt(features.shape[-1]) * features
        out: Tensor = self.projection(features + sources_S1D)
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

    @override
    def compile_layers(self, *, backend: str = "inductor") -> None:
        self._calls = [torch.compile(block, dynamic=False, backend=backend) for block in self.blocks]

    @override
    def checkpoint_activations(self) -> None:
        self._checkpointing = True

    def rotary(self, n_steps: int, device: torch.device) -> Rotary:
        """Compute the tables for attention over time, at each call, so that no cast of the model changes them."""
        return rotary_tables(n_steps, self.config.lm_dim // 2, mode=self.config.rotary, device=device)

    def _check_latents(self, latents: Tensor) -> None:
        sizes = self.tokenizer.sizes
        if latents.ndim != 4 or latents.shape[1] != sizes.n_sources or latents.shape[3] != sizes.n_dim:
            raise UserError(
                f"latents: expected shape (batch, {sizes.n_sources}, steps, {sizes.n_dim}), got {tuple(latents.shape)}."
                " Pass latents of this model's tokenizer."
            )

    # Files

    def push_to_hub(self, repo: str, *, licence: str = "other", private: bool = True) -> str:
        """Upload this model to a Hugging Face hub as ``organisation/name`` and return the commit. Token: HF_TOKEN."""
        with tempfile.TemporaryDirectory() as name:
            self.save_pretrained(Path(name))
            return upload(Path(name), repo, licence=licence, private=private, message="Model saved by emeg")

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


def _window_power(config: BrainOmniConfig, tokenizer: Tokenizer) -> WindowPower | None:
    sizes = tokenizer.sizes
    if config.token == "window":
        values = partial(log_power, steps_per_window=sizes.steps_per_window)
        return WindowPower(sizes.n_dim * (sizes.steps_per_window // 2 + 1), values)
    if config.token == "waveform":
        if not (isinstance(tokenizer, TokenizerModule) and tokenizer.has_waveforms):
            raise UserError(
                "token 'waveform': the sources of this tokenizer have no waveforms. Choose a BrainTokenizer with a"
                " leadfield (recipe braintokenizer-emeg-nano), or token 'window'."
            )
        return WindowPower(len(waveform_bands(sizes.window_length)), partial(_waveform_values, tokenizer))
    return None


def _waveform_values(tokenizer: TokenizerModule, features_BSTD: Tensor) -> Tensor:
    return waveform_power(tokenizer.waveforms(features_BSTD))


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
