"""Continuations in physical units: an oracle is right in time and scale, and nothing of the future is used."""

import numpy as np
import pytest
import torch
from tests.small_models import TINY
from tests.training.conftest import rhythms, sensors_of

from emeg.evaluation.generation.continuing import (
    average_reference,
    continue_with_linear_model,
    continue_with_network,
)
from emeg.evaluation.generation.prompts import Stretch
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.transformer import CausalTransformer
from emeg.tokenizers.braintokenizer import BrainTokenizer
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

SETTINGS = {"temperature": 1.0, "top_p": 1.0, "seed": 0, "device": torch.device("cpu")}
N_BEFORE, N_AFTER = 1024, 512


@pytest.fixture
def stretch():
    signal = rhythms(np.random.default_rng(0), 5, N_BEFORE + N_AFTER)
    before, after = signal[:, :N_BEFORE], signal[:, N_BEFORE:]
    return Stretch("r", "d/s", sensors_of(5), 256.0, before, after, None)


class Oracle:
    """Returns the codes of the recorded continuation, scaled as the prompt is."""

    def __init__(self, stretch: Stretch, n_prompt: int) -> None:
        self.tokenizer = MuLaw(MuLawConfig(n_codes=8192))
        prompt = average_reference(stretch.before[:, -n_prompt:], stretch.sensors.types)
        self._after = average_reference(stretch.after, stretch.sensors.types) / (prompt.std() + 1e-5)

    def continue_codes(self, codes, n_steps, *, generator, temperature, top_p, sources):
        """Continue without the keyword `hold_scale`, which encoders of other packages need not have."""
        x = torch.from_numpy(self._after)[None].float()
        made = self.tokenizer.tokenize(x, torch.zeros(1, 5, 6), torch.zeros(1, 5).long()).codes
        assert made.shape[2] == n_steps
        return made


@pytest.mark.parametrize("n_prompt", [256, 1024])
def test_an_oracle_returns_the_recorded_continuation(stretch, n_prompt):
    made = continue_with_network(Oracle(stretch, n_prompt), stretch, n_prompt, N_AFTER, **SETTINGS)
    expected = average_reference(stretch.after, stretch.sensors.types)
    assert np.abs(made - expected).max() < 0.01 * expected.std()


def test_nothing_of_the_future_is_used(stretch):
    torch.manual_seed(0)
    sizes = CausalConfig(width=32, n_head=2, depth=2, context_tokens=128, across_sources=False)
    network = CausalTransformer(sizes, MuLaw(MuLawConfig(n_codes=32))).eval()
    made = continue_with_network(network, stretch, 256, 256, **SETTINGS)
    other = stretch._replace(after=100 * stretch.after)
    assert np.array_equal(made, continue_with_network(network, other, 256, 256, **SETTINGS))
    assert not np.array_equal(made, continue_with_network(network, stretch, 256, 256, **SETTINGS | {"seed": 1}))
    assert 0.01 < made.std() / stretch.before.std() < 100
    several = continue_with_network(network, stretch, 256, 256, n_draws=3, **SETTINGS)
    assert several.shape == (3, 5, 256)
    assert not np.array_equal(several[0], several[1])


def test_latent_sources_are_continued_in_whole_windows(stretch):
    torch.manual_seed(0)
    tokenizer = BrainTokenizer(TINY.model_copy(update={"target": "signal"}))
    network = CausalTransformer(CausalConfig(width=32, n_head=2, depth=2, context_tokens=480), tokenizer).eval()
    made = continue_with_network(network, stretch, 256, 256, **SETTINGS)
    assert made.shape == (1, 5, 256)
    assert np.isfinite(made).all()
    assert made.std() > 0


def test_a_linear_model_of_another_subject_has_the_rhythm_of_that_subject_and_the_scale_of_the_prompt(stretch):
    generator = np.random.default_rng(1)
    seconds = np.arange(N_BEFORE) / 256.0
    own, other = (
        stretch._replace(before=scale * (np.sin(2 * np.pi * hertz * seconds + k) + 0.1 * noise).astype(np.float32))
        for hertz, scale in ((6.0, 1e-5), (20.0, 1e-3))
        for k, noise in [(np.arange(5)[:, None], generator.standard_normal((5, N_BEFORE)))]
    )
    for fitted_to, hertz in ((None, 6.0), (other, 20.0)):
        made = continue_with_linear_model(own, N_BEFORE, N_AFTER, order=20, seed=0, fitted_to=fitted_to)[0]
        power = np.abs(np.fft.rfft(made)).mean(axis=0)
        assert np.fft.rfftfreq(N_AFTER, 1 / 256.0)[power.argmax()] == pytest.approx(hertz, abs=1.0)
        assert 0.1 < made.std() / own.before.std() < 10
