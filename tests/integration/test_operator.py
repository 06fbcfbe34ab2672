"""The operator's day on PostgreSQL: start, form, two pretrainings on two ranks, evaluations, reports, stop."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from benchmarks._tiny import NETWORK, make_store
from tests.browser import Page, open_browser
from tests.integration.postgres import find_binaries, running_postgres
from tests.integration.prefect_server import PYTHON, free_port, wait_for

from emeg.store import Store, model_config

pytestmark = pytest.mark.slow


class Service:
    """The service that `emeg up` started in a folder, queried as an operator would."""

    def __init__(self, folder: Path, port: int, database: str) -> None:
        self.folder, self.port, self.database = folder, port, database

    def emeg(self, *arguments: str, code: int = 0) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PREFECT_WORKER_QUERY_SECONDS": "1"}
        command = [PYTHON, "-m", "emeg.cli", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def ask(self, method: str, path: str, **body: Any) -> Any:
        user, password = (self.folder / "emeg-service/password").read_text().strip().split(":")
        url = f"http://127.0.0.1:{self.port}/api{path}"
        answer = httpx.request(method, url, json=body or None, auth=(user, password), timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def processes(self) -> dict[str, Any]:
        """Processes that `emeg up` has noted, and the environment that they share."""
        noted: dict[str, Any] = json.loads((self.folder / "emeg-service/processes.json").read_text())
        return noted

    def numbers(self) -> list[int]:
        """Process numbers of server, worker, watcher and report server."""
        return [entry["process"] for name, entry in self.processes().items() if name != "environment"]

    def run(self, deployment: str, **config: Any) -> str:
        found = self.ask("GET", f"/deployments/name/{deployment}")
        parameters = {"config": found["parameters"]["config"] | config}
        path = f"/deployments/{found['id']}/create_flow_run"
        return str(
            self.ask("POST", path, parameters=parameters, state={"type": "SCHEDULED", "name": "Scheduled"})["id"]
        )

    def completed(self, run: str) -> None:
        def ended() -> str | None:
            state = self.ask("GET", f"/flow_runs/{run}")["state"]
            return f"{state['type']}: {state['message']}" if state["type"] in FINAL else None

        found = wait_for(ended, f"the end of run {run}")
        assert found.startswith("COMPLETED"), found

    def evaluations(self) -> list[dict[str, Any]]:
        found = self.ask("GET", "/deployments/name/evaluate/main")
        return self.ask("POST", "/flow_runs/filter", deployments={"id": {"any_": [found["id"]]}})


FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine")
    folder = tmp_path_factory.mktemp("operator")
    make_store(folder / "store", people=6, seconds=40.0)
    tiny = {"device": "cpu", "threads": 1, "validate_every": 10, "validation_segments": 2, "final_segments": 2}
    sampling = {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}
    trainings = {
        "tiny": {
            "verb": "train-tokenizer",
            "store": "main",
            "options": {**tiny, "steps": 10, "ramp_steps": 5, "overrides": NETWORK, "sampling": sampling},
        },
        "nano": {"verb": "pretrain", "store": "main", "options": {**tiny, "steps": 6, "micro_batches": 2}},
    }
    settings = {"name": "lab", "stores": {"main": "store"}, "trainings": trainings}
    (folder / "emeg.yaml").write_text(yaml.safe_dump(settings))
    with running_postgres(binaries, free_port()) as database:
        service = Service(folder, free_port(2), database)
        began = time.monotonic()
        arguments = ("up", "--port", str(service.port), "--database", database)
        with ThreadPoolExecutor(2) as pool:  # two at once start everything once
            list(pool.map(lambda _: service.emeg(*arguments), range(2)))
        print(f"up after {time.monotonic() - began:.0f} s")  # noqa: T201 - shown with a failure
        try:
            yield service
        finally:
            if any(map(psutil.pid_exists, service.numbers())):
                service.emeg("down")


def test_status_finds_all_four(service: Service):
    status = service.emeg("status")
    assert status.count("running (process") == 4
    assert (service.folder / "emeg-service/password").read_text().strip() not in status
    assert (service.folder / "emeg-service/password").stat().st_mode & 0o077 == 0


def test_up_starts_what_was_killed_or_is_stopping_and_nothing_else(service: Service):
    """The new server knows who holds a slot of a concurrency limit."""
    service.ask("POST", "/v2/concurrency_limits/", name="slots", limit=1)
    held = service.ask(
        "POST", "/v2/concurrency_limits/increment-with-lease", names=["slots"], slots=1, mode="concurrency"
    )
    before = service.processes()
    psutil.Process(before["worker"]["process"]).terminate()
    psutil.Process(before["server"]["process"]).kill()
    service.emeg("up", "--port", str(service.port), "--database", service.database)
    after = service.processes()
    assert {name for name in before if after[name] != before[name]} == {"server", "worker"}
    assert all(map(psutil.pid_exists, service.numbers()))
    commands = [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("PREFECT_HOME") == str(service.folder / "emeg-service/prefect")
    ]
    for started in ("prefect server start", "emeg.cli work", "emeg.cli watch", "report_server"):
        assert sum(started in command for command in commands) == 1
    service.ask("POST", "/v2/concurrency_limits/decrement-with-lease", lease_id=held["lease_id"])
    assert service.ask("GET", "/v2/concurrency_limits/slots")["active_slots"] == 0


def test_the_server_asks_for_the_password(service: Service):
    answer = httpx.get(f"http://127.0.0.1:{service.port}/api/deployments/name/evaluate/main", timeout=30)
    assert answer.status_code == 401


def test_the_form_offers_stores_and_recipes(service: Service):
    schema = service.ask("GET", "/deployments/name/pretrain/nano")["parameter_openapi_schema"]
    fields = schema["definitions"]["PretrainConfig"]["properties"]
    assert fields["root"]["enum"] == [str(service.folder / "store")]
    assert "brainomni-tiny" in fields["recipe"]["anyOf"][0]["enum"]
    assert fields["recipe"]["default"] == "brainomni-emeg-nano"
    assert "default" not in fields["network"]  # a form that filled it in would override the recipe
    found = service.ask("GET", "/deployments/name/pretrain/nano")
    path = f"http://127.0.0.1:{service.port}/api/deployments/{found['id']}/create_flow_run"
    user, password = (service.folder / "emeg-service/password").read_text().strip().split(":")
    wrong = {"config": found["parameters"]["config"] | {"recipe": "brainomni-huge"}}
    assert httpx.post(path, json={"parameters": wrong}, auth=(user, password), timeout=30).status_code in (409, 422)


def choose(page: Page, label: str, value: str) -> None:
    """Choose an entry of a list in Prefect's form with mouse and keyboard."""
    field = f"{FIELD}({json.dumps(label)})?.querySelector('select')"
    click(page, field)
    entries, chosen = page.run(f"(list => [[...list.options].map(one => one.value), list.selectedIndex])({field})")
    wanted = entries.index(value)
    for _ in range(abs(wanted - chosen)):
        page.press("ArrowDown" if wanted > chosen else "ArrowUp")
    page.press("Enter")
    assert page.run(f"{field}.value") == value


def click(page: Page, element: str) -> None:
    """Wait for an element that a script finds, and click on it."""
    mark = f"(one => one ? one.toggleAttribute('data-clicked', true) : null)({element})"
    wait_for(lambda: page.run(mark), element)
    page.click("[data-clicked]")
    page.run("document.querySelector('[data-clicked]')?.removeAttribute('data-clicked')")


def named(tag: str, text: str) -> str:
    return f"[...document.querySelectorAll('{tag}')].find(one => one.innerText.trim() === {json.dumps(text)})"


FIELD = """(label => [...document.querySelectorAll('label')].find(
    one => one.innerText.trim().replace(' (Optional)', '') === label)?.closest('.schema-form-property'))"""
"""Script that finds a field of Prefect's form by its label."""


def start_in_form(service: Service, page: Page, **texts: str) -> str:
    """Start a pretraining of the recipe brainomni-nano by the form of Prefect's page, and return the run."""
    found = service.ask("GET", "/deployments/name/pretrain/nano")
    address = f"http://127.0.0.1:{service.port}"
    page.open(f"{address}/login")
    click(page, "document.querySelector('input[type=password]')")
    page.call("Input.insertText", text=(service.folder / "emeg-service/password").read_text().strip())
    page.press("Enter")
    wait_for(lambda: page.run("location.pathname !== '/login' || null"), "the page after the login")
    page.open(f"{address}/deployments/deployment/{found['id']}")  # without the messages that cover its buttons
    click(page, named("button", "Run"))
    click(page, named("button", "Custom run"))
    choose(page, "Recipe", "brainomni-nano")
    for label, text in texts.items():
        click(page, f"{FIELD}({json.dumps(label)})?.querySelector('input')")
        page.call("Input.insertText", text=text)
    click(page, named("button", "Submit"))
    runs = {"deployments": {"id": {"any_": [found["id"]]}}}
    return str(wait_for(lambda: service.ask("POST", "/flow_runs/filter", **runs) or None, "a run")[0]["id"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


def test_two_pretrainings_are_each_evaluated_and_reported(service: Service, page: Page):
    """Each trains on two ranks; the first one is started by clicking in Prefect's form."""
    service.completed(service.run("train-tokenizer/tiny"))
    service.completed(service.run("tokenize/main"))
    clicked = start_in_form(service, page, Seed="0", Processes="2")
    chosen = service.ask("GET", f"/flow_runs/{clicked}")["parameters"]["config"]
    assert (chosen["recipe"], chosen["seed"], chosen["processes"]) == ("brainomni-nano", 0, 2)
    service.completed(clicked)
    service.completed(service.run("pretrain/nano", recipe="brainomni-nano", seed=1, processes=2))
    wait_for(lambda: len(service.evaluations()) == 2 or None, "an evaluation of each")
    for run in service.evaluations():
        service.completed(run["id"])
    store = Store.open(service.folder / "store")
    models = {name for name in store.names("models") if model_config(store, name)["kind"] == "brainomni"}
    assert len(models) == 2
    assert {run["parameters"]["config"]["model"] for run in service.evaluations()} == models
    assert len(store.names("evaluations")) == 2
    reports = store.names("reports")
    assert len(reports) == 2
    listed = httpx.get(f"http://127.0.0.1:{service.port + 1}/", timeout=30).text
    assert all(report in listed for report in reports)
    page = httpx.get(f"http://127.0.0.1:{service.port + 1}/0/{reports[0]}", timeout=30)
    assert page.is_success
    assert httpx.get(f"http://127.0.0.1:{service.port + 1}/0/../../emeg.yaml", timeout=30).status_code == 404


def test_down_leaves_no_process(service: Service):
    numbers = service.numbers()
    assert all(map(psutil.pid_exists, numbers))
    service.emeg("down")
    assert not any(map(psutil.pid_exists, numbers))
    service.emeg("status", code=1)
