"""The flows of an evaluation over tasks and of continuations, end to end on a server."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.testing.utilities import prefect_test_harness
from tests.evaluation.conftest import add_person
from tests.evaluation.generation.test_run import CONFIG, store  # noqa: F401 - a fixture
from tests.evaluation.protocol.test_run import HANDS, config_of, write_recipe
from tests.training.conftest import root  # noqa: F401 - a fixture

from emeg.evaluation.generation import GenerateConfig, read_generation
from emeg.flows.evaluate import REPORTS_URL, evaluate_flow, generate_flow
from emeg.service.report_server import make_handler
from emeg.store import Store


@pytest.fixture(scope="module", autouse=True)
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the reports of a store in a folder, and yield the address."""
    reports = ThreadingHTTPServer(("127.0.0.1", 0), make_handler([folder]))
    thread = threading.Thread(target=reports.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{reports.server_port}"
    finally:
        reports.shutdown()
        reports.server_close()
        thread.join(10)


def linked_page() -> str:
    """Return the page behind the newest link that a run has left beside its result."""
    links = ArtifactFilter(key=ArtifactFilterKey(any_=["report"]))
    with get_client(sync_client=True) as client:
        newest = client.read_artifacts(artifact_filter=links, sort=ArtifactSort.CREATED_DESC, limit=1)[0]
    (address,) = re.findall(r"\((http://[^)]+)\)", str(newest.data))
    with urlopen(address, timeout=30) as answer:
        return answer.read().decode()


def test_an_evaluation_over_tasks_runs_as_a_flow_and_ends_with_its_page(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    opened = Store.open(folder, create=True)
    for k in range(3):
        add_person(opened, f"{k:02d}", names=("C3", "C4", "Cz"))
    tasks = (
        write_recipe(tmp_path, HANDS, split={"rule": "within_subject_blocks", "n_folds": 4}),
        write_recipe(tmp_path, HANDS, id="loso", split={"rule": "leave_one_subject_out"}),
    )
    config = config_of(str(folder), *tasks, rivals=("chance", "band_power"), seeds=(0, 1), budget=1)
    with served(folder) as address:
        monkeypatch.setenv(REPORTS_URL, address)
        page = evaluate_flow(config)
        assert linked_page() == Path(page.path).read_text()
    again = evaluate_flow(config)
    figures = json.loads((folder / "evaluations" / page.evaluation / "figures.json").read_text())
    assert [task["id"] for task in figures["tasks"]] == ["hands", "loso"]
    assert len(figures["scores"]) == 4
    assert "Left or right" in Path(page.path).read_text()
    assert (again.evaluation, again.done_before) == (page.evaluation, True)


def test_continuations_run_as_a_flow_and_end_with_their_page(store):  # noqa: F811
    page = generate_flow(GenerateConfig(root=str(store.root), recordings=2, **CONFIG | {"contexts_s": ()}))
    assert read_generation(store, page.evaluation).continuation_s == 2.0
    assert "the recording elsewhere" in Path(page.path).read_text()
