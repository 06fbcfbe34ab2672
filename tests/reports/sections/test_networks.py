"""Every panel about training is drawn from the files that training writes."""

import pyarrow as pa
import pytest
import torch

from emeg.reports.sections.networks import DRAWINGS, training_pictures
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.training.loop.history import History
from emeg.training.stages.tokenizer_metrics import Group, ReconstructionMetrics


@pytest.fixture(scope="module")
def tokenizer_history() -> pa.Table:
    """Return the history of a validation of a small network, in the names that training writes."""
    config = BrainTokenizerConfig(
        n_dim=8, n_filters=2, n_neuro=2, n_head=2, codebook_dim=8, codebook_size=16, num_quantizers=3
    )
    network = BrainTokenizer(config).eval()
    signal, pos, kind = torch.randn(2, 3, 512), torch.randn(2, 3, 6), torch.zeros(2, 3, dtype=torch.int32)
    group = Group("cap", 3)
    validation = ReconstructionMetrics([group], n_quantizers=3, n_codes=16, n_dim=8)
    with torch.inference_mode():
        tokens = network.tokenize(signal, pos, kind)
        made, target = network.reconstruct(signal, pos, kind), network.targets(signal)
        validation.add([group] * 2, made, target, tokens.codes, tokens.features, None)
    history = History()
    for step in (10, 20):
        history.add(step, "train", dict.fromkeys(("loss", "time", "amplitude", "phase", "commitment"), 1.0))
        history.add(step, "validation", validation.metrics())
    rows = history.metrics
    return pa.table({name: [getattr(row, name) for row in rows] for name in ("step", "split", "name", "value")})


def test_every_panel_of_the_tokenizer_is_drawn(tokenizer_history: pa.Table):
    drawn = training_pictures("tokenizer", tokenizer_history)
    assert len(drawn) == len(DRAWINGS["tokenizer"])
    use_of_codes = drawn[-1]
    assert all(f"quantizer {level}" in use_of_codes.svg for level in (1, 2, 3))
