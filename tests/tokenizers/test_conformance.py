"""Tokenizers that return something else than their interface documents are refused, with the method and the package."""

import sys
from typing import NamedTuple

import pytest
import torch
from tests.messages import refusal
from tests.other_packages import install_page
from tests.pages import ROOT

from emeg.errors import UserError
from emeg.tokenizers.conformance import check_codes, check_tokenizer, loss_terms

PAGE = ROOT / "docs/how-to/add-a-tokenizer.md"


@pytest.fixture
def guide(tmp_path, monkeypatch):
    """Return the module of the guide, installed."""
    monkeypatch.delitem(sys.modules, "toy_tokenizer", raising=False)
    install_page(PAGE, tmp_path, "toy_tokenizer")
    monkeypatch.syspath_prepend(str(tmp_path))
    import toy_tokenizer

    yield toy_tokenizer
    sys.modules.pop("toy_tokenizer")


def signal() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return three windows of six channels, their positions and their types."""
    generator = torch.Generator().manual_seed(1)
    x, pos = torch.randn(1, 6, 768, generator=generator), torch.randn(1, 6, 6, generator=generator)
    return x, pos, torch.zeros(1, 6, dtype=torch.int64)


def changed(method, change):
    """Return a method whose result is changed."""
    return lambda self, *args, **kwargs: change(method(self, *args, **kwargs))


def test_the_tokenizer_of_the_guide_is_accepted_unchanged(guide):
    tokenizer = guide.Toy(guide.ToyConfig()).train()
    state = torch.random.get_rng_state()
    check_tokenizer(tokenizer, *signal())
    assert tokenizer.training
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("method", "change", "found", "action"),
    [
        ("encode_latents", lambda latents: latents[:, :3], "(1, 3, 32, 16)", "(1, 4, 32, 16)"),
        ("encode_latents", lambda latents: latents * torch.nan, "not finite", "finite"),
        ("encode_latents", lambda latents: latents + torch.randn_like(latents), "second call", "evaluation mode"),
        ("encode_latents", lambda latents: latents.no_such_method(), "AttributeError", "another tokenizer"),
        ("quantize", lambda codes: codes.float(), "torch.float32", "int64"),
        ("quantize", lambda codes: codes - 40, "from -40", "0 to 31"),
        ("quantize", lambda codes: codes[..., :2], "(1, 4, 32, 2)", "(1, 4, 32, 16)"),
        ("features_from_codes", lambda features: features.double(), "torch.float64", "float32"),
        ("decode", lambda made: made[..., :-1], "(1, 6, 1, 256)", "(1, 6, 2, 256)"),
        ("decode", lambda made: None, "decode", "another tokenizer"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(guide, method, change, found, action):
    made = type("Changed", (guide.Toy,), {method: changed(getattr(guide.Toy, method), change)})
    with refusal(UserError, "toy-tokenizer 1.0", found, action=action):
        check_tokenizer(made(guide.ToyConfig()), *signal())


@pytest.mark.parametrize(
    ("field", "value", "action"),
    [("n_codes", 70_000, "65,536"), ("samples_per_step", 17, "divisor"), ("n_dim", 0, "whole number")],
)
def test_sizes_that_cannot_be_used_are_refused(guide, field, value, action):
    sizes = property(lambda self: guide.Toy.sizes.fget(self)._replace(**{field: value}))
    with refusal(UserError, field, value, action=action):
        check_tokenizer(type("Changed", (guide.Toy,), {"sizes": sizes})(guide.ToyConfig()), *signal())


def test_positions_may_have_a_seventh_column(guide):
    """Verbs that know the regions of the sensors pass them."""
    strict = type("Strict", (guide.Toy,), {"weights": lambda self, pos, mask: pos @ self.directions})
    with refusal(UserError, "toy-tokenizer 1.0", "seventh column", action="another tokenizer"):
        check_tokenizer(strict(guide.ToyConfig()), *signal())


def test_a_tokenizer_that_learns_needs_a_loss(guide):
    tokenizer = guide.Toy(guide.ToyConfig())
    tokenizer.gain = torch.nn.Parameter(torch.ones(1))
    with refusal(UserError, "toy-tokenizer 1.0", action="training_loss"):
        check_tokenizer(tokenizer, *signal())
    with refusal(UserError, "'toy'", action="define"):
        tokenizer.training_loss(*signal())


class Loss(NamedTuple):
    total: torch.Tensor
    part: object = torch.tensor(1.0)


class Nameless(NamedTuple):
    part: torch.Tensor


def test_the_loss_of_a_tokenizer_is_a_named_tuple_of_scalars():
    total = torch.ones((), requires_grad=True)
    assert list(loss_terms(Loss(total), who="t")) == ["total", "part"]
    for wrong in ({"total": total}, Nameless(total), Loss(total.detach()), Loss(total, 0.5), Loss(torch.ones(2))):
        with refusal(UserError, "t: ", "training_loss", action=""):
            loss_terms(wrong, who="t")


def test_codes_outside_the_codebook_are_refused():
    check_codes(torch.tensor([0, 31]), None, 32, who="t")
    with refusal(UserError, "0 to 32", action="0 to 31"):
        check_codes(torch.tensor([0, 32]), None, 32, who="t")
