"""Code vectors as input, and output weights of each level."""

import pytest
import torch
from pydantic import ValidationError
from tests.small_models import TINY

from emeg.models.causal.config import CausalConfig
from emeg.models.causal.sequence import flatten_codes
from emeg.models.causal.vectors import LevelHead, ReadVectors, vectors_of_codes
from emeg.tokenizers.braintokenizer import BrainTokenizer


@pytest.fixture(scope="module")
def tokenizer() -> BrainTokenizer:
    torch.manual_seed(0)
    return BrainTokenizer(TINY).eval()


@pytest.mark.parametrize("tokens", [slice(None), slice(0, 1), slice(7, 8), slice(40, 53)])
def test_a_token_reads_the_latent_of_its_source_one_step_earlier_and_its_own_levels_so_far(tokenizer, tokens):
    sizes = tokenizer.sizes
    read = ReadVectors(sizes.n_dim, 2 * sizes.n_dim)
    with torch.no_grad():
        read.project.weight.copy_(torch.eye(2 * sizes.n_dim) / read.scale)  # what is read is returned
    codes = torch.randint(
        sizes.n_codes, (2, sizes.n_sources, 4, sizes.n_levels), generator=torch.Generator().manual_seed(1)
    )
    sequence = flatten_codes(codes)
    found = read(sequence.codes, vectors_of_codes(tokenizer), sizes.n_sources, tokens)
    nothing = tokenizer.features_from_codes(torch.zeros_like(codes))
    whole = tokenizer.features_from_codes(codes) - nothing
    for number, index in enumerate(range(sequence.codes.shape[1])[tokens]):
        time, source, level = (int(part[0, index]) for part in (sequence.time, sequence.source, sequence.level))
        own = codes.clone()
        own[..., level:] = 0
        expected = (tokenizer.features_from_codes(own) - nothing)[:, source, time]
        before = whole[:, source, time - 1] if time else torch.zeros_like(expected)
        torch.testing.assert_close(found[:, number], torch.cat([before, expected], dim=-1), atol=1e-5, rtol=1e-4)


def test_each_level_has_its_own_output_weights():
    head = LevelHead(4, 3, 5)
    hidden, level = torch.randn(2, 6, 4), torch.arange(3).repeat(2)[None].expand(2, -1)
    assert not head(hidden, level).any()
    torch.nn.init.normal_(head.weight)
    torch.nn.init.normal_(head.bias)
    found = head(hidden, level)
    for index in range(6):
        expected = hidden[:, index] @ head.weight[index % 3].T + head.bias[index % 3]
        torch.testing.assert_close(found[:, index], expected)
        torch.testing.assert_close(head(hidden[:, index : index + 1], level[:, index : index + 1])[:, 0], expected)


def test_code_vectors_need_counted_shares():
    for name in ("code_vectors", "level_heads"):
        with pytest.raises(ValidationError, match="code_tables"):
            CausalConfig(**{name: True})
