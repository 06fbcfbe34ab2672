"""Regular work before the first ingest is skipped; a store that has vanished is an error."""

from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType
from tests.messages import refusal

from emeg.curation import TidyConfig
from emeg.errors import UserError
from emeg.flows import missing_stores
from emeg.flows.grow import grow_flow
from emeg.flows.tidy import tidy_flow
from emeg.flows.verify import verify_flow
from emeg.store import Store, VerifyConfig


def test_regular_work_without_a_store_completes_and_creates_none(tmp_path: Path):
    root = str(tmp_path / "store")
    states = [
        verify_flow.fn(VerifyConfig(root=root)),
        tidy_flow.fn(TidyConfig(root=root)),
        grow_flow.fn(root=root, threshold=1),
    ]
    assert {(state.type, state.name) for state in states} == {(StateType.COMPLETED, "Skipped")}
    assert all(root in state.message for state in states)
    assert not Path(root).exists()


def test_a_store_is_not_skipped(tmp_path: Path):
    Store.open(tmp_path, create=True)
    assert missing_stores.skip_without_store(str(tmp_path)) is None


def test_a_store_that_has_vanished_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = SimpleNamespace(flow_run=SimpleNamespace(deployment_id=uuid4()))
    monkeypatch.setattr(missing_stores, "FlowRunContext", SimpleNamespace(get=lambda: run))
    monkeypatch.setattr(missing_stores, "was_found_before", lambda deployment, root: True)
    with refusal(UserError, str(tmp_path / "store"), action="mount"):
        missing_stores.skip_without_store(str(tmp_path / "store"))
