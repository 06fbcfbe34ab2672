"""Train on the next token by the verbs: loss below the entropies of codes and pairs, resumed as uninterrupted."""

import os
import shutil
import signal
from collections import Counter
from math import log

import numpy as np
import pytest
from tests.messages import refusal
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.training.conftest import root  # noqa: F401 - a fixture

from emeg.data import Corpus, TokenSet
from emeg.hashing import sha256_file
from emeg.store import Store
from emeg.training import (
    PretrainConfig,
    TokenizeConfig,
    TrainTokenizerConfig,
    pretrain,
    tokenize,
    train_tokenizer,
)
from emeg.training.loop.stop_signal import InterruptedRunError
from emeg.training.stages.pretraining import EncoderTraining


def entropies(tokens: TokenSet, corpus: Corpus) -> tuple[float, float]:
    """Count single codes and pairs of successive codes of training segments; returns their entropies, nats a code."""
    single, pairs = Counter(), Counter()
    for row in np.flatnonzero(corpus.column("split") == "train").tolist():
        for channel in np.asarray(tokens.codes[row, : corpus.column("channels")[row], :, 0]):
            single.update(channel[:-1].tolist())
            pairs.update(zip(channel[:-1].tolist(), channel[1:].tolist(), strict=True))
    n = sum(single.values())
    unigram = -sum(count / n * log(count / n) for count in single.values())
    joint = -sum(count / n * log(count / n) for count in pairs.values())
    return unigram, joint - unigram


@pytest.fixture(scope="module")
def store(root, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("next") / "store"
    shutil.copytree(root, folder)
    made = train_tokenizer(
        TrainTokenizerConfig(
            root=str(folder), recipe="mulaw", overrides={"n_codes": 48}, launched=False, tracking="none", device="cpu"
        )
    )
    assert made.metrics["held_out/pcc"] > 0.98
    tokenize(TokenizeConfig(root=str(folder), overlap=0.0, device="cpu"))
    return folder


def training(folder, **changes) -> PretrainConfig:
    settings = {"steps": 100, "validate_every": 50, "checkpoint_every": 100, "validation_segments": 4} | changes
    settings |= {"overrides": {"width": 32, "n_head": 2, "depth": 2, "context_tokens": 128}, "final_segments": 4}
    settings |= {"optimiser": {"learning_rate": 0.01}}
    fixed = {"launched": False, "tracking": "none", "device": "cpu", "threads": 1}
    return PretrainConfig(root=str(folder), recipe="nexttoken-nano", **fixed, **settings)


def test_the_loss_falls_below_the_entropies_of_codes_and_pairs(store):
    opened = Store.open(store)
    unigram, bigram = entropies(TokenSet.open(opened), Corpus.open(opened))
    found = pretrain(training(store)).metrics
    assert bigram < unigram
    assert found["validation/loss"] < bigram
    assert found["held_out/loss"] < bigram


def test_a_resumed_training_gives_the_same_weights(store, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        shutil.copytree(store, folder)
    config = {"steps": 8, "validate_every": 4, "checkpoint_every": 100}
    model = pretrain(training(whole, **config)).model
    step_of_training = EncoderTraining.training_step

    def signalled(module, batch, index):
        if batch.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step_of_training(module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(EncoderTraining, "training_step", signalled)
        with refusal(InterruptedRunError, "step 5", action="same command"):
            pretrain(training(cut, **config))
    assert pretrain(training(cut, **config)).model == model
    files = [folder / "models" / model / "model.safetensors" for folder in (whole, cut)]
    assert sha256_file(files[0]) == sha256_file(files[1])
