"""Costs of a step on a GPU, counted on fake CUDA tensors in another process, against the budgets in pyproject.toml."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from benchmarks.device_costs import BUDGETS, over_budget
from torch import nn

from emeg.models import PRESETS, BrainOmni
from emeg.tokenizers.braintokenizer import PRESETS as TOKENIZERS
from emeg.training.loop.speed import brainomni_operations, tokenizer_operations

ROOT = Path(__file__).parents[2]
budgets = json.loads(BUDGETS.read_bytes())


def run_counts(script="", *options):
    """Count in another process, which loads the fake device before PyTorch; `script` changes the code first."""
    program = f"from benchmarks._fake_cuda import enable\nenable()\n{script}\n"
    program += "import sys\nfrom benchmarks import device_costs\n"
    program += "sys.argv = ['device_costs', *sys.argv[1:]]\ndevice_costs.main()\n"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", program, *options]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="the fake device is compiled by g++")


@needs_compiler
def test_a_step_keeps_to_its_budget_and_never_waits_for_the_device():
    done = run_counts()
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["graph_breaks"] == 0
    assert report["graphs_added"] == [1, 1, 1, 1, 0, 0, 0, 0]  # one for each of four shapes, whatever the depth
    tokenizers = {"tokenizer nano 16 channels", "tokenizer emeg-nano 16 channels"}
    assert tokenizers | {"brainomni nano", "finetuning nano"} == set(report["costs"])
    memory = report["attention_memory_mib"]
    assert memory["fused"] < 2 / 3 * memory["explicit"]


MUTATIONS = {
    "a wait in the step": """
import emeg.training.stages.pretraining as stage
step = stage.EncoderTraining.training_step
def waiting(self, batch, index):
    loss = step(self, batch, index)
    loss.detach().cpu()
    return loss
stage.EncoderTraining.training_step = waiting
""",
    "a graph break": """
import torch, emeg.models.blocks as blocks
forward = blocks.Block.forward
def broken(self, x, rotary, generator=None):
    torch._dynamo.graph_break()
    return forward(self, x, rotary, generator)
blocks.Block.forward = broken
""",
}
"""Changes of the code that a device would suffer from."""


@needs_compiler
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("a wait in the step", "brainomni nano, micro_batch: 1 waits, budget 0"),
        ("a graph break", "graph breaks, budget 0"),
    ],
)
def test_a_wait_or_a_graph_break_that_is_added_fails(change, complaint):
    done = run_counts(MUTATIONS[change], "--only", "brainomni nano")
    assert done.returncode == 1
    assert complaint in done.stderr


def test_validation_and_tokenizing_wait_only_for_their_results():
    """A tokenizer checks its input twice and reads four sums; BrainOmni reads nothing until the end."""
    assert budgets["brainomni nano"]["validation"]["waits"] == 0
    for tokenizer in ("nano", "emeg-nano"):
        assert budgets[f"tokenizer {tokenizer} 16 channels"]["tokenizing"]["waits"] <= 2
        assert budgets[f"tokenizer {tokenizer} 16 channels"]["validation"]["waits"] <= 6


@pytest.mark.parametrize(("preset", "channels"), [("paper", 64), ("nano", 16)])
def test_operations_of_the_tokenizer_are_those_counted(preset, channels):
    counted = budgets[f"tokenizer {preset} {channels} channels"]["micro_batch"]["gflop"] * 1e9
    sizes = TOKENIZERS[preset]
    n_seen = channels - max(1, int(channels * sizes.hidden_ratio))
    per_segment = tokenizer_operations(sizes, n_seen=n_seen, n_channels=channels, n_windows=5)
    assert 2 * per_segment == pytest.approx(counted, rel=0.07)


def test_budgets_allow_no_wait_in_a_step():
    for parts in budgets.values():
        for part in ("micro_batch", "step"):
            assert (parts[part]["waits"], parts[part]["uploads"]) == (0, 0)
    assert budgets["finetuning nano"]["validation"]["waits"] == 0  # the predictions are read once an epoch


def test_a_step_of_base_starts_at_most_1500_kernels():
    costs = budgets["brainomni base"]
    assert costs["micro_batch"]["kernels"] + costs["step"]["kernels"] <= 1500


def test_a_cost_above_its_budget_is_named():
    found = json.loads(BUDGETS.read_bytes())
    found["brainomni nano"]["step"]["waits"] += 1
    assert over_budget(found, budgets) == ["brainomni nano, step: 1 waits, budget 0"]


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_operations_of_the_papers_sizes_are_those_counted(size):
    counted = budgets[f"brainomni {size}"]["micro_batch"]["gflop"] * 1e9
    # on a GPU the head runs on all tokens, since counting the masked ones would wait for the device
    config = PRESETS[size].model_copy(update={"mask_ratio": 1.0})
    assert 2 * brainomni_operations(config, TOKENIZERS["paper"].sizes, n_steps=160) == pytest.approx(counted, rel=0.05)


def test_dropout_on_a_device_is_that_of_fused_kernels():
    """The meta device stands for a GPU; a generator would exclude the fused kernels and break the compiled graph."""
    with torch.device("meta"):
        network = BrainOmni(PRESETS["nano"].model_copy(update={"lm_dropout": 0.1}), TOKENIZERS["nano"]).train()
        codes = torch.zeros(1, network.tokenizer.config.n_neuro, 8, network.tokenizer.config.num_quantizers).long()
    seen = []
    attend = nn.functional.scaled_dot_product_attention

    def record(*given, dropout_p=0.0, **named):
        seen.append(dropout_p)
        return attend(*given, dropout_p=0.0, **named)

    features = torch.zeros(*codes.shape[:3], network.tokenizer.config.n_dim, device="meta")
    with mock.patch.object(nn.functional, "scaled_dot_product_attention", record):
        network.pretraining_loss(features, codes, generator=torch.Generator().manual_seed(0))
    assert seen == [0.1] * (2 * PRESETS["nano"].lm_depth)
