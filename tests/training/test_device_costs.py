"""Costs of a step on a GPU, counted on fake CUDA tensors in another process, against the budgets in the project."""

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
from emeg.training.loop.speed import brainomni_operations

ROOT = Path(__file__).parents[2]
budgets = json.loads(BUDGETS.read_bytes())


@pytest.mark.skipif(shutil.which("g++") is None, reason="the fake device is compiled by g++")
def test_a_step_keeps_to_its_budget_and_never_waits_for_the_device():
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.device_costs"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["graph_breaks"] == 0
    assert {"tokenizer nano 16 channels", "brainomni nano"} == set(report["costs"])


def test_budgets_allow_no_wait_in_a_step():
    for parts in budgets.values():
        for part in ("micro_batch", "step"):
            assert (parts[part]["waits"], parts[part]["uploads"]) == (0, 0)


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
    assert 2 * brainomni_operations(config, TOKENIZERS["paper"], n_steps=160) == pytest.approx(counted, rel=0.05)


def test_dropout_on_a_device_is_that_of_fused_kernels():
    """The meta device stands for a GPU; a generator would rule the kernels out and break a compiled graph."""
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
