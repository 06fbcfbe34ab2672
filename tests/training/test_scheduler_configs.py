import json
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.messages import refusal

from emeg.errors import EmegError, TransientError, UserError
from emeg.training import PretrainConfig
from emeg.training.launch.launcher import rendezvous_id
from emeg.training.launch.slurm import dump_for_node, slurm_script, submit_slurm
from emeg.training.launch.trainjob import check_trainjob, submit_trainjob, trainjob_manifest


@pytest.fixture
def config(tmp_path):
    return PretrainConfig(
        root=str(tmp_path / "sto re"),
        tokens="t",
        nodes=2,
        processes=4,
        micro_batches=8,
        slurm={"partition": "gpu", "gpus_per_node": 4, "directives": ("--exclusive",), "setup": ("module load x",)},
        kubernetes={"gpus_per_node": 4, "memory": "64Gi", "claim": "archive", "secret": "bucket", "image": "r/emeg:1"},
    )


def test_the_batch_script_is_bash_and_requests_the_resources(config, tmp_path):
    folder = tmp_path / "a b" / "run123"
    script = slurm_script("pretrain", config, folder)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = script.splitlines()
    for line in (
        "--nodes=2",
        "--ntasks-per-node=1",
        "--partition=gpu",
        "--gpus-per-node=4",
        "--exclusive",
        "--requeue",
        "--cpus-per-task=32",
    ):
        assert f"#SBATCH {line}" in lines
    # sbatch reads its directives up to the first command
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(i for i, line in enumerate(lines) if line.startswith("#SBATCH")) < first_command
    assert f"'{folder}/job.yaml'" in script
    assert "--account" not in script
    assert "srun --kill-on-bad-exit=0 --wait=0 --cpus-per-task=32 " in script


def test_jobs_meet_at_ports_and_under_names_of_their_own(config, tmp_path):
    script = slurm_script("pretrain", config, tmp_path)
    (line,) = (line for line in script.splitlines() if line.startswith("port="))
    ports = {
        subprocess.run(["bash", "-c", f"{line}; echo $port"], env={"SLURM_JOB_ID": job}, capture_output=True).stdout
        for job in ("100", "101")
    }
    assert len(ports) == 2
    names = {rendezvous_id("pretrain", config, {"SLURM_JOB_ID": job}) for job in ("100", "101")}
    names.add(rendezvous_id("pretrain", config.model_copy(update={"seed": 1}), {}))
    assert len(names) == 3


def test_what_a_node_reads_is_the_same_training(config):
    again = PretrainConfig.from_yaml(dump_for_node(config), source="job.yaml")
    assert again.product_fields() == config.product_fields()
    assert (again.launcher, again.nodes, again.processes) == ("local", 2, 4)


def fake(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


@pytest.mark.parametrize(
    ("reply", "error", "action"),
    [
        ("echo 'sbatch: error: invalid partition' >&2; exit 1", UserError, "under slurm"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", TransientError, "try again"),
    ],
)
def test_sbatch_answers(config, tmp_path, monkeypatch, reply, error, action):
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    fake(tmp_path, "sbatch", 'test -f "$2" && echo "42;cluster"')
    assert submit_slurm("pretrain", config, tmp_path / "run") == "slurm job 42"
    fake(tmp_path, "sbatch", reply)
    with refusal(error, tmp_path / "run", action=action):
        submit_slurm("pretrain", config, tmp_path / "run")


def test_the_manifest_fits_the_schema_and_starts_the_same_training(config, tmp_path):
    path = submit_trainjob("pretrain", config, tmp_path / "0123456789abcdef")
    manifest = yaml.safe_load(Path(path).read_text())
    check_trainjob(manifest)
    trainer = manifest["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (2, 4, "r/emeg:1")
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "4"}
    (patch,) = manifest["spec"]["runtimePatches"]
    assert '"medium": "Memory"' in json.dumps(patch)
    bare = config.model_copy(update={"kubernetes": config.kubernetes.model_copy(update={"gpus_per_node": None})})
    resources = trainjob_manifest("pretrain", bare, "0123")["spec"]["trainer"]["resourcesPerNode"]
    assert resources["limits"]["nvidia.com/gpu"] == "4"
    # the argument is a shell script: what it writes and starts is what was asked
    fake(tmp_path, "torchrun", 'echo "$@"')
    script = trainer["args"][0].replace("/tmp/job.yaml", str(tmp_path / "job.yaml"))
    environment = {"PATH": f"{tmp_path}:/bin:/usr/bin"}
    done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    command = ["--shutdown-timeout=100", "-m", "emeg.cli", "pretrain", "--config", str(tmp_path / "job.yaml")]
    assert done.stdout.split() == command
    again = PretrainConfig.from_yaml((tmp_path / "job.yaml").read_text(), source="job.yaml")
    assert again.product_fields() == config.product_fields()


@pytest.mark.parametrize(
    "harm",
    [
        lambda m: m["spec"].pop("runtimeRef"),
        lambda m: m["spec"]["trainer"].update(numNodes="2"),
        lambda m: m["spec"]["trainer"].update(replicas=2),
        lambda m: m["metadata"].update(name="Emeg_1"),
        lambda m: m["spec"].update(podTemplateOverrides=[]),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(config, harm):
    manifest = trainjob_manifest("pretrain", config, "0123456789abcdef")
    check_trainjob(manifest)
    harm(manifest)
    with refusal(EmegError, "TrainJob", action="kubernetes"):
        check_trainjob(manifest)
