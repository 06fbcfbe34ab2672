"""Write the codes of a corpus once; pretraining reads them instead of signals.

corpus ──parts of 64 segments, each by one of several processes──▶ runs/<tokens>/parts/*.npy ──▶ tokens/<tokens>

A part is complete or absent, so that a stopped run continues with the missing parts.
"""

import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emeg.data import BatchReader, Corpus, MicroBatch, tokens_name, write_tokens
from emeg.errors import TransientError
from emeg.files import replacing
from emeg.plugins import name_plugin
from emeg.progress import Progress, silent
from emeg.store import Store, find_model, n_parameters
from emeg.store.runs import RunNote, note_run
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.tokenizers.conformance import check_codes
from emeg.tokenizers.interface import load_tokenizer
from emeg.training.configs import TokenizeConfig, TokenizeResult
from emeg.training.device import pick_device
from emeg.training.loop.batches import SignalBatch, signal_batch
from emeg.training.loop.rank import run_folder
from emeg.training.threads import n_threads, torch_threads

logger = logging.getLogger(__name__)

PART_SEGMENTS = 64
"""Segments in a part: the most that each process of a killed run computes again."""


class Part(NamedTuple):
    """Segments of one channel count whose codes are one file."""

    number: int
    rows: tuple[int, ...]
    n_channels: int

    def file(self, folder: Path) -> Path:
        """Return the file of its codes: uint16, shape (segments, sources, steps, levels)."""
        return folder / f"part-{self.number:06d}.npy"


def tokenize(config: TokenizeConfig, *, progress: Progress = silent) -> TokenizeResult:
    """Write the codes of every segment of a corpus.

    Codes are computed in float32 on any device: in bf16, 2 % of the codes of the later quantizers differ.

    Raises
    ------
    UserError
        There is no such corpus or tokenizer.
    TransientError
        A process was killed; the same call continues with the missing parts.
    """
    store = Store.open(config.root)
    corpus = Corpus.open(store, config.corpus)
    model = find_model(store, "tokenizer", config.tokenizer)
    name = tokens_name(corpus.name, model, config.overlap)
    done_before = store.has("tokens", name)
    if not done_before:
        config = config.model_copy(update={"corpus": corpus.name, "tokenizer": model})
        began = time.monotonic()
        folder = run_folder(config.root, config.run_dir, name) / "parts"
        folder.mkdir(parents=True, exist_ok=True)
        note = RunNote(inputs={"corpus": corpus.name, "tokenizer": model}, places=(str(folder.parent),))
        note_run(store, name, note)
        parts = parts_of(corpus)
        _write_missing(config, parts, folder, progress)
        sizes = load_tokenizer(store.local_copy("models", model)).sizes
        n_sources = sizes.n_sources or int(corpus.column("channels").max())
        write_tokens(
            store,
            corpus,
            model,
            config.overlap,
            sizes.n_codes,
            _read(parts, folder, n_sources),
            by_channel=sizes.n_sources is None,
            progress=progress,
        )
        shutil.rmtree(folder.parent, ignore_errors=True)
        store.remove("runs", name)
        logger.info("tokens %s: %d segments in %.1f s", name, len(corpus), time.monotonic() - began)
    return TokenizeResult(
        tokens=name, n_segments=len(corpus), tokenizer=model, corpus=corpus.name, done_before=done_before
    )


def parts_of(corpus: Corpus) -> list[Part]:
    """Divide the corpus: neighbouring segments of one channel count, the same for any number of processes."""
    counts = corpus.column("channels")
    parts: list[Part] = []
    for channels in np.unique(counts).tolist():
        rows = np.flatnonzero(counts == channels).tolist()
        for first in range(0, len(rows), PART_SEGMENTS):
            parts.append(Part(len(parts), tuple(rows[first : first + PART_SEGMENTS]), channels))
    return parts


def _write_missing(config: TokenizeConfig, parts: Sequence[Part], folder: Path, progress: Progress) -> None:
    """Write the parts that are not there, in this process or in several."""
    missing = [part for part in parts if not part.file(folder).exists()]
    done = len(parts) - len(missing)
    if done:
        logger.info("%d of %d parts are there already", done, len(parts))
    if not missing:
        return
    if config.workers == 1:
        with torch_threads(_threads(config, 0)):
            writer = PartWriter(config, folder, pick_device(config.device))
            for number, part in enumerate(missing, done + 1):
                writer.write(part)
                progress(number, len(parts), "tokenizing parts")
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its threads
    n_workers = min(config.workers, len(missing))
    pool = ProcessPoolExecutor(
        n_workers,
        mp_context=context,
        initializer=_start_worker,
        initargs=(config, folder, n_workers, context.Value("i")),
    )
    with pool:
        waiting: list[Future[None]] = [pool.submit(_write_in_worker, part) for part in missing]
        try:
            for number, future in enumerate(as_completed(waiting), done + 1):
                future.result()
                progress(number, len(parts), "tokenizing parts")
        except BrokenProcessPool as error:
            raise TransientError(
                f"{config.root}: a tokenizing process was ended from outside (out of memory?); {done} of {len(parts)}"
                " parts were there before: run the same command again, with fewer workers or less"
                " batch_channel_seconds"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _threads(config: TokenizeConfig, share: int) -> int:
    """Return the threads of a process: one for a small network, whose codes then do not depend on them."""
    return n_threads(n_parameters(Store.open(config.root), str(config.tokenizer)), 0) or share


class PartWriter:
    """Corpus, tokenizer and device of one process."""

    def __init__(self, config: TokenizeConfig, folder: Path, device: torch.device) -> None:
        store = Store.open(config.root)
        self._corpus = Corpus.open(store, config.corpus)
        self._reader = BatchReader(self._corpus)
        model = find_model(store, "tokenizer", config.tokenizer)
        self._tokenizer = load_tokenizer(store.local_copy("models", model)).to(device)
        if self._tokenizer.needs_regions:
            self._corpus.add_regions(store)
        self._config, self._folder, self._device = config, folder, device

    def write(self, part: Part) -> None:
        """Write the codes of a part: under another name first, so that the file is complete or absent."""
        codes = np.concatenate([self.encode(micro_batch) for micro_batch in self._batches(part)])
        with replacing(part.file(self._folder)) as stream:
            np.save(stream, codes.astype("<u2"), allow_pickle=False)

    def encode(self, micro_batch: MicroBatch) -> NDArray[np.int64]:
        """Compute codes, int64 of shape (batch, sources, steps, levels)."""
        found = self.codes_of(signal_batch(self._reader.read(micro_batch)), overlap=self._config.overlap)
        who = name_plugin("tokenizer", self._tokenizer.kind)
        check_codes(found, None, self._tokenizer.sizes.n_codes, who=f"{who}: tokenize")
        codes: NDArray[np.int64] = found.numpy()
        return codes

    def codes_of(self, batch: SignalBatch, *, overlap: float) -> Tensor:
        """Compute the codes of signals on the device and copy them to the host: one wait for a batch.

        Returns
        -------
        int64, shape (batch, sources, steps, levels)
        """
        types = batch.sensor_type.to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            x = normalise_signal(batch.signal.to(self._device), types, intracranial=self._tokenizer.intracranial)
            tokens = self._tokenizer.tokenize(x, batch.pos.to(self._device), types, overlap=overlap)
        return tokens.codes.cpu()

    def _batches(self, part: Part) -> Iterator[MicroBatch]:
        n_samples = self._corpus.n_samples
        seconds = n_samples / self._corpus.sfreq
        size = max(1, int(self._config.batch_channel_seconds / (part.n_channels * seconds)))
        for first in range(0, len(part.rows), size):
            rows = part.rows[first : first + size]
            yield MicroBatch(rows, (0,) * len(rows), n_samples)


_writer: PartWriter | None = None
"""Tokenizer and corpus of a worker process."""


def _start_worker(config: TokenizeConfig, folder: Path, n_workers: int, counter: Any) -> None:  # noqa: ANN401 - typeshed has no name for it
    global _writer
    with counter.get_lock():
        number = int(counter.value)
        counter.value += 1
    device = pick_device(config.device)
    if device.type == "cuda":
        device = torch.device("cuda", number % torch.cuda.device_count())
    torch.set_num_threads(_threads(config, max(1, (os.cpu_count() or 1) // n_workers)))
    _writer = PartWriter(config, folder, device)


def _write_in_worker(part: Part) -> None:
    if _writer is None:
        raise RuntimeError("this process was not started as a tokenizing worker")
    _writer.write(part)


def _read(
    parts: Sequence[Part], folder: Path, n_sources: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer[Any]]]]:
    """Read rows and codes of every part; sources that a part lacks have the code 0."""
    for part in parts:
        codes = np.load(part.file(folder), mmap_mode="r", allow_pickle=False)
        if missing := n_sources - codes.shape[1]:
            codes = np.pad(codes, ((0, 0), (0, missing), (0, 0), (0, 0)))
        yield np.array(part.rows, np.int64), codes
