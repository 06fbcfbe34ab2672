"""Training flows announce the role and the network of the model that they trained."""

import pytest

from emeg.flows import pretrain, train_tokenizer
from emeg.training import PretrainConfig, TrainResult, TrainTokenizerConfig

RESULT = TrainResult(model="m1", run="r1", steps=1, seconds=0.0, metrics={}, done_before=False)


@pytest.mark.parametrize(
    ("module", "verb", "config", "role", "network"),
    [
        (pretrain, "pretrain", PretrainConfig(root="store", recipe="brainomni-emeg-nano"), "encoder", "brainomni"),
        (pretrain, "pretrain", PretrainConfig(root="store", recipe="nexttoken-nano"), "encoder", "causal"),
        (pretrain, "pretrain", PretrainConfig(root="store", recipe="crossscale-nano"), "encoder", "crossscale"),
        (train_tokenizer, "train_tokenizer", TrainTokenizerConfig(root="store"), "tokenizer", "braintokenizer"),
        (train_tokenizer, "train_tokenizer", TrainTokenizerConfig(root="store", recipe="mulaw"), "tokenizer", "mulaw"),
    ],
)
def test_the_event_names_role_and_network(module, verb, config, role, network, monkeypatch):
    sent = []
    monkeypatch.setattr(module, f"run_{verb}", lambda _: RESULT)
    monkeypatch.setattr(module, "show", lambda *_: None)
    monkeypatch.setattr(module, "show_start", lambda *_: None)
    monkeypatch.setattr(module, "publish", lambda *parts, **more: sent.append((parts, more)))
    assert getattr(module, f"{verb}_flow").fn(config) == RESULT
    assert sent == [(("model", "store", "m1"), {"role": role, "network": network})]
