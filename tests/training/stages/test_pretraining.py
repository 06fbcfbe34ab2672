import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.messages import refusal
from tests.small_models import SMALL

from emeg.data import Corpus, SamplingConfig, TokenSet
from emeg.errors import UserError
from emeg.hashing import sha256_file
from emeg.models import BrainOmni
from emeg.models.crossscale.encoder import CrossScale
from emeg.store import Store
from emeg.store.runs import read_run
from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig, pretrain, tokenize, train_tokenizer


@pytest.fixture(scope="module")
def tokens_root(root, tmp_path_factory) -> str:
    """Store with a small tokenizer and its tokens."""
    folder = tmp_path_factory.mktemp("pretraining") / "store"
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns("models", "runs", "tokens"))
    torch.set_num_threads(1)
    sampling = SamplingConfig(budget_channel_seconds=60, crop_s=2.0)
    train_tokenizer(
        TrainTokenizerConfig(
            root=str(folder), overrides=SMALL, steps=20, ramp_steps=5, sampling=sampling, launched=False, device="cpu"
        )
    )
    tokenize(TokenizeConfig(root=str(folder), device="cpu"))
    return str(folder)


def config_of(tokens_root, tmp_path, **changes) -> PretrainConfig:
    fields = {
        "root": tokens_root,
        "overrides": {"lm_dim": 32, "lm_head": 4, "lm_depth": 2},
        "steps": 12,
        "batch_segments": 4,
        "micro_batches": 2,
        "validate_every": 4,
        "log_every": 3,
        "checkpoint_every": 5,
        "run_dir": str(tmp_path / "runs"),
        "device": "cpu",
        "launched": False,
    }
    return PretrainConfig(**{**fields, **changes})


def test_product_loads_with_its_frozen_tokenizer(tokens_root, tmp_path):
    result = pretrain(config_of(tokens_root, tmp_path))
    models = Path(tokens_root) / "models"
    card = json.loads((models / result.model / "config.json").read_text())
    note = read_run(Store.open(tokens_root), result.run)
    assert note is not None
    assert note.inputs == {key: card["provenance"][key] for key in ("corpus", "tokens", "tokenizer")}
    assert note.places == (str(tmp_path / "runs" / result.run),)
    model = BrainOmni.from_pretrained(models / result.model)
    before = BrainOmni(model.config, model.tokenizer.config.__class__(**card["tokenizer"]))
    del before
    from emeg.tokenizers.braintokenizer import BrainTokenizer

    tokenizer = BrainTokenizer.from_pretrained(models / card["provenance"]["tokenizer"])
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, model.tokenizer.state_dict()[name]), name
    for split in ("validation", "held_out"):
        for name in ("loss", "accuracy", "accuracy_0", "accuracy_3", "accuracy_overlapped", "accuracy_other"):
            assert f"{split}/{name}" in result.metrics
    assert pretrain(config_of(tokens_root, tmp_path)).done_before


def test_same_seed_gives_the_same_bytes_and_another_does_not(tokens_root, tmp_path):
    def weights(name, seed):
        other = tmp_path / name
        shutil.copytree(tokens_root, other)
        result = pretrain(config_of(str(other), other, seed=seed, steps=3))
        folder = other / "models" / result.model
        return [sha256_file(path) for path in sorted(folder.iterdir())]

    first = weights("a", 1)
    assert weights("b", 1) == first
    assert weights("c", 2) != first


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_deterministic_training_allows_only_operations_that_repeat(tokens_root, tmp_path, monkeypatch, deterministic):
    seen = set()
    loss = BrainOmni.pretraining_loss

    def record(*given, **named):
        seen.add((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
        return loss(*given, **named)

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(BrainOmni, "pretraining_loss", record)
    root = shutil.copytree(tokens_root, tmp_path / "store")
    try:
        pretrain(config_of(str(root), tmp_path, steps=2, deterministic=deterministic))
    finally:
        torch.use_deterministic_algorithms(mode=False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)  # set by Lightning
    assert seen == {(True, ":4096:8") if deterministic else (False, None)}


def test_it_learns_from_stored_tokens(tokens_root, tmp_path):
    result = pretrain(config_of(tokens_root, tmp_path, steps=24, optimiser={"learning_rate": 1e-2}))
    uniform = torch.log(torch.tensor(16.0)).item()
    assert result.metrics["validation/loss"] < 0.95 * uniform


def test_best_weights_are_those_of_the_best_validation(tokens_root, tmp_path):
    import pyarrow.parquet as pq

    changes = {"steps": 8, "validate_every": 2, "keep": "best", "optimiser": {"learning_rate": 2e-2}}
    result = pretrain(config_of(tokens_root, tmp_path, **changes))
    table = pq.read_table(Path(tokens_root) / "models" / result.model / "metrics.parquet").to_pandas()
    seen = table[(table["split"] == "validation") & (table["name"] == "loss")]["value"]
    assert result.metrics["validation/loss"] == pytest.approx(seen.min(), rel=1e-5)


def test_another_overlap_is_refused(tokens_root, tmp_path):
    with refusal(UserError, "overlap 0.25", action='{"overlap_ratio": 0.25}'):
        pretrain(config_of(tokens_root, tmp_path, overrides={"lm_dim": 32, "lm_head": 4, "overlap_ratio": 0.5}))


def unigram_loss(tokens_root, config):
    """Cross-entropy on validation of the shares of codes in training, for each source and level."""
    store = Store.open(tokens_root)
    tokens = TokenSet.open(store, config.tokens)
    split = np.asarray(Corpus.open(store, tokens.corpus).column("split"))
    codes = np.asarray(tokens.codes)
    train, validation = codes[split == "train"], codes[split == "validation"]
    losses = []
    for source in range(codes.shape[1]):
        for level in range(codes.shape[3]):
            counts = np.bincount(train[:, source, :, level].ravel(), minlength=int(codes.max()) + 1) + 1.0
            losses.append(-np.log((counts / counts.sum())[validation[:, source, :, level]]).mean())
    return float(np.mean(losses))


def test_the_cross_scale_encoder_learns_more_than_the_shares_of_codes_and_resumes(tokens_root, tmp_path, monkeypatch):
    own = {
        "recipe": "crossscale-nano",
        "overrides": {"n_dim": 32, "n_head": 2, "depth": 2},
        "steps": 60,
        "checkpoint_every": 20,
        "validate_every": 30,
        "optimiser": {"learning_rate": 5e-3},
    }
    roots = [shutil.copytree(tokens_root, tmp_path / name) for name in ("whole", "stopped")]
    whole, stopped = (config_of(str(root), root, **own) for root in roots)
    result = pretrain(whole)
    assert result.metrics["validation/loss"] < unigram_loss(tokens_root, whole)
    hidden, calls = CrossScale.hidden, []

    def fail_once(self, *given, **named):
        calls.append(given)
        if len(calls) == 70:  # two micro-batches a step, and the validations
            raise RuntimeError("lost")
        return hidden(self, *given, **named)

    monkeypatch.setattr(CrossScale, "hidden", fail_once)
    with pytest.raises(RuntimeError, match="lost"):
        pretrain(stopped)
    again = pretrain(stopped)
    assert len(calls) < 70 + 130  # it continued from step 20
    assert again.model == result.model
    files = [root / "models" / result.model / "model.safetensors" for root in roots]
    assert sha256_file(files[0]) == sha256_file(files[1])


def test_power_of_windows_is_predicted_from_the_scale_of_training_segments(tokens_root, tmp_path):
    own = {
        "recipe": "brainomni-window-nano",
        "overrides": {"lm_dim": 32, "lm_head": 4, "lm_depth": 2, "overlap_ratio": 0.25},
        "steps": 40,
        "validate_every": 20,
        "optimiser": {"learning_rate": 5e-3},
    }
    result = pretrain(config_of(tokens_root, tmp_path, **own))
    assert result.metrics["validation/explained_variance"] > 0.05
    model = BrainOmni.from_pretrained(Path(tokens_root) / "models" / result.model)
    tokens = TokenSet.open(Store.open(tokens_root))
    rows = np.flatnonzero(Corpus.open(Store.open(tokens_root), tokens.corpus).column("split") == "train")
    assert len(rows) <= 128  # all are read for the scale
    features = model.tokenizer.features_from_codes(torch.from_numpy(tokens.codes[rows].astype(np.int64)))
    values = model.window_power(features).flatten(0, 2)
    torch.testing.assert_close(values.mean(dim=0), torch.zeros(values.shape[1]), atol=1e-4, rtol=0)
    assert float(values.std(dim=0).max()) < 1.01
