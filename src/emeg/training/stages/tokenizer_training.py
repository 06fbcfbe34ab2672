"""Train a tokenizer on a corpus: what the training process does.

Shape letters: B batch, C channels, N samples, W windows, L samples in a window, S latent sources, T latent steps,
D features.
"""

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from emeg import metrics
from emeg.data import BatchReader, Corpus, MicroBatch, SamplingPlan
from emeg.plugins import blaming, name_plugin, title_of
from emeg.progress import Progress, silent
from emeg.store import Store
from emeg.tokenizers.braintokenizer import BrainTokenizer, normalise_signal
from emeg.tokenizers.conformance import check_tokenizer, loss_terms
from emeg.tokenizers.interface import TokenizerModule, build_tokenizer
from emeg.training.configs import TrainResult, TrainTokenizerConfig
from emeg.training.device import is_gpu
from emeg.training.loop.batches import (
    Filler,
    SignalBatch,
    SignalReader,
    fixed_batches,
    keep_channels,
    signal_batch,
    widen,
)
from emeg.training.loop.fit import adjust, carry_out
from emeg.training.loop.history import History
from emeg.training.loop.lightning_module import Training
from emeg.training.loop.publish import name_recordings
from emeg.training.loop.rank import find_run
from emeg.training.loop.schedule import loss_ramp
from emeg.training.loop.speed import n_windows_of, tokenizer_operations
from emeg.training.product_names import tokenizer_name, tokenizer_network
from emeg.training.stages.tokenizer_metrics import Group, ReconstructionMetrics, collapse_metrics, plateau
from emeg.training.tracking.probe import make_probes
from emeg.training.warm_start import begin_from, prepare_new

PREPARATION_SEGMENTS = 32
"""Most training segments of each device that a tokenizer is fitted to before its first step."""

logger = logging.getLogger(__name__)


class TokenizerTraining(Training):
    """Masked, noisy reconstruction; codebooks follow their running means once a micro-batch."""

    network: TokenizerModule
    verb = "train-tokenizer"

    def __init__(
        self,
        network: TokenizerModule,
        *,
        reconstruction: ReconstructionMetrics,
        group_of: Sequence[Group],
        ramp_steps: int,
        max_channels: int | None,
        late_channels: int | None = None,
        late_step: int = 0,
        **rest: Any,  # noqa: ANN401 - of `Training`
    ) -> None:
        super().__init__(network, **rest)
        self.title = title_of("tokenizer", network.kind)
        self._who = name_plugin("tokenizer", network.kind)
        self._reconstruction = reconstruction
        self._group_of = group_of
        self._ramp_steps = ramp_steps
        self._max_channels = max_channels
        self._late_channels = late_channels
        self._late_step = late_step

    def training_step(self, batch: SignalBatch, batch_idx: int) -> Tensor:
        """Compute the loss of one micro-batch."""
        generator = self.draw(batch.step, batch.micro_batch)
        # normalised with all channels, as it will be when the model is used
        batch = batch._replace(signal=self._normalised(batch))
        if self._max_channels is not None:
            shown = self._max_channels
            late = self._late_channels or 0
            if late > shown and batch.step >= self._late_step:
                batch, shown = widen(batch, shown, late), late
            batch = keep_channels(batch, shown, generator)
        with blaming("tokenizer", self.network.kind, "training_loss"), self.naming(batch.step, batch.segments):
            losses = self.network.training_loss(
                batch.signal,
                batch.pos,
                batch.sensor_type,
                batch.channel_mask,
                generator=generator,
                loss_ramp=loss_ramp(batch.step, self._ramp_steps),
                follow=False,
            )
        terms = loss_terms(losses, who=self._who)
        loss = terms.pop("total")
        self.count(batch.step, batch.segments, loss, terms)
        return loss

    def _normalised(self, batch: SignalBatch) -> Tensor:
        return normalise_signal(
            batch.signal, batch.sensor_type, batch.channel_mask, intracranial=self.network.intracranial
        )

    def follow(self) -> None:
        """Update the codebooks from all micro-batches of the step, on all ranks."""
        self.network.update_codebooks()

    def monitor(self) -> dict[str, float]:
        """Return the use of codes and the similarity of latents since the last log, over all ranks."""
        watched = self.network.watched()
        self.network.watch_on({})
        if watched:
            watched["latents"] = self.add_up(watched["latents"])
        return collapse_metrics(watched)

    def operations(self, batch: SignalBatch) -> float:
        """Count the operations of a BrainTokenizer and its gradient; 0 for others, whose formula is not known."""
        if not isinstance(self.network, BrainTokenizer):
            return 0.0
        sizes, channels = self.network.config, batch.sensor_type.shape[1]
        if self._max_channels is not None:
            channels = min(channels, self._max_channels)
        n_seen = channels - max(1, int(channels * sizes.hidden_ratio))
        n_windows = n_windows_of(sizes, batch.signal.shape[-1])
        per_segment = tokenizer_operations(sizes, n_seen=n_seen, n_channels=channels, n_windows=n_windows)
        return len(batch.segments) * per_segment

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the monitor's counts since the last log."""
        super().on_save_checkpoint(checkpoint)
        watched = self.network.watched()
        checkpoint["emeg"]["watched"] = {name: value.cpu() for name, value in watched.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the monitor's counts."""
        super().on_load_checkpoint(checkpoint)
        self.network.watch_on(checkpoint["emeg"].get("watched", {}))

    def move_state(self) -> None:
        """Move the monitor's counts to the device too."""
        super().move_state()
        watched = self.network.watched()
        self.network.watch_on({name: value.to(self.device) for name, value in watched.items()})

    def validation_step(self, batch: SignalBatch | Filler, batch_idx: int) -> None:
        """Reconstruct whole segments, nothing hidden, no noise."""
        is_filler = isinstance(batch, Filler)
        if isinstance(batch, Filler):
            batch = cast("SignalBatch", batch.batch)
        if is_filler and not self.is_sharded:
            return
        x_BCN = self._normalised(batch)
        given = (x_BCN, batch.pos, batch.sensor_type)
        with blaming("tokenizer", self.network.kind, "reconstruct"):
            latents_BSTD = self.network.encode_latents(*given, overlap=0.0, channel_mask=batch.channel_mask)
            made_BCWL = self.network.reconstruct(*given, channel_mask=batch.channel_mask)
        if is_filler:
            return
        self._reconstruction.add(
            [self._group_of[segment] for segment in batch.segments],
            made_BCWL,
            self.network.targets(x_BCN),
            self.network.quantize(latents_BSTD),
            latents_BSTD,
            batch.channel_mask,
        )

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write config.json and model.safetensors."""
        self.network.save_pretrained(folder, provenance=provenance)

    def on_validation_epoch_end(self) -> None:
        """Pool ranks, record, and warn if the tokenizer has not left the plateau."""
        self._reconstruction.pool(self.add_up)
        found = self._reconstruction.metrics()
        self._reconstruction.reset()
        self.record(self.split, found, step=self.trainer.global_step)
        self.log("validation/pcc", found[metrics.PCC], logger=False, batch_size=1, sync_dist=True)
        missing = plateau(found, n_codes=self.network.sizes.n_codes)
        if missing and self.network.learns and self.trainer.global_step >= self._ramp_steps:
            logger.warning(
                "step %d: the tokenizer is on a plateau (%s); if it stays there, change the learning rate or the ramp",
                self.trainer.global_step,
                missing,
            )


def fit_tokenizer(config: TrainTokenizerConfig, *, progress: Progress = silent) -> TrainResult:
    """Train in this process (one of the ranks, where there are several) and publish the model."""
    store = Store.open(config.root)
    corpus = Corpus.open(store, config.corpus)
    config = config.model_copy(update={"corpus": corpus.name})
    if getattr(tokenizer_network(config), "needs_regions", False):
        corpus.add_regions(store)
    name = tokenizer_name(config)
    run = find_run(config, name, os.environ)
    return carry_out(
        config,
        store,
        corpus,
        name,
        run,
        plan=SamplingPlan(corpus, config.sampling),
        reader=SignalReader(BatchReader.configured(corpus, config.sampling), pinned=is_gpu(config.device)),
        build=lambda n_steps, history: tokenizer_training(config, corpus, n_steps, history),
        choose=lambda split, limit: fixed_batches(corpus, split, config.sampling, limit),
        monitor=("validation/pcc", "max"),
        inputs={},
        progress=progress,
        probes=make_probes(config, store, corpus),
    )


class TrainingSegments:
    """Training segments that a tokenizer may be fitted to before its first step.

    At most `PREPARATION_SEGMENTS` segments of every device are read, spread over the training subjects, anew in each
    iteration. The choice depends on the corpus only, so that all ranks fit the same.
    """

    def __init__(self, corpus: Corpus) -> None:
        devices, subjects = corpus.column("device"), corpus.column("subject")
        training = np.flatnonzero(corpus.column("split") == "train")
        self._corpus = corpus
        self.rows: list[int] = []
        for device in np.unique(devices[training]):
            own = training[devices[training] == device]
            own = own[np.argsort(subjects[own], kind="stable")]
            chosen = np.unique(np.linspace(0, len(own) - 1, PREPARATION_SEGMENTS).round().astype(int))
            self.rows += own[chosen].tolist()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Read the segments one by one.

        Yields
        ------
        tuple of tensors
            Normalised signal, float32 (1, channels, samples); positions, float32 (1, channels, 6); sensor types, int64
            (1, channels).
        """
        reader = BatchReader(self._corpus)
        for row in self.rows:
            batch = signal_batch(reader.read(MicroBatch((row,), (0,), self._corpus.n_samples)))
            yield normalise_signal(batch.signal, batch.sensor_type), batch.pos, batch.sensor_type


def tokenizer_training(
    config: TrainTokenizerConfig, corpus: Corpus, n_steps: int, history: History
) -> TokenizerTraining:
    """Build the module: new weights, every device and channel count of the corpus as a group."""
    torch.manual_seed(config.seed)
    network: TokenizerModule = build_tokenizer(config.tokenizer, tokenizer_network(config), source="overrides")
    lineage = begin_from(network, config, Store.open(config.root), role="tokenizer")
    segments = TrainingSegments(corpus)
    with blaming("tokenizer", config.tokenizer, "prepare"):
        prepare_new(network, lineage, lambda: network.prepare(segments))
    x_BCN, *sensors = next(iter(segments))
    if bool(torch.isfinite(x_BCN).all()):  # otherwise the first step names the recording
        check_tokenizer(network, x_BCN, *sensors)
    adjust(network, config)
    sizes = network.sizes
    devices, channels = corpus.column("device"), corpus.column("channels")
    group_of = [Group(str(d), int(c)) for d, c in zip(devices, channels, strict=True)]
    return TokenizerTraining(
        network,
        reconstruction=ReconstructionMetrics(
            sorted(set(group_of)), n_quantizers=sizes.n_levels, n_codes=sizes.n_codes, n_dim=sizes.n_dim
        ),
        group_of=group_of,
        ramp_steps=0 if lineage and not config.transfer else config.ramp_steps,  # what was learned needs no ramp
        max_channels=config.sampling.max_channels,
        late_channels=config.late_channels,
        late_step=math.ceil(config.late_from * n_steps),
        groups=network.parameter_groups(
            learning_rate=config.optimiser.learning_rate,
            quantizer_learning_rate=config.optimiser.quantizer_learning_rate,
            weight_decay=config.optimiser.weight_decay,
        ),
        optimiser=config.optimiser,
        n_steps=n_steps,
        seed=config.seed,
        log_every=config.log_every,
        history=history,
        describe=lambda segments: name_recordings(corpus, segments),
        lineage=lineage,
    )
