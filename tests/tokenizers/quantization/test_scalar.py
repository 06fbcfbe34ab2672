"""Codes of the scalar quantizer against a computation digit by digit, their features, gradients and statistics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.messages import refusal
from tests.small_models import TINY

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer import PRESETS, BrainTokenizer, BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.quantization.kmeans import FIXED_POINT
from emeg.tokenizers.braintokenizer.quantization.scalar import ScalarQuantizer
from emeg.tokenizers.braintokenizer.quantization.sizes import numbers_per_level


def quantizer(seed=0, n_dim=8, size=16, levels=3, n_values=4):
    torch.manual_seed(seed)
    return ScalarQuantizer(n_dim, size, levels, n_values=n_values)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(16, 4), (16, 2), (27, 3), (5, 5)]))
def test_codes_are_the_digits_of_the_nearest_values(seed, shape):
    size, n_values = shape
    network = quantizer(seed, size=size, n_values=n_values)
    latents = torch.randn(2, 3, 8)
    unit = latents.double() / latents.double().norm(dim=-1, keepdim=True) * math.sqrt(8)
    weight, bias = network.project_in.weight.double(), network.project_in.bias.double()
    numbers = torch.tanh(unit @ weight.T + bias).detach().numpy()
    values = np.linspace(-1, 1, n_values)
    nearest = np.abs(numbers[..., None] - values).argmin(-1)
    per_level = round(math.log(size, n_values))
    by_level = nearest.reshape(2, 3, 3, per_level)
    expected = (by_level * n_values ** np.arange(per_level)).sum(-1)
    assert network.encode(latents).tolist() == expected.tolist()
    features = values[nearest] @ network.project_out.weight.detach().double().numpy().T
    features = features + network.project_out.bias.detach().double().numpy()
    decoded = network.decode(network.encode(latents)).detach()
    np.testing.assert_allclose(decoded.numpy(), features, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network.eval()(latents).features, network.decode(network.encode(latents)))


def test_every_code_has_features_of_its_own():
    network = quantizer(levels=1)
    features = network.decode(torch.arange(16)[:, None]).detach()
    distances = torch.cdist(features, features) + torch.eye(16)
    assert features.shape == (16, 8)
    assert distances.min() > 1e-3


def test_gradients_pass_the_rounding_unchanged():
    network = quantizer().train()
    latents = torch.randn(5, 8, requires_grad=True)
    weights = torch.randn(5, 8)
    (network(latents).features * weights).sum().backward()
    free = latents.detach().clone().requires_grad_()
    unit = torch.nn.functional.normalize(free, dim=-1) * math.sqrt(8)
    (network.project_out(torch.tanh(network.project_in(unit))) * weights).sum().backward()
    torch.testing.assert_close(latents.grad, free.grad)


def test_training_counts_codes_and_sums_latents_until_it_is_told_to_begin_again():
    network = quantizer().train()
    parts = torch.randn(3, 4, 8)
    codes = torch.cat([network(part).codes for part in parts])
    assert network.watched() == {}
    network.follow()
    watched = network.watched()
    for level in range(3):
        assert watched["used"][level].tolist() == torch.bincount(codes[:, level], minlength=16).tolist()
    assert watched["replaced"].tolist() == [0, 0, 0]
    unit = torch.nn.functional.normalize(parts.flatten(0, 1), dim=-1)
    torch.testing.assert_close(
        watched["latents"][:-1].double() / FIXED_POINT, unit.double().sum(0), rtol=1e-5, atol=1e-5
    )
    assert watched["latents"][-1] == 12
    again = quantizer().train()
    again.watch_on(watched)
    assert torch.equal(again.watched()["used"], watched["used"])
    again.watch_on({})
    assert again.watched() == {}
    network.eval()(parts[0])
    network.follow()
    assert torch.equal(network.watched()["used"], watched["used"])


@pytest.mark.parametrize(
    ("size", "n_values", "expected"), [(256, 4, 4), (256, 2, 8), (27, 3, 3), (4, 4, 1), (48, 4, None)]
)
def test_a_level_has_a_whole_number_of_numbers_or_is_refused(size, n_values, expected):
    assert numbers_per_level(size, n_values) == expected
    if expected is None:
        with pytest.raises(ValueError, match="power"):
            quantizer(size=size, n_values=n_values)
        fields = {"quantizer": "scalar", "codebook_size": size, "scalar_values": n_values}
        with refusal(UserError, "codebook_size", str(size), action="correct"):
            BrainTokenizerConfig.checked(fields, source="network")


def test_a_tokenizer_with_scalar_codes_encodes_decodes_and_is_loaded_again(tmp_path):
    torch.manual_seed(0)
    network = BrainTokenizer(TINY.model_copy(update={"quantizer": "scalar", "scalar_values": 2})).eval()
    x, pos, kind = torch.randn(2, 6, 256), torch.randn(2, 6, 6), torch.zeros(2, 6, dtype=torch.long)
    tokens = network.tokenize(x, pos, kind)
    assert tokens.codes.min() >= 0
    assert tokens.codes.max() < 32
    assert len(tokens.codes.unique()) > 16
    assert torch.equal(tokens.features, network.features_from_codes(tokens.codes))
    torch.testing.assert_close(network.decode(tokens.codes, pos, kind), network.reconstruct(x, pos, kind).flatten(2))
    network.save_pretrained(tmp_path, provenance={})
    assert torch.equal(BrainTokenizer.from_pretrained(tmp_path).tokenize(x, pos, kind).codes, tokens.codes)


def test_names_of_models_with_codebooks_do_not_state_the_quantizer():
    """Models keep the names that they had before the option existed."""
    assert not {"quantizer", "scalar_values"} & set(PRESETS["paper"].product_fields())
    scalar = BrainTokenizerConfig(quantizer="scalar", codebook_size=256)
    assert scalar.product_fields()["quantizer"] == "scalar"
