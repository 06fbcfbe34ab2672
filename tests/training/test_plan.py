"""A training reads what ``emeg plan`` states."""

import json

import numpy as np
import pytest
import torch
from tests.messages import refusal

from emeg.data import Corpus, SamplingPlan
from emeg.data.reading.prefetch import MAX_GAP_REMOTE, plan_reads
from emeg.errors import UserError
from emeg.store import Store
from emeg.training import PlanConfig, TrainTokenizerConfig, plan_training
from emeg.training.loop.accumulation import GradientTree
from emeg.training.state_memory import state_memory


def test_the_forecast_is_the_epoch(root):
    found = plan_training(PlanConfig(root=root, micro_batches=4, ranks=2))
    corpus = Corpus.open(Store.open(root), found.corpus)
    sampling = TrainTokenizerConfig(root=root).sampling.model_copy(update={"micro_batches": 4})
    plan = SamplingPlan(corpus, sampling)
    batches = [b for step in range(plan.n_steps()) for b in plan.micro_batches(0, step)]
    assert found.steps_per_epoch == len(batches) / 4
    assert found.batches_per_rank == len(batches) / 2
    channels = [int(corpus.column("channels")[b.segments[0]]) for b in batches]
    assert found.batches == {str(c): channels.count(c) for c in sorted(set(channels))}
    assert found.segments_per_epoch == sum(len(b.segments) for b in batches)
    assert found.padding == 0
    largest = max(len(b.segments) * c for b, c in zip(batches, channels, strict=True))
    assert found.batch_mib * 2**20 == pytest.approx(largest * (4 * 512 + 33))
    runs = [plan_reads(corpus, plan.share(0, rank=r, n_ranks=2), max_gap=MAX_GAP_REMOTE) for r in (0, 1)]
    total = sum(run.n_bytes for run in runs)
    assert found.gib_per_epoch * 2**30 == pytest.approx(total)
    rows = np.concatenate([b.segments for b in batches])
    assert total >= corpus.column("bytes")[rows].sum()
    assert 0 < found.held_mib * 2**20 <= runs[0].n_bytes
    assert found.suffices is None


def test_a_step_is_divided_for_the_ranks(root):
    found = plan_training(PlanConfig(root=root, micro_batches=6, ranks=4))
    assert found.micro_batches == 12
    assert found.batches_per_rank == 3 * found.steps_per_epoch
    assert plan_training(PlanConfig(root=root, micro_batches=6, ranks=3)).micro_batches == 6


def test_a_network_is_sharded_only_where_a_gpu_does_not_hold_its_state(root):
    def plan(**given):
        return plan_training(PlanConfig(root=root, recipe="braintokenizer-nano", micro_batches=16, **given))

    alone = plan(ranks=1)
    assert (alone.strategy, alone.strategy_gib) == ("ddp", alone.state_gib)
    small = alone.state_gib
    assert plan(ranks=16, memory_gib=small).strategy == "fsdp2"
    assert plan(ranks=16, nodes=2, memory_gib=small).strategy == "hybrid"
    assert plan(ranks=16, nodes=16, memory_gib=small).strategy == "fsdp2"
    assert plan(ranks=16, memory_gib=small).strategy_gib < 0.3 * small


def test_the_recipes_networks_need_no_shards():
    for n_millions in (5.05, 8.42, 32.7):
        memory = state_memory(round(n_millions * 1e6), ranks=1, nodes=1, micro_batches=16)
        assert memory.choose(80 * 2**30, nodes=1) == "ddp"


@pytest.mark.parametrize("micro_batches", [1, 2, 4, 8, 16])
def test_the_state_is_what_a_step_holds(micro_batches, monkeypatch):
    network = torch.nn.Linear(50, 40, bias=False)
    tree = GradientTree(network.parameters(), micro_batches)
    optimiser = torch.optim.AdamW(network.parameters())
    most = 0
    for _ in range(micro_batches):
        network(torch.ones(1, 50)).sum().backward()
        gradients = [network.weight.grad, *(part for parts in tree._partial for part in parts.values())]
        most = max(most, sum(gradient.nbytes for gradient in gradients))
        tree.after_backward()
    optimiser.step()
    moments = sum(value.nbytes for name, value in optimiser.state[network.weight].items() if name != "step")
    held = network.weight.nbytes + most + moments
    assert state_memory(2000, ranks=1, nodes=1, micro_batches=micro_batches).ddp == held


def test_the_bandwidth_is_judged_for_each_machine(root):
    one = plan_training(PlanConfig(root=root, micro_batches=4, ranks=4, bandwidth_mib_s=10.0, step_s=100.0))
    two = plan_training(PlanConfig(root=root, micro_batches=4, ranks=4, nodes=2, bandwidth_mib_s=10.0, step_s=1e-9))
    assert one.mib_per_step == pytest.approx(2 * two.mib_per_step)
    assert one.fastest_step_s == pytest.approx(one.mib_per_step / 10)
    assert one.suffices is True
    assert two.suffices is False


@pytest.mark.parametrize(
    ("given", "named", "action"),
    [
        ({"micro_batches": 6, "ranks": 3, "nodes": 2}, "ranks=3", "multiple"),
        ({"recipe": "nowhere"}, "recipe 'nowhere'", "braintokenizer-nano"),
        ({"recipe": "brainomni-nano"}, "corpus", "tokenize"),
    ],
)
def test_refusals_say_what_would_do(root, given, named, action):
    with refusal(UserError, named, action=action):
        plan_training(PlanConfig(root=root, **given))


def test_tokens_are_counted_by_their_own_size(root, tmp_path):
    corpus = Corpus.open(Store.open(root))
    folder = Store.open(root).location("tokens", "t").local_path()
    folder.mkdir(parents=True)
    manifest = {"corpus": corpus.name, "bytes": 1000 * len(corpus), "shape": [len(corpus), 2, 5, 4]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    own = tmp_path / "own.yaml"
    own.write_text("batch_segments: 3\nmicro_batches: 2\n")
    try:
        found = plan_training(PlanConfig(root=root, recipe=str(own), ranks=2))
    finally:
        (folder / "manifest.json").unlink()
        folder.rmdir()
    n = int((corpus.column("split") == "train").sum())
    assert found.segments_per_epoch == n
    assert found.gib_per_epoch * 2**30 == pytest.approx(1000 * n)
    assert found.requests_per_1000 == 0
    assert found.batches_per_rank == found.steps_per_epoch
