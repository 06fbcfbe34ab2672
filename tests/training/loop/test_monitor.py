"""What a run reports about itself: collapse of codes and latents, NaN and infinity, speed."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tests.messages import refusal
from tests.small_models import SMALL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emeg.data import SamplingConfig
from emeg.errors import UserError
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.tokenizers.braintokenizer import BrainTokenizer, BrainTokenizerConfig
from emeg.tokenizers.braintokenizer.quantization.residual import ResidualQuantizer
from emeg.training import TrainTokenizerConfig, train_tokenizer
from emeg.training.loop.speed import SpeedMeter, brainomni_operations, tokenizer_operations
from emeg.training.stages.tokenizer_metrics import collapse_metrics
from emeg.training.stages.tokenizer_training import TokenizerTraining


def quantizer(latents: torch.Tensor, steps: int) -> ResidualQuantizer:
    torch.manual_seed(0)
    network = ResidualQuantizer(8, 8, 16, 2, rotation_trick=True).train()
    for step in range(steps):
        network(latents, torch.Generator().manual_seed(step))
        network.follow()
    return network


def test_collapse_shows():
    one = torch.ones(200, 8) + 1e-4 * torch.randn(200, 8)
    alike = collapse_metrics(quantizer(one, 4).watched())
    apart = collapse_metrics(quantizer(torch.randn(200, 8), 4).watched())
    assert alike["latent_cosine"] > 0.99
    assert abs(apart["latent_cosine"]) < 0.1
    assert apart["perplexity/0"] > 8
    assert {"codes/0", "codes/1", "perplexity/1", "dead/0", "dead/1"} <= set(apart)


def test_counts_are_those_of_the_codes_seen_and_start_anew():
    latents = torch.randn(60, 8)
    network = quantizer(latents, 1)
    network.watch_on({})
    codes = [network(latents, torch.Generator().manual_seed(9)).codes for _ in range(2)]
    network.follow()
    watched = network.watched()
    for level in range(2):
        expected = sum(torch.bincount(c[:, level], minlength=16) for c in codes)
        assert torch.equal(watched["used"][level], expected.float())
    assert float(watched["latents"][-1]) == 120
    network.watch_on({})
    assert network.watched() == {}


def test_dead_codes_are_counted():
    network = quantizer(torch.randn(300, 8), 1)
    network.watch_on({})
    network.codebooks[0].cluster_size[3:5] = 0.0
    network.codebooks[0].embed[3:5] = 99.0
    network(torch.randn(300, 8), torch.Generator().manual_seed(0))
    network.follow()
    assert network.watched()["replaced"][0] >= 2


@pytest.fixture
def config(root, tmp_path) -> TrainTokenizerConfig:
    return TrainTokenizerConfig(
        root=root,
        overrides=SMALL,
        steps=8,
        ramp_steps=2,
        sampling=SamplingConfig(budget_channel_seconds=60, crop_s=2.0, micro_batches=2),
        validate_every=8,
        checkpoint_every=2,
        checkpoint_in_background=False,
        log_every=2,
        run_dir=str(tmp_path / "runs"),
        device="cpu",
        launched=False,
    )


def test_a_gradient_that_is_no_number_stops_the_run_with_its_recordings_and_spoils_no_weight(
    config, tmp_path, monkeypatch
):
    seen: list[TokenizerTraining] = []
    find = TokenizerTraining.configure_gradient_clipping

    def keep(self, optimizer, **rest):
        seen.append(self)
        if len(seen) == 6:
            next(p for p in self.network.parameters() if p.grad is not None).grad.fill_(torch.nan)
        find(self, optimizer, **rest)

    monkeypatch.setattr(TokenizerTraining, "configure_gradient_clipping", keep)
    with refusal(UserError, "step 5", "gradient", "recording d", action="learning rate"):
        train_tokenizer(config)
    kept = sorted(Path(config.run_dir or "").glob("*/checkpoints/*"))
    assert any("00000004" in path.name for path in kept), [path.name for path in kept]
    assert not any("00000006" in path.name for path in kept)
    assert all(p.isfinite().all() for p in seen[-1].network.parameters())


def test_the_fused_optimiser_skips_a_step_with_found_inf():
    """This keeps the weights valid on a GPU, where the guard checks only when metrics are logged."""
    weight = nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([weight], lr=0.1, fused=True)
    weight.grad = torch.full((3,), torch.nan)
    optimiser.found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimiser.step()
    assert torch.equal(weight, torch.ones(3))
    weight.grad = torch.ones(3)
    optimiser.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    optimiser.step()
    assert bool((weight < 1).all())


def test_history_has_the_monitor_and_no_clock(config):
    result = train_tokenizer(config)
    table = pq.read_table(Path(config.root) / "models" / result.model / "metrics.parquet").to_pandas()
    names = set(table[table["split"] == "train"]["name"])
    assert {"codes/0", "perplexity/3", "dead/0", "latent_cosine", "gradient_norm"} <= names
    assert not any(name.startswith(("segments_per_s", "data_wait", "mfu", "speed")) for name in names)


def test_shares_of_time_are_those_of_the_clock():
    times = iter([0.0, 0.0, 2.0, 4.0, 9.0, 9.0, 10.0, 10.0, 10.0])
    meter = SpeedMeter(peak=100.0, clock=lambda: next(times))  # 0
    meter.ask()  # 0
    meter.receive(8, 30.0)  # 2: two seconds of waiting
    meter.pause()  # 4
    meter.resume()  # 9, and 9: asked
    meter.receive(4, 30.0)  # 10: one second of waiting
    figures = meter.metrics()  # 10: five seconds without validation
    assert figures == pytest.approx({"segments_per_s": 2.4, "data_wait": 0.6, "teraflops": 12e-12, "mfu": 0.12})


def test_operations_of_brainomni_are_those_that_torch_counts():
    tokenizer = BrainTokenizerConfig(n_filters=2, n_dim=32, codebook_dim=32, codebook_size=64, n_neuro=4, n_head=2)
    sizes = BrainOmniConfig(lm_dim=64, lm_head=4, lm_depth=3, lm_dropout=0.1)
    model = BrainOmni(sizes, tokenizer).train()
    model.tokenizer.requires_grad_(requires_grad=False)
    codes = torch.randint(64, (2, 4, 40, 4))
    with FlopCounterMode(display=False) as counter:
        features = model.tokenizer.features_from_codes(codes)
        model.pretraining_loss(features, codes, generator=torch.Generator().manual_seed(0)).total.backward()
    assert 2 * brainomni_operations(sizes, tokenizer.sizes, n_steps=40) == pytest.approx(
        counter.get_total_flops(), rel=0.05
    )


def test_operations_of_the_tokenizer_are_those_that_torch_counts_and_the_lstms():
    sizes = BrainTokenizerConfig(n_filters=4, n_dim=32, codebook_dim=32, codebook_size=64, n_neuro=4, n_head=2)
    model = BrainTokenizer(sizes).train()
    given = (torch.randn(2, 8, 1024), torch.randn(2, 8, 6), torch.zeros(2, 8, dtype=torch.long))
    model.training_loss(*given)
    with FlopCounterMode(display=False) as counter:
        model.training_loss(*given).total.backward()
    lstms = 3.0 * 2 * 2 * (6 + 8) * 8 * (2 * 2 * 4 * 32 * 64)  # rows · steps · layers · four gates of input and state
    expected = counter.get_total_flops() + lstms
    assert math.isclose(2 * tokenizer_operations(sizes, n_seen=6, n_channels=8, n_windows=2), expected, rel_tol=0.1), (
        expected
    )
