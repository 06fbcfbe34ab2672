"""Launches that cannot work are refused before anything starts, and documented ones are accepted."""

import re
import shlex
from pathlib import Path

import pytest
from tests.messages import refusal

from emeg.cli import VERBS, parse_config
from emeg.errors import UserError
from emeg.training import PlanConfig, PretrainConfig, TrainTokenizerConfig, train_tokenizer
from emeg.training.launch.preflight import check_launch, check_shares, cpus_per_node, gpus_per_node, micro_batches_of
from emeg.training.plan import read_training

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "cluster.md"
EXAMPLES = [line[2:] for line in PAGE.read_text().splitlines() if line.startswith("$ emeg ")]
CLASSES = {"train-tokenizer": TrainTokenizerConfig, "pretrain": PretrainConfig, "plan": PlanConfig}


@pytest.mark.parametrize("example", [e for e in EXAMPLES if shlex.split(e)[1] in CLASSES])
def test_the_documented_launches_would_start(example):
    _, verb, *flags = shlex.split(example)
    config = parse_config(verb, CLASSES[verb], flags)
    if isinstance(config, PlanConfig):
        ranks = {"nodes": config.nodes, "processes": config.ranks // config.nodes}
        check_shares(read_training(config).model_copy(update=ranks))
        return
    check_launch(config)
    if config.launcher != "local":
        assert gpus_per_node(config) == config.processes


def test_the_page_has_an_example_of_each_launcher():
    assert len([e for e in EXAMPLES if shlex.split(e)[1] in VERBS]) >= 5
    for word in ("slurm", "kubernetes", "rendezvous"):
        assert any(word in example for example in EXAMPLES)


@pytest.mark.parametrize(
    ("config", "nodes", "processes"),
    [
        (TrainTokenizerConfig(root="s", recipe="braintokenizer"), 8, 8),
        (TrainTokenizerConfig(root="s", recipe="braintokenizer"), 3, 2),
        (PretrainConfig(root="s", recipe="brainomni-tiny"), 2, 8),
        (PretrainConfig(root="s", recipe="brainomni-base"), 4, 8),
    ],
)
def test_ranks_that_cannot_share_a_step_are_refused_with_a_division_that_works(config, nodes, processes):
    config = config.model_copy(update={"nodes": nodes, "processes": processes})
    with refusal(UserError, f"{nodes * processes} ranks", config.recipe, action="micro-batches ") as caught:
        check_launch(config)
    advice = re.search(r"more micro-batches: (.*)$", str(caught.value))
    assert advice is not None
    flags = ["--root", "s", "--recipe", config.recipe, "--nodes", str(nodes), "--processes", str(processes)]
    mended = parse_config("x", type(config), [*flags, *advice[1].split()])
    check_launch(mended)
    assert size_of(mended) == pytest.approx(size_of(config), rel=1e-4)


def size_of(config):
    per_batch = config.batch_segments if isinstance(config, PretrainConfig) else config.sampling.budget_channel_seconds
    return micro_batches_of(config) * per_batch


def test_machines_without_a_common_folder_are_refused():
    config = PretrainConfig(root="s3://lab/store", recipe="brainomni-base", nodes=2, processes=8)
    with refusal(UserError, "nodes=2", "s3://lab/store", action="--checkpoints s3://lab/store-checkpoints"):
        check_launch(config)
    for change in ({"checkpoints": "s3://lab/c"}, {"run_dir": "/nfs/runs"}, {"root": "/nfs/store"}, {"nodes": 1}):
        check_launch(config.model_copy(update=change))


def test_schedulers_get_a_request_for_a_gpu_and_cores_for_each_rank():
    config = PretrainConfig(root="s", recipe="brainomni-base", launcher="slurm", processes=4)
    assert (gpus_per_node(config), cpus_per_node(config)) == (4, 32)
    assert gpus_per_node(config.model_copy(update={"device": "cpu"})) == 0
    assert cpus_per_node(config.model_copy(update={"threads": 2})) == 8
    one_gpu = config.slurm.model_copy(update={"gpus_per_node": 1})
    with refusal(UserError, "launcher=slurm", "4 processes", action="--slurm.gpus-per-node 4"):
        check_launch(config.model_copy(update={"device": "cuda", "slurm": one_gpu}))


def test_nothing_is_submitted_that_is_refused(root, tmp_path, monkeypatch):
    marker = tmp_path / "submitted"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\ntouch {marker}\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    config = TrainTokenizerConfig(root=root, launcher="slurm", nodes=3, run_dir=str(tmp_path / "runs"))
    with refusal(UserError, "3 ranks", action="--sampling.micro-batches"):
        train_tokenizer(config)
    assert not marker.exists()
    assert not (tmp_path / "runs").exists()
