"""Train BrainOmni on stored tokens: what the training process does."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emeg.data import Corpus, SamplingConfig, SamplingPlan, TokenSet
from emeg.errors import UserError
from emeg.models import BrainOmni, PretrainRecipe, parameter_groups
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.training.configs import OptimiserConfig, PretrainConfig, TrainResult
from emeg.training.history import History
from emeg.training.loading import FixedLoader, StepLoader, TokenBatch, TokenReader, token_batches
from emeg.training.modules import Training
from emeg.training.names import brainomni_name, brainomni_network
from emeg.training.place import find_place
from emeg.training.products import name_recordings, publish
from emeg.training.running import final_figures, fit, make_trainer
from emeg.training.speed import brainomni_operations

logger = logging.getLogger(__name__)

FINAL_SPLITS = ("validation", "held_out")
"""Splits of the final figures; the second is looked at only here."""


class BrainOmniTraining(Training):
    """Masked prediction of codes from features that the frozen codebooks give back exactly."""

    network: BrainOmni
    verb = "pretrain"
    title = "BrainOmni"

    def __init__(self, network: BrainOmni, **rest: Any) -> None:  # noqa: ANN401 - of `Training`
        super().__init__(network, **rest)
        levels = [f"accuracy_{level}" for level in range(network.config.num_quantizers_used)]
        # a fixed list: ranks add theirs up, and one of them may have seen nothing
        self._names = ("loss", "accuracy", *levels, "accuracy_overlapped", "accuracy_other")
        self._seen = torch.zeros(len(self._names), 2, dtype=torch.float64)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Give the loss of one micro-batch."""
        loss, figures = self._predict(batch, self.draw(batch.step, batch.micro_batch))
        self.count(batch.step, batch.segments, loss, figures)
        return loss

    def operations(self, batch: TokenBatch) -> float:
        """Products of transformer and gradient."""
        sizes = self.network.tokenizer.config
        per_segment = brainomni_operations(self.network.config, sizes, n_steps=batch.codes.shape[2])
        return len(batch.segments) * per_segment

    def validation_step(self, batch: TokenBatch | None, batch_idx: int) -> None:
        """Predict with the same places masked in every validation: the draws are those of step 0."""
        if batch is None:
            return
        loss, figures = self._predict(batch, self.draw(0, batch.micro_batch))
        values = {"loss": loss, **figures}
        n = len(batch.segments)
        for place, name in enumerate(self._names):
            if name in values:
                self._seen[place] += torch.tensor([float(values[name]) * n, n], dtype=torch.float64)

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write config.json and model.safetensors."""
        self.network.save_pretrained(folder, provenance=provenance)

    def on_validation_epoch_end(self) -> None:
        """Pool ranks and record."""
        sums = self.add_up(self._seen).tolist()
        self._seen = torch.zeros_like(self._seen)
        means = {name: total / n for name, (total, n) in zip(self._names, sums, strict=True) if n > 0}
        self.record(self.split, means, step=self.trainer.global_step)
        self.log("validation/loss", means["loss"], logger=False, batch_size=1, sync_dist=True)

    def _predict(self, batch: TokenBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        with self.naming(batch.step, batch.segments):
            features_BQWD = self.network.tokenizer.features_from_codes(batch.codes)
            losses = self.network.pretraining_loss(features_BQWD, batch.codes, generator=generator)
        return losses.total, losses.figures


def fit_pretraining(config: PretrainConfig, *, progress: Progress = silent) -> TrainResult:
    """Train in this process (one of the ranks, where there are several) and publish the model."""
    store = Store.open(config.root)
    tokens = TokenSet.open(store, config.tokens)
    corpus = Corpus.open(store, tokens.corpus)
    config = config.model_copy(update={"tokens": tokens.name})
    name = brainomni_name(config)
    place = find_place(config, name, os.environ)
    # a segment's codes have one size whatever its channels: batches are counted in segments
    segment_s = corpus.n_samples / corpus.sfreq
    sampling = SamplingConfig(
        seed=config.seed,
        budget_channel_seconds=config.batch_segments * segment_s,
        micro_batches=config.micro_batches,
        weights=config.weights,
    )
    plan = SamplingPlan(corpus, sampling, channels=1)
    n_steps = config.total_steps(plan.n_steps())
    module = brainomni_training(config, store, tokens, corpus, n_steps, History(place.metrics_file))
    trainer = make_trainer(
        config,
        place,
        n_steps=n_steps,
        micro_batches=config.micro_batches,
        monitor=("validation/loss", "min"),
        progress=progress,
    )
    reader = TokenReader(tokens)

    def look_at(split: str, limit: int) -> FixedLoader:
        return FixedLoader(token_batches(corpus, split, limit, config.batch_segments), reader, place)

    train = StepLoader(plan, reader, n_steps=n_steps, place=place)
    fit(trainer, module, train, look_at("validation", config.validation_segments), config=config, place=place)
    final = {split: look_at(split, config.final_segments) for split in FINAL_SPLITS}
    figures = final_figures(trainer, module, final, keep=config.keep)
    inputs = {"tokens": tokens.name, "tokenizer": tokens.tokenizer}
    return publish(store, name, trainer, module, place, corpus=corpus, config=config, figures=figures, inputs=inputs)


def brainomni_training(
    config: PretrainConfig, store: Store, tokens: TokenSet, corpus: Corpus, n_steps: int, history: History
) -> BrainOmniTraining:
    """Build the module: new weights on the frozen tokenizer that wrote the tokens.

    Raises
    ------
    UserError
        The tokens have another overlap than the network is told of.
    """
    sizes = brainomni_network(config)
    if sizes.overlap_ratio != tokens.overlap:
        raise UserError(
            f"tokens {tokens.name} have overlap {tokens.overlap}, the network overlap_ratio={sizes.overlap_ratio};"
            f" pass overrides overlap_ratio={tokens.overlap}, or tokenize with the other"
        )
    tokenizer = BrainTokenizer.from_pretrained(store.local_copy("models", tokens.tokenizer))
    tokenizer.requires_grad_(requires_grad=False)
    torch.manual_seed(config.seed)
    network = BrainOmni(sizes, tokenizer).train()
    if config.compile:
        network.compile_layers()
    if config.checkpoint_activations:
        network.checkpoint_activations()
    tokenizer.eval()
    return BrainOmniTraining(
        network,
        groups=parameter_groups(network, _adamw(config.optimiser)),
        optimiser=config.optimiser,
        n_steps=n_steps,
        seed=config.seed,
        log_every=config.log_every,
        history=history,
        describe=lambda segments: name_recordings(corpus, segments),
    )


def _adamw(config: OptimiserConfig) -> PretrainRecipe:
    return PretrainRecipe(
        learning_rate=config.learning_rate, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )
