"""Train an encoder on stored tokens: what the training process does.

Shape letters: B batch, S latent sources, T latent steps, D features, Q quantizer levels.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emeg import metrics
from emeg.data import Corpus, MicroBatch, SamplingPlan, TokenSet
from emeg.errors import UserError
from emeg.models import BrainOmni, EncoderModule, Sources, build_objective
from emeg.models.conformance import check_encoder, check_objective
from emeg.models.encoder_module import overlap_of
from emeg.plugins import blaming, create, default_objective, title_of
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.tokenizers.interface import Tokenizer, Tokens, load_tokenizer
from emeg.training.configs import PretrainConfig, TrainResult, token_sampling
from emeg.training.device import is_gpu
from emeg.training.loop.batches import Filler, TokenBatch, TokenReader, token_batches
from emeg.training.loop.fit import adjust, carry_out
from emeg.training.loop.history import History
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.publish import name_recordings
from emeg.training.loop.rank import find_run
from emeg.training.loop.speed import brainomni_operations
from emeg.training.product_names import encoder_name, encoder_network
from emeg.training.tracking.probe import make_probes
from emeg.training.warm_start import begin_from, prepare_new

PREPARATION_SEGMENTS = 128
"""Most training segments that an encoder is fitted to before its first step."""
PREPARATION_BATCH = 16
TRIAL_WINDOWS = 4
"""Windows on which an encoder is tried before its first step, if each channel is a source; all of them otherwise."""

logger = logging.getLogger(__name__)


class EncoderTraining(Training):
    """Prediction of codes, by the encoder's objective, from features that the frozen codebooks give back exactly."""

    network: EncoderModule
    verb = "pretrain"

    def __init__(self, network: EncoderModule, *, objective: str = "", **rest: Any) -> None:  # noqa: ANN401 - of `Training`
        super().__init__(network, **rest)
        self._objective = objective
        self.title = title_of("encoder", network.kind)
        if network.objective is None:
            network.objective = build_objective(default_objective(network.kind), {}, encoder=network)
        # a fixed list: ranks add theirs up, and one of them may have seen nothing
        self._names = network.objective.metric_names(network)
        self._seen = torch.zeros(len(self._names), 2, dtype=self._width)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Compute the loss of one micro-batch."""
        loss, terms = self._predict(batch, self.draw(batch.step, batch.micro_batch))
        self.count(batch.step, batch.segments, loss, terms)
        return loss

    def operations(self, batch: TokenBatch) -> float:
        """Count the operations of a BrainOmni and its gradient; 0 for other encoders, whose formula is not known."""
        if not isinstance(self.network, BrainOmni):
            return 0.0
        sizes = self.network.tokenizer.sizes
        per_segment = brainomni_operations(self.network.config, sizes, n_steps=batch.codes.shape[2])
        return len(batch.segments) * per_segment

    def validation_step(self, batch: TokenBatch | Filler, batch_idx: int) -> None:
        """Predict with the same positions masked in every validation: the draws are those of step 0."""
        if isinstance(batch, Filler):
            if self.is_sharded:
                self._predict(batch.batch, self.draw(0, 0))
            return
        loss, terms = self._predict(batch, self.draw(0, batch.micro_batch))
        values = {metrics.LOSS: loss, **terms}
        n = len(batch.segments)
        self._seen = self._seen.to(self.device, self._width)  # one copy to the host at the end, not one for each batch
        for index, name in enumerate(self._names):
            if name in values:
                self._seen[index, 0] += values[name].detach().to(self._seen.dtype) * n
                self._seen[index, 1] += n

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write config.json and model.safetensors."""
        self.network.save_pretrained(folder, provenance=provenance)

    def on_validation_epoch_end(self) -> None:
        """Pool ranks and record."""
        sums = self.add_up(self._seen).tolist()
        self._seen = torch.zeros_like(self._seen)
        means = {name: total / n for name, (total, n) in zip(self._names, sums, strict=True) if n > 0}
        self.record(self.split, means, step=self.trainer.global_step)
        self.log("validation/loss", means[metrics.LOSS], logger=False, batch_size=1, sync_dist=True)

    def _predict(self, batch: TokenBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        kind, objective = self.network.kind, self._objective
        with (
            blaming("encoder", kind, "the loss"),
            blaming("objective", objective, "loss"),
            self.naming(batch.step, batch.segments),
        ):
            features_BSTD = self.network.tokenizer.features_from_codes(batch.codes)
            losses = self.network.pretraining_loss(
                features_BSTD, batch.codes, generator=generator, sources=_sources_of(batch)
            )
        return losses.total, losses.figures


def _sources_of(batch: TokenBatch) -> Sources | None:
    if batch.pos is None or batch.sensor_type is None or batch.source_mask is None:
        return None
    return Sources(batch.pos, batch.sensor_type, batch.source_mask)


def fit_pretraining(config: PretrainConfig, *, progress: Progress = silent) -> TrainResult:
    """Train in this process (one of the ranks, where there are several) and publish the model."""
    store = Store.open(config.root)
    tokens = TokenSet.open(store, config.tokens)
    corpus = Corpus.open(store, tokens.corpus)
    config = config.model_copy(update={"tokens": tokens.name})
    if config.objective_options.get("mask_by") == "region":
        corpus.add_regions(store)
    name = encoder_name(config)
    run = find_run(config, name, os.environ)
    sampling = token_sampling(config, corpus.n_samples / corpus.sfreq)
    plan = SamplingPlan(corpus, sampling, channels=1)
    return carry_out(
        config,
        store,
        corpus,
        name,
        run,
        plan=plan,
        reader=TokenReader(tokens, corpus, pinned=is_gpu(config.device)),
        build=lambda n_steps, history: encoder_training(config, store, tokens, corpus, n_steps, history),
        choose=lambda split, limit: token_batches(corpus, split, limit, config.batch_segments),
        monitor=("validation/loss", "min"),
        inputs={"tokens": tokens.name, "tokenizer": tokens.tokenizer},
        progress=progress,
        probes=make_probes(config, store, corpus),
    )


def training_tokens(tokens: TokenSet, corpus: Corpus, tokenizer: Tokenizer) -> Iterator[Tokens]:
    """Yield training segments that an encoder may be fitted to before its first step.

    At most `PREPARATION_SEGMENTS` segments are read, spread over the corpus, so that all ranks fit the same.

    Yields
    ------
    Tokens
        Codes and features. If each channel is a source, a batch is one segment with the channels that are there.
    """
    channels = corpus.column("channels")
    rows = np.flatnonzero(corpus.column("split") == "train")
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, PREPARATION_SEGMENTS).round().astype(int))]
    for part in np.array_split(chosen, -(-len(chosen) // PREPARATION_BATCH)):
        codes = torch.from_numpy(tokens.codes[part].astype(np.int64))
        features = tokenizer.features_from_codes(codes)
        if not tokens.by_channel:
            yield Tokens(features, codes)
            continue
        for row, *own in zip(part.tolist(), features, codes, strict=True):
            yield Tokens(*(values[None, : int(channels[row])] for values in own))


def _trial(tokens: TokenSet, corpus: Corpus, tokenizer: Tokenizer) -> tuple[Tokens, Sources | None]:
    """Read the tokens of one training segment, and the sensors if each channel is a source."""
    row = int(np.flatnonzero(corpus.column("split") == "train")[0])
    batch = TokenReader(tokens, corpus).read(MicroBatch((row,), (0,), corpus.n_samples))
    n_steps = TRIAL_WINDOWS * tokenizer.sizes.steps_per_window if tokens.by_channel else None
    codes_BSTQ = batch.codes[:, :, :n_steps]
    return Tokens(tokenizer.features_from_codes(codes_BSTQ), codes_BSTQ), _sources_of(batch)


def encoder_training(
    config: PretrainConfig, store: Store, tokens: TokenSet, corpus: Corpus, n_steps: int, history: History
) -> EncoderTraining:
    """Build the module: new weights on the frozen tokenizer that wrote the tokens.

    Raises
    ------
    UserError
        The overlap of the tokens differs from that of the network, or the encoder does not fit the tokenizer or the
        objective.
    """
    sizes: Any = encoder_network(config)
    overlap = overlap_of(sizes, config.encoder)
    if overlap != tokens.overlap:
        raise UserError(
            f"tokens {tokens.name} have overlap {tokens.overlap}, the network overlap_ratio={overlap}; pass"
            f" --overrides '{{\"overlap_ratio\": {tokens.overlap}}}', or run `emeg tokenize --overlap {overlap}`"
        )
    tokenizer = load_tokenizer(store.local_copy("models", tokens.tokenizer))
    tokenizer.requires_grad_(requires_grad=False)
    torch.manual_seed(config.seed)
    network: EncoderModule = create("encoder", config.encoder, EncoderModule, sizes, tokenizer)
    network.train()
    objective = config.objective or default_objective(config.encoder)
    network.objective = build_objective(objective, config.objective_options, encoder=network)
    lineage = begin_from(network, config, store, role="encoder")
    with blaming("encoder", config.encoder, "prepare"):
        prepare_new(network, lineage, lambda: network.prepare(training_tokens(tokens, corpus, tokenizer)))
    trial = _trial(tokens, corpus, tokenizer)
    check_encoder(network, *trial)
    check_objective(objective, network, *trial)
    adjust(network, config)
    tokenizer.eval()
    return EncoderTraining(
        network,
        objective=objective,
        groups=network.parameter_groups(
            learning_rate=config.optimiser.learning_rate, weight_decay=config.optimiser.weight_decay
        ),
        optimiser=config.optimiser,
        n_steps=n_steps,
        seed=config.seed,
        log_every=config.log_every,
        history=history,
        describe=lambda segments: name_recordings(corpus, segments),
        lineage=lineage,
    )
