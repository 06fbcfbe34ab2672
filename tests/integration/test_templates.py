"""Templates of infra/: against their schemas, passwords required, no secrets in files, no root user."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from emeg.service.deployment import check_options
from emeg.service.settings import read_settings

INFRA = Path(__file__).parents[2] / "infra"


def compose() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def manifests(tmp_path: Path) -> list[dict[str, Any]]:
    """The objects that kubectl would send, built from a copy with the example's secrets."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on this machine")
    shutil.copytree(INFRA / "kubernetes", tmp_path / "kubernetes")
    shutil.copy(INFRA / "kubernetes/secret.env.example", tmp_path / "kubernetes/secret.env")
    command = ["kubectl", "kustomize", str(tmp_path / "kubernetes")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_compose_fits_the_specification():
    compose_spec = pytest.importorskip("compose_spec")
    loaded = compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose()))
    loaded.validate()
    assert set(loaded.service_names()) >= {
        "postgres",
        "redis",
        "migrate",
        "api",
        "services",
        "worker",
        "watch",
        "objects",
    }


def test_the_api_of_compose_asks_for_a_password_and_is_not_open_to_the_network():
    services = compose()["services"]
    assert services["api"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"].startswith("${EMEG_AUTH:?")
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200"]
    text = (INFRA / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "OBJECTS_PASSWORD"):
        assert f"${{{name}:?" in text  # without a value compose refuses to start
    assert all(":" in service["image"] and "latest" not in service["image"] for service in services.values())


def test_kubernetes_manifests_fit_their_schemas(tmp_path: Path):
    validator = pytest.importorskip("kubernetes_validate")
    found = manifests(tmp_path)
    assert {one["kind"] for one in found} >= {
        "Namespace",
        "Deployment",
        "StatefulSet",
        "Service",
        "Secret",
        "NetworkPolicy",
    }
    for one in found:
        validator.validate(one, "1.32", strict=True)


def test_no_container_runs_as_root_or_gains_rights(tmp_path: Path):
    for one in manifests(tmp_path):
        if one["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_server_and_workers_of_kubernetes_and_slurm_take_the_password_from_a_secret(tmp_path: Path):
    taken = {}
    for one in manifests(tmp_path):
        if one["kind"] == "Deployment":
            for container in one["spec"]["template"]["spec"]["containers"]:
                for entry in container["env"]:
                    if "AUTH_STRING" in entry["name"]:
                        taken[one["metadata"]["name"], entry["name"]] = entry["valueFrom"]["secretKeyRef"]["name"]
    assert {name for name, _ in taken} >= {"server", "worker"}
    assert {key for _, key in taken} >= {"PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"}
    (policy,) = [one for one in yaml.safe_load_all((INFRA / "kubernetes/network.yaml").read_text()) if one]
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]  # from outside only through an ingress
    for unit in (INFRA / "slurm").glob("*.service"):
        assert "\nEnvironmentFile=" in unit.read_text()


def test_what_stops_a_worker_waits_longer_than_its_runs_may_take(tmp_path: Path):
    service = compose()["services"]["worker"]
    assert service["command"][:2] == ["emeg.cli", "work"]
    assert service["stop_grace_period"] == "2m"
    assert int(service["command"][service["command"].index("--stop-s") + 1]) < 120
    unit = (INFRA / "slurm/emeg-worker.service").read_text()
    assert "emeg.cli work --stop-s 100\n" in unit
    assert "TimeoutStopSec=120\n" in unit
    assert "KillMode=mixed\n" in unit
    (pod,) = [one["spec"]["template"]["spec"] for one in manifests(tmp_path) if one["metadata"]["name"] == "worker"]
    (arguments,) = [container["args"] for container in pod["containers"] if container["name"] == "worker"]
    assert arguments[:2] == ["emeg.cli", "work"]
    assert int(arguments[arguments.index("--stop-s") + 1]) < pod["terminationGracePeriodSeconds"]


def test_the_dockerfile_has_no_fault_and_ends_as_another_user_than_root():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("no hadolint in this environment")
    file = INFRA / "Dockerfile"
    done = subprocess.run([str(hadolint), str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    stages = file.read_text().split("\nFROM ")
    assert stages[0].startswith("# syntax")
    for stage in stages[2:]:
        assert "\nUSER 10001\n" in stage
        assert "\nHEALTHCHECK " in stage


@pytest.mark.parametrize("name", ["emeg.yaml", "kubernetes/emeg.yaml", "slurm/emeg.yaml"])
def test_every_example_of_emeg_yaml_is_valid_with_all_its_options(name: str):
    check_options(read_settings(INFRA / name))


@pytest.mark.parametrize("file", sorted((INFRA / "s3").glob("*.json")), ids=lambda path: path.name)
def test_policies_of_buckets_allow_no_more_than_they_need(file: Path):
    policy = json.loads(file.read_text())
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert not any("*" in action for action in actions)
    assert not actions & {"s3:DeleteBucket", "s3:PutBucketPolicy", "s3:PutObjectAcl"}
    if file.name.startswith("read"):
        assert not any(action.startswith(("s3:Put", "s3:Delete")) for action in actions)


def test_no_secret_stands_in_the_repository():
    for file in INFRA.rglob("*.example"):
        for line in file.read_text().splitlines():
            assert "change-me" in line or line.startswith("OBJECTS_USER=")
