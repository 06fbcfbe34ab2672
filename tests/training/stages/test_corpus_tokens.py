"""Token sets: written by many processes, resumable by parts, with the same codes as tokenising on the fly."""

import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.messages import refusal
from tests.small_models import SMALL

from emeg.data import BatchReader, Corpus, TokenSet
from emeg.errors import TransientError
from emeg.hashing import sha256_file
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.store import Store
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig, normalise_signal
from emeg.training import TokenizeConfig, tokenize
from emeg.training.loop.batches import TokenReader, signal_batch, token_batches
from emeg.training.stages import corpus_tokens as module


@pytest.fixture
def folder(root, tmp_path, monkeypatch) -> Path:
    """Store with a tokenizer whose codebooks were initialised with one batch; parts of four segments."""
    folder = tmp_path / "store"
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns("models", "runs", "tokens"))
    torch.manual_seed(0)
    tokenizer = BrainTokenizer(BrainTokenizerConfig(**SMALL)).train()
    tokenizer.training_loss(torch.randn(4, 5, 2560), torch.randn(4, 5, 6), torch.zeros(4, 5, dtype=torch.long))
    with Store.open(folder).publishing("models", "tokenizer") as model:
        tokenizer.save_pretrained(model)
    monkeypatch.setattr(module, "PART_SEGMENTS", 4)
    return folder


def codes_file(folder: Path, tokens: str) -> Path:
    return folder / "tokens" / tokens / "codes.npy"


def test_a_stopped_run_writes_the_missing_parts(folder, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    written = []
    write = module.PartWriter.write

    def stop_at_the_third(self, part):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(part.number)
        write(self, part)

    monkeypatch.setattr(module.PartWriter, "write", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        tokenize(TokenizeConfig(root=str(folder), device="cpu"))
    assert not any((folder / "tokens").glob("*"))
    (parts,) = (folder / "runs").glob("*/parts")
    (parts / ".part-000002.npy-1").write_bytes(b"cut short")
    monkeypatch.setattr(
        module.PartWriter, "write", lambda self, part: (written.append(part.number), write(self, part))[1]
    )
    result = tokenize(TokenizeConfig(root=str(folder), device="cpu"))
    assert written == [part.number for part in module.parts_of(Corpus.open(Store.open(folder), None))]
    whole = tokenize(TokenizeConfig(root=str(other), device="cpu"))
    assert sha256_file(codes_file(folder, result.tokens)) == sha256_file(codes_file(other, whole.tokens))


def test_processes_that_are_killed_leave_the_parts_that_one_process_would_write(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)

    def kill(done, total, message):
        for child in multiprocessing.active_children():
            if done == 3 and child.pid is not None:
                os.kill(child.pid, signal.SIGKILL)

    config = TokenizeConfig(root=str(folder), device="cpu", workers=2)
    with refusal(TransientError, "0 of 8", action="fewer workers"):
        tokenize(config, progress=kill)
    parts = list((folder / "runs").glob("*/parts/part-*.npy"))
    assert len(parts) >= 3
    tokens = tokenize(config.model_copy(update={"workers": 1})).tokens
    assert not any((folder / "runs").iterdir())
    whole = tokenize(TokenizeConfig(root=str(other), device="cpu")).tokens
    assert tokens == whole
    assert sha256_file(codes_file(folder, tokens)) == sha256_file(codes_file(other, whole))
    assert len(parts) < len(module.parts_of(Corpus.open(Store.open(folder), None)))


def test_losses_are_those_of_tokenising_on_the_fly(folder):
    store = Store.open(folder)
    tokenize(TokenizeConfig(root=str(folder), device="cpu"))
    tokens = TokenSet.open(store)
    corpus = Corpus.open(store, None)
    tokenizer = BrainTokenizer.from_pretrained(folder / "models" / "tokenizer").requires_grad_(requires_grad=False)
    torch.manual_seed(1)
    model = BrainOmni(BrainOmniConfig(lm_dim=32, lm_head=4, lm_depth=2, lm_dropout=0.1), tokenizer).train()
    reader, stored = BatchReader(corpus), TokenReader(tokens)
    compared = 0
    for number, micro_batch in enumerate(token_batches(corpus, "train", 6, 1)):
        codes = stored.read(micro_batch).codes
        batch = signal_batch(reader.read(micro_batch))
        x = normalise_signal(batch.signal, batch.sensor_type)
        fresh = tokenizer.tokenize(x, batch.pos, batch.sensor_type, overlap=tokens.overlap)
        pairs = ((tokenizer.features_from_codes(codes), codes), (fresh.features, fresh.codes))
        one, other = (
            model.pretraining_loss(*pair, generator=torch.Generator().manual_seed(number)).total for pair in pairs
        )
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)
        compared += 1
    assert compared >= 10


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts read calls in /proc/self/io (Linux)")
def test_reading_makes_no_read_call(folder):
    """Codes are memory-mapped: for any number of samples, a call reads nothing."""
    store = Store.open(folder)
    tokenize(TokenizeConfig(root=str(folder), device="cpu"))
    tokens = TokenSet.open(store)
    assert isinstance(tokens.codes, np.memmap)
    reader, batches = TokenReader(tokens), token_batches(Corpus.open(store, None), "train", 6, 2)

    def calls() -> int:
        found = re.search(r"syscr: (\d+)", Path("/proc/self/io").read_text())
        return int(found.group(1)) if found else -1

    nothing = -calls() + calls()
    before = calls()
    for micro_batch in batches * 20:
        reader.read(micro_batch)
    assert calls() - before == nothing
