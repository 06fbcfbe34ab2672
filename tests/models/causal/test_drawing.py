"""Drawing codes: temperature, the most likely codes, and quantiles."""

import pytest
import torch

from emeg.models.causal.drawing import draw_codes


def test_draws_follow_temperature_and_top_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(4000, 1)
    counts = [
        torch.bincount(
            draw_codes(logits, generator=torch.Generator().manual_seed(0), temperature=heat, top_p=p), minlength=4
        )
        for heat, p in ((1.0, 1.0), (1.0, 0.7), (0.5, 1.0), (0.0, 1.0))
    ]
    assert torch.allclose(counts[0] / 4000, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03)
    assert counts[1][2:].sum() == 0
    assert float(counts[2][0] / 4000) == pytest.approx(0.25 / 0.365, abs=0.03)
    assert counts[3].tolist() == [4000, 0, 0, 0]


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_codes_are_drawn_at_quantiles(top_p):
    """Uniform numbers on a fine grid give each code its share, in the order of the codes."""
    shares = torch.tensor([0.15, 0.5, 0.05, 0.3])
    grid = (torch.arange(2000) + 0.5) / 2000
    logits = shares.log().expand(2000, -1)
    drawn = draw_codes(logits, generator=torch.Generator(), temperature=1.0, top_p=top_p, uniform=grid)
    kept = shares if top_p == 1 else shares * torch.tensor([0, 1, 0, 1])
    assert bool((drawn.diff() >= 0).all())
    assert torch.allclose(torch.bincount(drawn, minlength=4) / 2000, kept / kept.sum(), atol=1e-3)
