"""Progress of a flow as an artifact: updates take a bounded share of the run's time."""

from uuid import uuid4

import httpx
import pytest
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from emeg.curation import TidyConfig
from emeg.flows import engine
from emeg.ingest import IngestConfig


class Clock:
    """Time that passes only in requests and in work."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("request_s", "most"), [(0.01, 0.006), (0.1, 0.021), (5.0, 0.021)])
def test_updates_of_a_slow_server_take_two_percent_at_most(monkeypatch, request_s: float, most: float):
    clock, updates = Clock(), []

    def update(**fields: object) -> None:
        updates.append(fields["progress"])
        clock.now += request_s

    monkeypatch.setattr(engine, "time", clock)
    monkeypatch.setattr(engine, "create_progress_artifact", lambda **fields: uuid4())
    monkeypatch.setattr(engine, "update_progress_artifact", update)
    with engine.ArtifactProgress("ingest") as progress:
        for done in range(10_000):
            clock.now += 0.1
            progress(done, 10_000, "recording")
        spent, elapsed = len(updates) * request_s, clock.now - 1000.0
    assert len(updates) > 1
    assert spent / elapsed < most
    assert updates[-1] == 100.0


def test_a_server_that_is_down_costs_an_update_not_the_run(monkeypatch: pytest.MonkeyPatch):
    clock, sent = Clock(), []
    answers = iter([None, httpx.ConnectError("refused"), None])

    def update(**fields: object) -> None:
        sent.append(PREFECT_CLIENT_MAX_RETRIES.value())
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr(engine, "time", clock)
    monkeypatch.setattr(engine, "create_progress_artifact", lambda **fields: uuid4())
    monkeypatch.setattr(engine, "update_progress_artifact", update)
    progress = engine.ArtifactProgress("pretrain").__enter__()
    for done in range(3):
        clock.now += 10.0
        progress(done, 10, "step")
    assert sent == [0, 0, 0]  # a retry would keep the ranks waiting, whose output nobody reads meanwhile


def test_the_parameters_of_a_group_have_rows_of_their_own():
    table = engine.parameter_table(TidyConfig(root="store", keep_days=3))
    assert "| root | `store` |" in table.splitlines()
    nested = engine.parameter_table(IngestConfig(archive="a", root="store"))
    assert "| standardise.sfreq | `256.0` |" in nested.splitlines()
    assert all(len(line) < 120 for line in nested.splitlines())
