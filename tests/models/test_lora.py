import pytest
import torch

from emeg.models import BrainOmni, BrainOmniConfig
from emeg.models.lora import LoraLinear, add_lora, merge_lora
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig

SIZES = BrainTokenizerConfig(n_filters=2, n_dim=16, n_neuro=4, n_head=2, codebook_dim=16, codebook_size=16)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return BrainOmni(BrainOmniConfig(lm_dim=16, lm_head=2, lm_depth=2), SIZES).eval()


@pytest.fixture
def latents():
    return torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(0))


def test_an_adapted_network_computes_the_same_until_it_is_trained(network, latents):
    before = network.embed_latents(latents)
    names = set(network.state_dict())
    factors = add_lora(network, network.blocks, rank=4)
    assert torch.allclose(network.embed_latents(latents), before, atol=1e-6)
    assert names <= set(network.state_dict())
    assert {id(p) for p in network.parameters() if p.requires_grad} == {id(p) for p in factors}


def test_only_linear_layers_of_the_blocks_are_adapted_and_learn(network, latents):
    factors = add_lora(network, network.blocks, rank=4)
    adapted = {name for name, module in network.named_modules() if isinstance(module, LoraLinear)}
    assert len(factors) == 2 * len(adapted)
    assert all(name.startswith("blocks.") for name in adapted)
    assert "blocks.0.time_attn.qkv" in adapted
    frozen = {name: value.clone() for name, value in network.state_dict().items() if "lora" not in name}
    optimiser = torch.optim.SGD(factors, lr=1.0)
    before = network.embed_latents(latents).detach()
    for _ in range(2):  # the first step moves one factor only, since the other starts at 0
        optimiser.zero_grad()
        (network.embed_latents(latents) - 1).square().sum().backward()
        optimiser.step()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in frozen.items())
    assert not torch.allclose(network.embed_latents(latents), before, atol=1e-4)


def test_merged_weights_are_those_of_a_plain_network(network, latents):
    add_lora(network, network.blocks, rank=4)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("lora_up"):
                parameter.normal_(std=0.1)
    plain = BrainOmni(network.config, SIZES).eval()
    plain.load_state_dict(merge_lora(network.state_dict()))
    assert torch.allclose(plain.embed_latents(latents), network.embed_latents(latents), atol=1e-5)


def test_one_layer_is_merged(latents):
    layer = LoraLinear(torch.nn.Linear(16, 3), rank=8)
    torch.nn.init.normal_(layer.lora_up)
    assert layer.lora_up.shape == (3, 3), "a rank above the sizes is of no use"
    assert torch.allclose(layer.merged()(latents), layer(latents), atol=1e-5)
