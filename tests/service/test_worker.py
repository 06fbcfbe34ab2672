"""The worker waits for a server that does not answer, and ends its runs before itself."""

import asyncio
import logging
import signal
import subprocess
import sys
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
from prefect._internal.observers import FlowRunCancellingObserver
from prefect.utilities.services import critical_service_loop

from emeg.service.worker import _make_cancellation_lasting, _patient


def test_a_server_that_does_not_answer_is_asked_again_and_logged_once(caplog):
    refused = httpx.ConnectError("refused")
    busy = httpx.HTTPStatusError("busy", request=httpx.Request("GET", "http://x"), response=httpx.Response(503))
    answers = [refused, busy, ["run"], refused]

    async def find_runs() -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask = _patient(find_runs, [])
    with caplog.at_level(logging.INFO, logger="emeg.service.worker"):
        assert [asyncio.run(ask()) for _ in range(4)] == [[], [], ["run"], []]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_cancelled_runs_are_looked_for_after_the_server_was_down(monkeypatch):
    """Prefect's own loop ends after three failures in a row."""
    monkeypatch.setattr(
        FlowRunCancellingObserver, "__init__", FlowRunCancellingObserver.__init__
    )  # restored afterwards
    _make_cancellation_lasting()
    run, found = uuid4(), []
    answers = iter([*[httpx.ConnectError("refused")] * 8, [], [SimpleNamespace(id=run)]])

    class Client:
        async def read_flow_runs(self, **_: object) -> list[object]:
            if isinstance(answer := next(answers), Exception):
                raise answer
            return answer

    observer = FlowRunCancellingObserver(on_cancelling=found.append)
    observer._client = Client()

    async def watch() -> None:
        loop = asyncio.create_task(critical_service_loop(observer._check_for_cancelled_flow_runs, interval=0.001))
        while not found:
            assert not loop.done()
            await asyncio.sleep(0.001)
        loop.cancel()

    asyncio.run(watch())
    assert found == [run]


def test_a_wrong_password_is_an_error():
    wrong = httpx.HTTPStatusError("no", request=httpx.Request("GET", "http://x"), response=httpx.Response(401))

    async def find_runs() -> list[str]:
        raise wrong

    with pytest.raises(httpx.HTTPStatusError):
        asyncio.run(_patient(find_runs, [])())


def test_runs_have_time_to_end_and_are_killed_after_it():
    """In a process of its own, whose only children are the two runs."""
    obedient = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); print(flush=True); time.sleep(60)"
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    code = f"""
import subprocess, sys
from emeg.service.worker import stop_runs
children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for code in ({obedient!r}, {deaf!r})]
for child in children:
    child.stdout.readline()
print(stop_runs(3.0), *(child.wait() for child in children))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "3", str(-signal.SIGKILL)]
