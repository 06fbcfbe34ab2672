"""Sums of validation against the metrics of all samples at once."""

import pytest
import torch

from emeg import metrics
from emeg.training.stages.tokenizer_metrics import Group, ReconstructionMetrics


def test_cosine_and_rank_of_pooled_ranks_are_those_of_all_latents_together():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(6, 2, 3, 4, generator=generator) * torch.tensor([4.0, 2.0, 0.5, 0.1])
    group = Group("x", 2)
    ranks = []
    for part in latents.split(3):
        one = ReconstructionMetrics([group], n_quantizers=1, n_codes=4, n_dim=4)
        signal = torch.randn(3, 2, 1, 8, generator=generator)
        one.add([group] * 3, signal, signal, torch.zeros(3, 2, 3, 1, dtype=torch.long), part, None)
        ranks.append(one)
    seen = []
    ranks[1].pool(lambda theirs: seen.append(theirs) or theirs)  # in the order in which every rank asks
    others = iter(seen)
    ranks[0].pool(lambda mine: mine + next(others))
    found = ranks[0].metrics()
    unit = torch.nn.functional.normalize(latents.reshape(-1, 4), dim=-1)
    cosines = unit @ unit.T
    n = len(unit)
    assert found[metrics.LATENT_COSINE] == pytest.approx(float((cosines.sum() - n) / (n * (n - 1))), abs=1e-6)
    assert found[metrics.EFFECTIVE_RANK] == pytest.approx(metrics.effective_rank(unit.numpy()), rel=1e-5)
    assert found[metrics.perplexity_of(0)] == pytest.approx(1.0)
