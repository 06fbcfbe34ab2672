"""A tokenizer of another package, the one of the guide, goes through every verb."""

import shutil

import numpy as np
import pytest
import torch
from tests.messages import refusal
from tests.other_packages import install_page
from tests.pages import ROOT, files_of, python_of

from emeg.data import Corpus, TokenSet
from emeg.errors import UserError
from emeg.plugins import find_plugin, plugin_names
from emeg.store import Store, model_config
from emeg.training import (
    PlanConfig,
    PretrainConfig,
    TokenizeConfig,
    TrainTokenizerConfig,
    plan_training,
    pretrain,
    tokenize,
    train_tokenizer,
)

PAGE = ROOT / "docs/how-to/add-a-tokenizer.md"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Install the tokenizer of the guide; returns its recipe."""
    assert len(python_of(PAGE)[0].strip().splitlines()) <= 60
    install_page(PAGE, tmp_path, "toy_tokenizer")
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(files_of(PAGE)["toy.yaml"])
    return str(recipe)


def test_a_tokenizer_of_another_package_goes_through_every_verb(toy, root, tmp_path):
    from emeg.evaluation import EvaluateConfig, evaluate
    from emeg.inference import Embedder
    from emeg.reports import ReportConfig, report
    from emeg.reports.hub_upload import training_datasets

    store = Store.open(shutil.copytree(root, tmp_path / "store"))
    for kind in ("models", "tokens"):  # of tests that ran before on the shared store
        for name in store.names(kind):
            store.remove(kind, name)
    shared = {"root": str(tmp_path / "store"), "device": "cpu"}
    training = shared | {"launched": False, "tracking": "none"}
    trained = train_tokenizer(TrainTokenizerConfig(recipe=toy, **training))
    assert trained.steps == 0
    assert trained.metrics["held_out/pcc"] > 0.5
    card = model_config(store, trained.model)
    assert (card["kind"], card["role"]) == ("toy", "tokenizer")
    tokens = tokenize(TokenizeConfig(**shared))
    found = TokenSet.open(store, tokens.tokens)
    assert found.codes.shape[1:] == (4, found.codes.shape[2], 16)
    assert found.codebook_size == 32
    assert len(found) == len(Corpus.open(store))

    config = PretrainConfig(recipe="brainomni-nano", steps=2, **training)
    model = pretrain(config).model
    assert np.isfinite(model_config(store, model)["provenance"]["metrics"]["held_out/loss"])
    assert {use.stage for use in training_datasets(store, model)} == {"tokenizer", "pretraining"}
    planned = plan_training(PlanConfig(root=shared["root"], recipe=toy))
    assert planned.parameters_m == 0

    embedder = Embedder.from_pretrained(store.local_copy("models", model), device="cpu")
    weights = embedder._network().state_dict()
    basis = weights["tokenizer.basis"]
    assert torch.allclose(basis @ basis.T, torch.eye(16), atol=1e-5)
    assert len(embedder.get_feature_names_out()) == 4 * 64

    made = evaluate(EvaluateConfig(**shared, segments_per_device=2, n_examples=1))
    assert any(name.startswith("reconstruction/") for name in made.metrics)
    page = report(ReportConfig(root=shared["root"]))
    text = (tmp_path / "store" / "reports" / page.report / "index.html").read_text()
    assert "Toy tokenizer" in text


def test_an_unknown_name_is_refused_with_the_choices(root):
    assert {"braintokenizer"} <= set(plugin_names("tokenizer"))
    with refusal(UserError, "tokenizer 'absent'", action="braintokenizer"):
        train_tokenizer(TrainTokenizerConfig(root=root, tokenizer="absent"))
    with refusal(UserError, "objective 'absent'", action="masked"):
        find_plugin("objective", "absent")


def test_existing_recipes_keep_the_names_of_their_products():
    """The names were computed before other tokenizers and encoders could be chosen."""
    from emeg.training.product_names import encoder_name, tokenizer_name

    of_tokenizer = TrainTokenizerConfig(root="r", recipe="braintokenizer-nano", corpus="c")
    of_encoder = PretrainConfig(root="r", recipe="brainomni-nano", tokens="t")
    assert tokenizer_name(of_tokenizer) == "97fd8590e8a8cb9c"
    assert encoder_name(of_encoder) == "556cdc61baaf425d"
    assert encoder_name(of_encoder.model_copy(update={"objective": "masked"})) == "556cdc61baaf425d"
    assert not {"tokenizer", "encoder", "objective", "objective_options"} & (
        of_tokenizer.product_fields().keys() | of_encoder.product_fields().keys()
    )
