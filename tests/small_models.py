"""Small networks that tests share: their sizes, a BrainOmni in a folder, and one thread for torch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from emeg.models import BrainOmni, BrainOmniConfig
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig

SMALL = {"n_filters": 2, "n_dim": 16, "n_neuro": 4, "n_head": 2, "codebook_dim": 16, "codebook_size": 16}
"""Sizes of a tokenizer with windows of 2 s, which trains in seconds."""
TINY = BrainTokenizerConfig(
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
"""A tokenizer with windows of half a second, for tests of the network itself."""


def small_brainomni() -> BrainOmni:
    """Return a BrainOmni of two blocks with seeded weights on a `SMALL` tokenizer."""
    torch.manual_seed(0)
    return BrainOmni(BrainOmniConfig(lm_dim=32, lm_head=4, lm_depth=2), BrainTokenizerConfig(**SMALL))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of `small_brainomni`."""
    folder = tmp_path_factory.mktemp("model")
    small_brainomni().save_pretrained(folder, provenance={})
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
