"""Linear prediction of latents: what it reads, and what it knows of sources that copy others."""

import pytest
import torch
from pydantic import ValidationError
from tests.small_models import TINY

from emeg.models.causal.config import CausalConfig
from emeg.models.causal.latents import LatentPrediction, vectors_of_codes
from emeg.models.causal.sequence import flatten_codes
from emeg.models.causal.tables import CodeTables
from emeg.models.causal.transformer import CausalTransformer
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.interface import Tokens

N_STEPS = 20


@pytest.fixture(scope="module")
def tokenizer() -> BrainTokenizer:
    torch.manual_seed(0)
    return BrainTokenizer(TINY).eval()


def copies(sizes, seed: int, n_segments: int) -> list[torch.Tensor]:
    """Draw codes: the first source at random, the second as the first, all others as the last one step before."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_segments, sizes.n_sources, N_STEPS, sizes.n_levels)
    codes = torch.randint(sizes.n_codes, shape, generator=generator)
    codes[:, 1] = codes[:, 0]
    codes[:, 2, 1:] = codes[:, -1, :-1]
    return list(codes)


@pytest.mark.parametrize("tokens", [slice(None), slice(0, 1), slice(7, 8), slice(40, 53)])
def test_what_remains_is_the_regression_minus_the_levels_so_far(tokenizer, tokens):
    sizes = tokenizer.sizes
    found = LatentPrediction(sizes.n_sources, sizes.n_levels, sizes.n_codes, sizes.n_dim)
    found.fit(copies(sizes, 1, 4), vectors_of_codes(tokenizer), CodeTables(*sizes_of_tables(sizes)))
    codes = copies(sizes, 2, 1)[0][None]
    sequence = flatten_codes(codes)
    remaining = found.remaining(sequence.codes, tokens)
    nothing = tokenizer.features_from_codes(torch.zeros_like(codes))
    latents = (tokenizer.features_from_codes(codes) - nothing)[0]
    for number, index in enumerate(range(sequence.codes.shape[1])[tokens]):
        time, source, level = (int(part[0, index]) for part in (sequence.time, sequence.source, sequence.level))
        own = slice(source * sizes.n_dim, (source + 1) * sizes.n_dim)
        expected = found.constant[own].clone()
        for other in range(sizes.n_sources):
            rows = slice(other * sizes.n_dim, (other + 1) * sizes.n_dim)
            if time:
                expected += latents[other, time - 1] @ found.before[rows, own]
            if other < source:
                expected += latents[other, time] @ found.same[rows, own]
            else:
                assert not found.same[rows, own].any()
        so_far = codes.clone()
        so_far[..., level:] = 0
        expected -= (tokenizer.features_from_codes(so_far) - nothing)[0, source, time]
        torch.testing.assert_close(remaining[0, number], expected, atol=1e-4, rtol=1e-3)


def sizes_of_tables(sizes) -> tuple[int, int, int]:
    return sizes.n_sources, sizes.n_levels, sizes.n_codes


def test_an_untrained_network_knows_sources_that_copy_others(tokenizer):
    sizes = tokenizer.sizes
    losses = {}
    for latent_prediction in (False, True):
        torch.manual_seed(0)
        config = CausalConfig(
            width=32, n_head=2, depth=2, context_tokens=480, code_tables=True, latent_prediction=latent_prediction
        )
        network = CausalTransformer(config, tokenizer).eval()
        codes = torch.stack(copies(sizes, 1, 60))
        network.prepare([Tokens(tokenizer.features_from_codes(codes), codes)])
        tested = torch.stack(copies(sizes, 2, 2))[:, :, :8]
        with torch.no_grad():
            logits, sequence = network.logits(tested)
        lost = torch.nn.functional.cross_entropy(logits.transpose(1, 2), sequence.codes, reduction="none")
        late = sequence.time > 0
        losses[latent_prediction] = [float(lost[late & (sequence.source == source)].mean()) for source in range(3)]
    drawn, same, before = losses[True]
    assert drawn == pytest.approx(losses[False][0], abs=0.2), losses
    assert same < losses[False][1] - 1, losses
    assert before < losses[False][2] - 1


def test_latents_are_predicted_in_one_sequence_of_counted_codes():
    with pytest.raises(ValidationError, match="code_tables"):
        CausalConfig(latent_prediction=True)
    with pytest.raises(ValidationError, match="across_sources"):
        CausalConfig(latent_prediction=True, code_tables=True, across_sources=False)
