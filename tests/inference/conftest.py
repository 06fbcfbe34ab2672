import mne
import numpy as np
import pytest
import torch
from tests.small_models import (
    SMALL,
    model,  # noqa: F401 - a fixture for the folder
)

from emeg.models.causal.config import CausalConfig
from emeg.models.causal.transformer import CausalTransformer
from emeg.models.crossscale.config import CrossScaleConfig
from emeg.models.crossscale.encoder import CrossScale
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"]


@pytest.fixture
def info():
    return eeg_info(256.0)


def eeg_info(sfreq):
    info = mne.create_info(NAMES, sfreq, "eeg")
    info.set_montage("colin27_1005")
    return info


def brain_like(n_channels, n_samples, sfreq, seed=0):
    """1/f noise with an alpha rhythm, 20 µV."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft(generator.normal(size=(n_channels, n_samples)))
    rates = np.fft.rfftfreq(n_samples, 1 / sfreq)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(rates, 1.0)), n=n_samples)
    alpha = np.sin(2 * np.pi * 10.0 * np.arange(n_samples) / sfreq + generator.uniform(0, 6, (n_channels, 1)))
    return 20e-6 * (noise / noise.std() + 0.5 * alpha)


@pytest.fixture(scope="session", params=["channels", "latent sources", "cross-scale"])
def other_encoder(request, tmp_path_factory):
    """Folder of an encoder other than BrainOmni."""
    torch.manual_seed(0)
    causal = {"width": 32, "n_head": 2, "depth": 2, "context_tokens": 256}
    if request.param == "channels":
        sizes = CausalConfig(across_sources=False, linear_taps=8, **causal)
        network = CausalTransformer(sizes, MuLaw(MuLawConfig(n_codes=32)))
    elif request.param == "latent sources":
        network = CausalTransformer(CausalConfig(**causal), BrainTokenizer(BrainTokenizerConfig(**SMALL)))
    else:
        sizes = CrossScaleConfig(n_dim=32, n_head=2, depth=2, overlap_ratio=0.0)
        network = CrossScale(sizes, BrainTokenizer(BrainTokenizerConfig(**SMALL)))
    folder = tmp_path_factory.mktemp("other")
    network.save_pretrained(folder)
    return folder
