"""Small tokenizers and made-up signals."""

import pytest
import torch

from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_config() -> BrainTokenizerConfig:
    return BrainTokenizerConfig(
        window_length=128,
        n_filters=4,
        ratios=(4, 2, 2),
        n_dim=16,
        n_neuro=5,
        n_head=2,
        codebook_dim=16,
        codebook_size=32,
        num_quantizers=3,
    )


@pytest.fixture
def tiny(tiny_config) -> BrainTokenizer:
    torch.manual_seed(0)
    return BrainTokenizer(tiny_config)
