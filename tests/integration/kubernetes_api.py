"""A Kubernetes API server for one test: it knows TrainJobs and pods, and runs each job as a process of this machine.

It implements the requests that kubectl makes for `apply`, `get`, `delete` and `logs`. A TrainJob's pod is a process
that runs the arguments of the manifest; its output is the pod's log.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

GROUP = "trainer.kubeflow.org"
VERBS = ["create", "delete", "get", "list", "patch"]


def missing() -> str | None:
    """What keeps this from running here."""
    return None if shutil.which("kubectl") else "no kubectl on this machine"


@dataclass
class Job:
    """A TrainJob and the process of its pod."""

    manifest: dict[str, Any]
    process: subprocess.Popen[bytes]
    log: Path

    def conditions(self) -> list[dict[str, str]]:
        code = self.process.poll()
        if code is None:
            return []
        return [{"type": "Complete" if code == 0 else "Failed", "status": "True"}]


@dataclass
class Cluster:
    """What the server holds, and what was asked of it."""

    folder: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    command: str | None = None
    """Shell command that pods run in place of the manifest's."""

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        name = manifest["metadata"]["name"]
        manifest["metadata"] |= {"uid": f"uid-{len(self.created)}", "resourceVersion": "1"}
        (script,) = manifest["spec"]["trainer"]["args"]
        script = script.replace("/tmp/job.yaml", str(self.folder / f"{name}.yaml"))
        log = self.folder / f"{name}-{len(self.created)}.log"
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with log.open("wb") as output:
            command = ["/bin/sh", "-c", self.command or script]
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True, cwd=self.folder
            )
        self.jobs[name] = Job(manifest, process, log)
        self.created.append(name)
        return self.get(name)

    def get(self, name: str) -> dict[str, Any]:
        job = self.jobs[name]
        return job.manifest | {"status": {"conditions": job.conditions()}}

    def delete(self, name: str) -> None:
        job = self.jobs.pop(name)
        self.deleted.append(name)
        self.end(job)

    def end(self, job: Job) -> None:
        """End a pod as Kubernetes does: SIGTERM, then SIGKILL."""
        if job.process.poll() is None:
            os.killpg(job.process.pid, signal.SIGTERM)
        try:
            job.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill(job)

    def kill(self, job: Job) -> None:
        """End a pod with all its processes, as the death of a node does."""
        pod = psutil.Process(job.process.pid)
        for process in [*pod.children(recursive=True), pod]:
            process.kill()
        job.process.wait()


def _resources(group_version: str, name: str, kind: str) -> dict[str, Any]:
    entry = {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": VERBS}
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": [entry]}


def _discovery() -> dict[str, Any]:
    version = {"groupVersion": f"{GROUP}/v1alpha1", "version": "v1alpha1"}
    described = f"apis/{GROUP}/v1alpha1"
    kind = {"group": GROUP, "version": "v1alpha1", "kind": "TrainJob"}
    patch = {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": kind,
        "parameters": [{"name": "fieldValidation", "in": "query"}],  # the server validates, not kubectl
        "responses": {},
    }
    paths = {f"/{described}/namespaces/{{namespace}}/trainjobs/{{name}}": {"patch": patch}}
    group = {"name": GROUP, "versions": [version], "preferredVersion": version}
    return {
        "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [group]},
        "/api/v1": _resources("v1", "pods", "Pod"),
        f"/apis/{GROUP}/v1alpha1": _resources(f"{GROUP}/v1alpha1", "trainjobs", "TrainJob"),
        "/openapi/v3": {"paths": {described: {"serverRelativeURL": f"/openapi/v3/{described}"}}},
        f"/openapi/v3/{described}": {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": paths},
    }


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of kubectl from `cluster`."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster
    discovery = _discovery()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if url.path in self.discovery:
            self.answer(200, self.discovery[url.path])
        elif parts[-1] == "pods":
            chosen = parse_qs(url.query).get("labelSelector", [""])[0].rpartition("=")[2]
            pods = [self.pod(name) for name in self.cluster.jobs if name == chosen]
            self.answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
        elif parts[-1] == "log":
            self.send(200, self.cluster.jobs[parts[-2].removesuffix("-node-0")].log.read_bytes(), "text/plain")
        elif "pods" in parts and parts[-1].removesuffix("-node-0") in self.cluster.jobs:
            self.answer(200, self.pod(parts[-1].removesuffix("-node-0")))
        elif "trainjobs" in parts and parts[-1] in self.cluster.jobs:
            self.answer(200, self.cluster.get(parts[-1]))
        else:
            self.missing(parts[-1])

    def do_POST(self) -> None:
        self.answer(201, self.cluster.create(self.body()))

    def do_PATCH(self) -> None:  # `apply` of what is there changes nothing, as for a real TrainJob
        self.body()
        self.answer(200, self.cluster.get(urlsplit(self.path).path.rpartition("/")[2]))

    def do_DELETE(self) -> None:
        name = urlsplit(self.path).path.rpartition("/")[2]
        self.body()
        if name not in self.cluster.jobs:
            self.missing(name)
            return
        self.cluster.delete(name)
        self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def pod(self, job: str) -> dict[str, Any]:
        labels = {"jobset.sigs.k8s.io/jobset-name": job}
        spec = {"containers": [{"name": "node", "image": "emeg"}]}
        about = {"name": f"{job}-node-0", "namespace": "default", "labels": labels}
        return {"kind": "Pod", "apiVersion": "v1", "metadata": about, "spec": spec, "status": {"phase": "Running"}}

    def body(self) -> dict[str, Any]:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(data) if data else {}

    def missing(self, name: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self.answer(404, status | {"message": f'trainjobs.{GROUP} "{name}" not found'})

    def answer(self, status: int, value: dict[str, Any]) -> None:
        self.send(status, json.dumps(value).encode(), "application/json")

    def send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[Cluster, dict[str, str]]]:
    """Start a server; yield what it holds, and the environment in which kubectl finds it."""
    found = Cluster(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": found})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = {"server": f"http://127.0.0.1:{server.server_port}"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": address}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {}}],
            "current-context": "test",
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        try:
            yield found, {"KUBECONFIG": str(folder / "kubeconfig"), "KUBECACHEDIR": str(folder / "cache")}
        finally:
            for job in found.jobs.values():
                found.end(job)
            server.shutdown()
