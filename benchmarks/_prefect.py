"""A Prefect server on SQLite for the length of a benchmark."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

READY_S = 300.0
"""Seconds that the server has to answer."""


@contextmanager
def running_server(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start a Prefect server on SQLite and yield its address and its process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": url}
    environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_ready(url)
        yield url, psutil.Process(server.pid)
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:  # a busy machine
            server.kill()
            server.wait()


def _wait_until_ready(url: str) -> None:
    import httpx

    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{url}: no answer within {READY_S:.0f} s")
