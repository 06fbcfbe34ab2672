"""The encoder and the objective of the guide, installed as another package, are trained and used."""

import shutil

import numpy as np
import pytest
from tests.messages import refusal
from tests.other_packages import install_page
from tests.pages import ROOT, files_of

from emeg.errors import UserError
from emeg.store import Store, model_config
from emeg.training import PretrainConfig, TokenizeConfig, TrainTokenizerConfig, pretrain, tokenize, train_tokenizer

PAGE = ROOT / "docs/how-to/add-an-encoder.md"


@pytest.fixture
def conv(tmp_path, monkeypatch):
    """Install the package of the guide; returns its recipe."""
    install_page(PAGE, tmp_path, "toy_encoder")
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = tmp_path / "conv.yaml"
    recipe.write_text(files_of(PAGE)["conv.yaml"])
    return str(recipe)


def test_an_encoder_of_another_package_is_trained_and_embeds(conv, root, tmp_path):
    from emeg.inference import Embedder

    store = Store.open(shutil.copytree(root, tmp_path / "store"))
    for kind in ("models", "tokens"):  # of tests that ran before on the shared store
        for name in store.names(kind):
            store.remove(kind, name)
    shared = {"root": str(tmp_path / "store"), "device": "cpu"}
    training = shared | {"launched": False, "tracking": "none"}
    train_tokenizer(TrainTokenizerConfig(recipe="mulaw", **training))
    tokenize(TokenizeConfig(overlap=0.0, **shared))
    config = PretrainConfig(recipe=conv, steps=3, overrides={"overlap_ratio": 0.0}, **training)
    model = pretrain(config).model

    card = model_config(store, model)
    assert (card["kind"], card["role"], card["packages"]) == ("conv", "encoder", {"encoder": "toy-encoder 1.0"})
    assert np.isfinite(card["provenance"]["metrics"]["held_out/loss"])
    assert card["provenance"]["recipe"]["objective_options"] == {"mask_ratio": 0.4}
    assert store.location("models", model, "README.md").read_bytes().startswith(b"# Convolutions ")
    embedder = Embedder.from_pretrained(store.local_copy("models", model), device="cpu")
    assert len(embedder.get_feature_names_out()) == 32

    changed = config.model_copy(update={"objective": "masked", "objective_options": {}})
    with refusal(UserError, "objective 'masked'", "mask_token", action="objective"):
        pretrain(changed)
    with refusal(UserError, "overlap_ratio=0.25", action="--overlap 0.25"):
        pretrain(config.model_copy(update={"overrides": {}}))
    assert len(store.names("models")) == 2
