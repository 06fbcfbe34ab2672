"""Progress of a flow as an artifact: updates take a bounded share of the run's time."""

from uuid import uuid4

import pytest

from emeg.flows import engine


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
