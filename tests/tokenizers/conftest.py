"""Small tokenizers and made-up signals."""

import pytest
import torch
from tests.small_models import TINY, one_thread  # noqa: F401 - a fixture for the folder

from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig


@pytest.fixture(scope="session")
def tiny_config() -> BrainTokenizerConfig:
    return TINY


@pytest.fixture
def tiny(tiny_config) -> BrainTokenizer:
    torch.manual_seed(0)
    return BrainTokenizer(tiny_config)
