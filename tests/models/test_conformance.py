"""Encoders and objectives that return something else than their interface documents are refused."""

import sys

import pytest
import torch
from tests.messages import refusal
from tests.other_packages import install_page
from tests.pages import ROOT

from emeg.errors import UserError
from emeg.models.conformance import check_encoder, check_objective
from emeg.models.encoder_module import overlap_of
from emeg.models.interface import PretrainingLosses, Sources
from emeg.tokenizers.interface import Tokens, build_tokenizer

PAGE = ROOT / "docs/how-to/add-an-encoder.md"


@pytest.fixture
def guide(tmp_path, monkeypatch):
    """Return the module of the guide, installed."""
    monkeypatch.delitem(sys.modules, "toy_encoder", raising=False)
    install_page(PAGE, tmp_path, "toy_encoder")
    monkeypatch.syspath_prepend(str(tmp_path))
    import toy_encoder

    yield toy_encoder
    sys.modules.pop("toy_encoder")


TOKENIZER = build_tokenizer("mulaw", {"window_length": 32}, source="test")


def tokens_of(n_sources: int = 3) -> tuple[Tokens, Sources]:
    """Return tokens of two windows, each channel a source, and the sensors, the last of which is absent."""
    codes = torch.randint(128, (2, n_sources, 64, 1), generator=torch.Generator().manual_seed(1))
    there = torch.arange(n_sources).expand(2, -1) < n_sources - 1
    sensors = Sources.of(torch.zeros(2, n_sources, 6), torch.zeros(2, n_sources, dtype=torch.int64), there)
    return Tokens(TOKENIZER.features_from_codes(codes), codes), sensors


def encoder_of(guide, **changes):
    """Return the encoder of the guide with some attributes of its class replaced."""
    encoder = type("Changed", (guide.Conv,), changes)(guide.ConvConfig(), TOKENIZER)
    encoder.objective = guide.Restore(guide.RestoreConfig())
    return encoder.train()


def test_the_encoder_of_the_guide_is_accepted_unchanged(guide):
    encoder, state = encoder_of(guide), torch.random.get_rng_state()
    check_encoder(encoder, *tokens_of())
    check_objective("restore", encoder, *tokens_of())
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_embeddings_of_channels_are_averaged_over_the_channels_that_are_there(guide):
    encoder, (tokens, sensors) = encoder_of(guide).eval(), tokens_of()
    each = encoder.embed_latents(tokens.features)
    expected = each[:, :-1].mean(dim=1, keepdim=True)
    assert torch.allclose(encoder.embed_tokens(tokens, sensors), expected, atol=1e-6)
    x = torch.randn(2, 3, 64)
    embedded = encoder.embed_differentiably(x, sensors.pos, sensors.sensor_type, sensors.mask, overlap=0.0)
    codes = encoder.tokenizer.encode_latents(x, sensors.pos, sensors.sensor_type, 0.0, sensors.mask)
    assert torch.allclose(embedded, encoder.embed_latents(codes)[:, :-1].mean(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "found", "action"),
    [
        ({"n_features": 7}, "(2, 1, 64, 32)", "(2, 1, any, 7)"),
        ({"depth": -1}, "depth is -1", "whole number"),
        ({"depth": 5}, "layers=(0, 5)", "another encoder"),
        ({"embed_latents": lambda self, latents, **_: latents.mean(dim=2)}, "embed_latents", "another encoder"),
        ({"embed_latents": lambda self, latents, **_: latents.half()}, "torch.float16", "float32"),
        (
            {"embed_latents": lambda self, latents, layers=(): latents.new_full((2, 3, 9, 32), torch.inf)},
            "finite",
            "finite",
        ),
        ({"embed_latents": lambda self, latents, layers=(): latents.expand(-1, -1, -1, 32)}, "layers=(0, 2)", "(2, 2,"),
    ],
)
def test_an_embedding_that_does_not_fit_is_refused(guide, change, found, action):
    with refusal(UserError, "'conv'", "toy-encoder 1.0", found, action=action):
        check_encoder(encoder_of(guide, **change), *tokens_of())


def losses(guide, change):
    """Return an objective whose losses are changed."""
    loss = lambda self, *args, **kwargs: change(guide.Restore.loss(self, *args, **kwargs))  # noqa: E731
    return type("Changed", (guide.Restore,), {"loss": loss})(guide.RestoreConfig())


@pytest.mark.parametrize(
    ("change", "found", "action"),
    [
        (lambda found: found.total, "Tensor", "PretrainingLosses"),
        (lambda found: found._replace(total=found.total.expand(2)), "(2,)", "scalar"),
        (lambda found: found._replace(total=found.total.detach()), "no gradient", "encoder"),
        (lambda found: found._replace(total=found.total * torch.nan), "nan", "finite"),
        (lambda found: PretrainingLosses(found.total, {"share": found.total}), "share", "metric_names"),
        (lambda found: PretrainingLosses(found.total, {"loss": 0.5}), "float", "scalar"),
        (lambda found: found.absent, "AttributeError", "another objective"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(guide, change, found, action):
    encoder = encoder_of(guide)
    encoder.objective = losses(guide, change)
    with refusal(UserError, "'restore'", "toy-encoder 1.0", found, action=action):
        check_objective("restore", encoder, *tokens_of())


@pytest.mark.parametrize("names", [(), "loss", ("accuracy",), ("loss", "share", "share")])
def test_metric_names_begin_with_the_loss(guide, names):
    encoder = encoder_of(guide)
    encoder.objective.metric_names = lambda _: names
    with refusal(UserError, "metric_names", action="'loss'"):
        check_objective("restore", encoder, *tokens_of())


def test_the_overlap_of_an_encoder_is_needed(guide):
    assert overlap_of(guide.ConvConfig(), "conv") == 0.25
    with refusal(UserError, "overlap_ratio", "RestoreConfig", action="overlap_ratio"):
        overlap_of(guide.RestoreConfig(), "conv")
