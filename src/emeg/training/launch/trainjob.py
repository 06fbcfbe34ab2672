"""Submit a run to Kubernetes as a ``TrainJob`` of Kubeflow Trainer (trainer.kubeflow.org/v1alpha1, Trainer 2.2).

Fields: https://www.kubeflow.org/docs/components/trainer/ and the Go types of the API
(https://pkg.go.dev/github.com/kubeflow/trainer/v2/pkg/apis/trainer/v1alpha1). The schema beside this file lists those
that are used here, with the limits that the API server checks; it is written from that description.
"""

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from emeg.errors import EmegError, UserError
from emeg.training.configs import TrainingConfig
from emeg.training.launch.jobs import JobNote, clear_ended
from emeg.training.launch.preflight import gpus_per_node
from emeg.training.launch.slurm import dump_for_node
from emeg.training.scheduler_configs import KubernetesConfig
from emeg.uri import locate

CONTAINER = "node"
"""Name of the replicated job and of its container in the torch runtime."""


def submit_trainjob(verb: str, config: TrainingConfig, folder: Path) -> str:
    """Write ``trainjob.yaml`` into the run's folder; submit it with kubectl if ``kubernetes.submit`` is on.

    Returns
    -------
    str
        ``trainjob <name>``, or the manifest's path where it is not submitted.

    Raises
    ------
    UserError
        There is no kubectl here, or the API server refuses the manifest.
    TransientError
        The API server does not answer.
    """
    manifest = trainjob_manifest(verb, config, folder.name)
    check_trainjob(manifest)
    file = folder / "trainjob.yaml"
    locate(file).write_bytes(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).encode())
    if not config.kubernetes.submit:
        return str(file)
    if shutil.which("kubectl") is None:
        raise UserError(f"launcher=kubernetes: there is no kubectl on this machine; apply {file} where there is one")
    about = manifest["metadata"]
    clear_ended(JobNote(launcher="kubernetes", job=about["name"], namespace=about["namespace"]))
    done = subprocess.run(["kubectl", "apply", "-f", str(file)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(
            f"kubectl refused {file}: {' '.join(done.stderr.split())}; correct the options under kubernetes"
        )
    return f"trainjob {manifest['metadata']['name']}"


def trainjob_manifest(verb: str, config: TrainingConfig, run: str) -> dict[str, Any]:
    """Build the manifest of a run.

    The configuration travels as an argument: torchrun starts ``emeg`` on every rank, which reads its rank from
    torchrun's variables. The runtime's Job policy decides about restarts; every start continues from the newest
    checkpoint.
    """
    wanted = config.kubernetes
    trainer: dict[str, Any] = {
        "image": wanted.image,
        "command": ["/bin/sh", "-c"],
        "args": [_start(verb, config)],
        "numNodes": config.nodes,
        "numProcPerNode": config.processes,
    }
    if wanted.secret:
        trainer["env"] = [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": wanted.secret, "key": key}}}
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        ]
    asked = {"cpu": wanted.cpu, "memory": wanted.memory, "nvidia.com/gpu": gpus_per_node(config) or None}
    amounts = {name: str(value) for name, value in asked.items() if value is not None}
    if amounts:
        trainer["resourcesPerNode"] = {"requests": amounts, "limits": amounts}
    spec: dict[str, Any] = {
        "runtimeRef": {"name": wanted.runtime, "kind": "ClusterTrainingRuntime"},
        "trainer": trainer,
    }
    if wanted.claim or wanted.shared_memory:
        spec["runtimePatches"] = [_volumes(wanted)]
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {
            "name": f"emeg-{verb}-{run[:12]}".lower(),
            "namespace": wanted.namespace,
            "labels": {"app.kubernetes.io/name": "emeg", "app.kubernetes.io/component": verb},
        },
        "spec": spec,
    }


def _start(verb: str, config: TrainingConfig) -> str:
    text = dump_for_node(config)
    return (
        f"cat > /tmp/job.yaml <<'END_OF_JOB'\n{text}END_OF_JOB\n"
        f"exec torchrun --shutdown-timeout={config.kubernetes.stop_s} -m emeg.cli {verb} --config /tmp/job.yaml\n"
    )


def _volumes(wanted: KubernetesConfig) -> dict[str, Any]:
    """Return a patch of the runtime that mounts the claim and enough shared memory."""
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if wanted.claim:
        volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": wanted.claim}})
        mounts.append({"name": "store", "mountPath": wanted.mount})
    if wanted.shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": wanted.shared_memory}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    pod = {"volumes": volumes, "containers": [{"name": CONTAINER, "volumeMounts": mounts}]}
    job = {"name": CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": "emeg.example/launcher",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
    }


def check_trainjob(manifest: dict[str, Any]) -> None:
    """Check a manifest against the schema.

    Raises
    ------
    EmegError
        A field is unknown, missing or out of bounds.
    """
    import jsonschema

    schema = json.loads((resources.files("emeg.training.launch") / "templates" / "trainjob.schema.json").read_bytes())
    faults = [
        f"{'.'.join(map(str, fault.absolute_path)) or '(all)'}: {fault.message}"
        for fault in jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    ]
    if faults:
        raise EmegError(
            f"the TrainJob manifest does not fit its schema; correct the settings under kubernetes: {'; '.join(faults)}"
        )
