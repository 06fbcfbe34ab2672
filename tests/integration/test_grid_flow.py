"""The flow of an evaluation over tasks, end to end on a server."""

import json
from pathlib import Path

from prefect.testing.utilities import prefect_test_harness
from tests.evaluation.conftest import add_person
from tests.evaluation.protocol.test_run import HANDS, config_of, write_recipe

from emeg.flows.evaluate import evaluate_flow
from emeg.store import Store


def test_an_evaluation_over_tasks_runs_as_a_flow_and_ends_with_its_page(tmp_path):
    root = str(tmp_path / "store")
    store = Store.open(root, create=True)
    for k in range(3):
        add_person(store, f"{k:02d}", names=("C3", "C4", "Cz"))
    tasks = (
        write_recipe(tmp_path, HANDS, split={"rule": "within_subject_blocks", "n_folds": 4}),
        write_recipe(tmp_path, HANDS, id="loso", split={"rule": "leave_one_subject_out"}),
    )
    config = config_of(root, *tasks, rivals=("chance", "band_power"), seeds=(0, 1), budget=1)
    with prefect_test_harness(server_startup_timeout=120):
        page = evaluate_flow(config)
        again = evaluate_flow(config)
    figures = json.loads((Path(root) / "evaluations" / page.evaluation / "figures.json").read_text())
    assert [task["id"] for task in figures["tasks"]] == ["hands", "loso"]
    assert len(figures["scores"]) == 4
    assert "Left or right" in Path(page.path).read_text()
    assert (again.evaluation, again.done_before) == (page.evaluation, True)
