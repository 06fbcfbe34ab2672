"""Counted shares of codes: a process with known probabilities, causality of pairs, refusals."""

import numpy as np
import pytest
import torch
from tests.messages import refusal
from tests.small_models import TINY

from emeg.errors import UserError
from emeg.models import Sources
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.tables import CodeTables, pair
from emeg.models.causal.transformer import CausalTransformer
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.interface import Tokens
from emeg.tokenizers.kernels import Kernels, KernelsConfig
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

STAYS, FOLLOWS = 0.9, 0.8
N_SOURCES, N_CODES = TINY.n_neuro, TINY.codebook_size


def process(seed: int, n_segments: int = 40, n_steps: int = 40) -> torch.Tensor:
    """Draw codes: the first level stays or is drawn anew, the second follows the first or is drawn, the third is drawn.

    New codes are 0 to 3, those of the third level of source s are s to s + 3.
    """
    rng = np.random.default_rng(seed)
    shape = (n_segments, N_SOURCES, n_steps)
    drawn = rng.integers(0, 4, (*shape, 3))
    drawn[..., 2] += np.arange(N_SOURCES)[:, None]
    first = drawn[..., 0].copy()
    for step in range(1, n_steps):
        stays = rng.random(shape[:2]) < STAYS
        first[:, :, step] = np.where(stays, first[:, :, step - 1], first[:, :, step])
    second = np.where(rng.random(shape) < FOLLOWS, first + 8, drawn[..., 1])
    return torch.from_numpy(np.stack([first, second, drawn[..., 2]], axis=-1))


@pytest.mark.parametrize("across", [True, False])
def test_an_untrained_network_predicts_as_the_process_does(across):
    """The expected loss follows from the probabilities of the process, not from counts."""
    torch.manual_seed(0)
    sizes = {"width": 32, "n_head": 2, "depth": 2, "context_tokens": 240, "across_sources": across}
    network = CausalTransformer(CausalConfig(code_tables=True, **sizes), BrainTokenizer(TINY)).eval()
    codes = process(1)
    network.prepare([Tokens(network.tokenizer.features_from_codes(codes), codes)])
    tested = process(2, n_segments=4)
    with torch.no_grad():
        logits, sequence = network.logits(tested)
    lost = torch.nn.functional.cross_entropy(logits.transpose(1, 2), sequence.codes, reduction="none")
    stays = -(STAYS + 0.25 * (1 - STAYS)) * np.log(STAYS + 0.25 * (1 - STAYS))
    moves = -0.75 * (1 - STAYS) * np.log(0.25 * (1 - STAYS))
    follows = -FOLLOWS * np.log(FOLLOWS) - (1 - FOLLOWS) * np.log(0.25 * (1 - FOLLOWS))
    expected = [stays + moves, follows, np.log(4)]
    for level, value in enumerate(expected):
        own = lost[(sequence.level == level) & (sequence.time > 0)]
        # the logits of the new network cost a few hundredths
        assert float(own.mean()) == pytest.approx(value, abs=0.08), level


def test_a_pair_that_was_not_counted_has_the_shares_of_its_source():
    tables = CodeTables(N_SOURCES, 3, N_CODES)
    tables.fit(process(1, n_segments=8))
    found = torch.full((N_SOURCES, 5, 3), N_CODES - 1)  # a code that no source draws
    lost = tables.losses(found)
    assert torch.allclose(lost, -tables.by_source[..., -1].log().mean(dim=0), atol=1e-4)
    assert tables.by_source.sum(dim=-1).allclose(torch.ones(()))


def test_codes_are_paired_with_earlier_ones():
    codes = torch.arange(12).view(1, 4, 3)  # four steps of three levels
    assert pair(codes)[0].tolist() == [[-1, 0, 0], [0, 3, 3], [3, 6, 6], [6, 9, 9]]


def test_channels_share_their_counts():
    """Two channels of one process: shares and pairs are those of both, whatever the number of channels."""
    tables = CodeTables(1, 3, N_CODES)
    codes = process(1, n_segments=8)
    tables.fit(codes)
    expected = torch.bincount(codes[..., 0].flatten(), minlength=N_CODES) / codes[..., 0].numel()
    assert torch.allclose(tables.by_source[0, 0], expected, atol=0.01)
    more = torch.cat([codes[0], codes[1]])
    lost = torch.stack([tables.losses(part) for part in (codes[0], codes[1])]).mean(dim=0)
    assert torch.allclose(tables.losses(more), lost, atol=1e-5)


@pytest.mark.parametrize("across", [True, False])
def test_an_untrained_network_of_learned_samples_starts_from_counts(across):
    torch.manual_seed(0)
    tokenizer = Kernels(KernelsConfig(n_codes=16, width=4, window_length=64))
    sizes = {"width": 32, "n_head": 2, "depth": 2, "context_tokens": 240, "across_sources": across}
    network = CausalTransformer(CausalConfig(code_tables=True, **sizes), tokenizer).eval()
    codes = process(1)[..., :1]
    network.prepare([Tokens(network.tokenizer.features_from_codes(codes), codes)])
    tested = process(2, n_segments=4)[..., :1]
    n = tested.shape[1]
    sources = Sources(torch.randn(4, n, 6), torch.zeros(4, n).long(), torch.ones(4, n, dtype=torch.bool))
    with torch.no_grad():
        logits, sequence = network.logits(tested, sources)
    lost = torch.nn.functional.cross_entropy(logits.transpose(1, 2), sequence.codes, reduction="none")
    stays = STAYS + 0.25 * (1 - STAYS)
    expected = -stays * np.log(stays) - 0.75 * (1 - STAYS) * np.log(0.25 * (1 - STAYS))
    assert float(lost[sequence.time > 0].mean()) == pytest.approx(expected, abs=0.08)


def test_what_does_not_fit_is_refused():
    with refusal(UserError, "latent_prediction", "mulaw", action="nano-channels"):
        CausalTransformer(CausalConfig(code_tables=True, latent_prediction=True), MuLaw(MuLawConfig()))
    with pytest.raises(ValueError, match="linear_taps: 0"):
        CausalConfig(code_tables=True, linear_taps=4)
    with pytest.raises(ValueError, match="segment"):
        CodeTables(1, 1, 4).fit([])
