"""Launches that cannot work are refused before anything starts, and documented ones are accepted."""

import shlex
from pathlib import Path

import pytest
import yaml
from tests.messages import refusal

from emeg.cli import VERBS, parse_config
from emeg.errors import UserError
from emeg.training import PlanConfig, PretrainConfig, TrainTokenizerConfig, train_tokenizer
from emeg.training.division import divide, micro_batches_of
from emeg.training.launch.launcher import count_nodes, count_ranks
from emeg.training.launch.preflight import check_checkpoints, check_launch, cpus_per_node, find_gpu, gpus_per_node
from emeg.training.plan import read_training

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "cluster.md"
EXAMPLES = [line[2:] for line in PAGE.read_text().splitlines() if line.startswith("$ emeg ")]
CLASSES = {"train-tokenizer": TrainTokenizerConfig, "pretrain": PretrainConfig, "plan": PlanConfig}


@pytest.mark.parametrize("example", [e for e in EXAMPLES if shlex.split(e)[1] in CLASSES])
def test_the_documented_launches_would_start(example):
    _, verb, *flags = shlex.split(example)
    config = parse_config(verb, CLASSES[verb], flags)
    if isinstance(config, PlanConfig):
        assert micro_batches_of(divide(read_training(config), config.ranks)) % config.ranks == 0
        return
    ranks = config.nodes * config.processes
    divided = divide(config, ranks)
    assert micro_batches_of(divided) % ranks == 0
    assert size_of(divided) == pytest.approx(size_of(divide(config, 1)))
    check_launch(divided)
    if config.launcher != "local":
        assert gpus_per_node(config) == config.processes


def test_the_page_has_an_example_of_each_launcher():
    assert len([e for e in EXAMPLES if shlex.split(e)[1] in VERBS]) >= 5
    for word in ("slurm", "kubernetes", "rendezvous"):
        assert any(word in example for example in EXAMPLES)


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


@pytest.mark.parametrize(
    ("change", "named", "action"),
    [
        # a step of 20 channel-seconds has two segments of 5 channels and 2 s
        (
            {"step_channel_seconds": 20.0},
            "20 channel-seconds",
            "at most 2 ranks, or --sampling.step-channel-seconds 30",
        ),
        ({"weights": {"nobody": 2.0}}, "nobody", "choose from"),
        ({"budget_channel_seconds": 10.0, "micro_batches": 3000}, "micro_batches=3000", "lower micro_batches"),
    ],
)
def test_nothing_is_submitted_that_is_refused(root, tmp_path, monkeypatch, change, named, action):
    marker = tmp_path / "submitted"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\ntouch {marker}\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    sampling = {"crop_s": 2.0, "budget_channel_seconds": 20.0, "max_channels": None, "micro_batches": 1, **change}
    config = TrainTokenizerConfig(
        root=root, launcher="slurm", nodes=3, run_dir=str(tmp_path / "runs"), sampling=sampling
    )
    with refusal(UserError, named, action=action):
        train_tokenizer(config)
    assert not marker.exists()
    assert not (tmp_path / "runs").exists()


def test_a_launch_divides_a_step_for_its_ranks(root, tmp_path, monkeypatch):
    """What is submitted has the division, so that a rank that starts again cannot choose another."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 7\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    sampling = {"crop_s": 2.0, "budget_channel_seconds": 60.0, "max_channels": None, "micro_batches": 2}
    config = TrainTokenizerConfig(
        root=root, launcher="slurm", nodes=3, run_dir=str(tmp_path / "runs"), sampling=sampling
    )
    result = train_tokenizer(config)
    job = yaml.safe_load((tmp_path / "runs" / result.run / "job.yaml").read_text())
    assert job["sampling"]["micro_batches"] == 6
    assert job["sampling"]["budget_channel_seconds"] == pytest.approx(20.0)


def test_ranks_of_torchrun_on_machines_without_a_common_folder_are_refused(monkeypatch):
    """Nothing is submitted there: every rank checks for itself."""
    environment = {"RANK": "3", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
    config = PretrainConfig(root="s3://lab/store", recipe="brainomni-base")
    assert (count_ranks(config, environment), count_nodes(config, environment)) == (16, 2)
    with refusal(UserError, "nodes=2", action="--checkpoints s3://lab/store-checkpoints"):
        check_checkpoints(config, nodes=count_nodes(config, environment))
    check_checkpoints(config, nodes=count_nodes(config, {**environment, "LOCAL_WORLD_SIZE": "16"}))


def driver(folder, monkeypatch, answer, code=0):
    """Put a program in place of the driver's tool."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{answer}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_smallest_gpu_of_this_machine_decides(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, "81559, 9.0\\n24576, 8.6\\n")
    config = PretrainConfig(root="s", recipe="brainomni-base")
    found = find_gpu(config)
    assert found == (24.0, True)
    assert find_gpu(config.model_copy(update={"device": "cpu"})) is None
    assert find_gpu(config.model_copy(update={"launcher": "slurm"})) is None
    given = config.model_copy(update={"launcher": "slurm", "gpu_memory_gib": 40.0})
    assert find_gpu(given) == (40.0, True)


def test_an_old_gpu_computes_in_float32_and_a_driver_that_fails_names_none(tmp_path, monkeypatch):
    config = PretrainConfig(root="s", recipe="brainomni-base", device="cuda")
    driver(tmp_path, monkeypatch, "16160, 7.5\\n")
    assert find_gpu(config) == (16160 / 1024, False)
    driver(tmp_path, monkeypatch, "no devices were found\\n", code=9)
    assert find_gpu(config) is None
