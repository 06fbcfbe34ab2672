"""Write the codes of a corpus, once: what pretraining reads instead of signals."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emeg.data import BatchReader, Corpus, MicroBatch, tokens_name, write_tokens
from emeg.progress import Progress, silent
from emeg.store import Store, find_model
from emeg.tokenizers.braintokenizer import BrainTokenizer, normalise_signal
from emeg.training.configs import TokenizeConfig, TokenizeResult
from emeg.training.loading import signal_batch
from emeg.training.running import pick_device

logger = logging.getLogger(__name__)


def tokenize(config: TokenizeConfig, *, progress: Progress = silent) -> TokenizeResult:
    """Write the codes of every segment of a corpus.

    In float32 whatever the device: in bf16 some 2 % of the codes of the later quantizers come out differently.

    Raises
    ------
    UserError
        There is no such corpus or tokenizer.
    """
    store = Store.open(config.root)
    corpus = Corpus.open(store, config.corpus)
    model = find_model(store, "braintokenizer", config.tokenizer)
    name = tokens_name(corpus.name, model, config.overlap)
    done_before = store.has("tokens", name)
    if not done_before:
        began = time.monotonic()
        tokenizer = BrainTokenizer.from_pretrained(store.local_copy("models", model))
        device = pick_device(config.device)
        write_tokens(
            store,
            corpus,
            model,
            config.overlap,
            tokenizer.config.codebook_size,
            encode(tokenizer.to(device).eval(), corpus, config, device),
            progress=progress,
        )
        logger.info("tokens %s: %d segments in %.1f s", name, len(corpus), time.monotonic() - began)
    return TokenizeResult(
        tokens=name, n_segments=len(corpus), tokenizer=model, corpus=corpus.name, done_before=done_before
    )


def encode(
    tokenizer: BrainTokenizer, corpus: Corpus, config: TokenizeConfig, device: torch.device
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer[Any]]]]:
    """Give rows and codes (B, Q, W, K), a batch of one channel count at a time."""
    reader = BatchReader(corpus)
    for micro_batch in _batches(corpus, config.batch_channel_seconds):
        batch = signal_batch(reader.read(micro_batch))
        types = batch.sensor_type.to(device)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            x = normalise_signal(batch.signal.to(device), types)
            _, codes_BQWK = tokenizer.tokenize(x, batch.pos.to(device), types, overlap=config.overlap)
        yield np.array(micro_batch.segments, np.int64), codes_BQWK.cpu().numpy()


def _batches(corpus: Corpus, channel_seconds: float) -> list[MicroBatch]:
    counts = corpus.column("channels")
    seconds = corpus.n_samples / corpus.sfreq
    batches = []
    for channels in np.unique(counts).tolist():
        rows = np.flatnonzero(counts == channels).tolist()
        size = max(1, int(channel_seconds / (channels * seconds)))
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            batches.append(MicroBatch(tuple(part), (0,) * len(part), corpus.n_samples))
    return batches
