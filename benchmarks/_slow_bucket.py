"""An in-memory S3 server that delays every answer: ``python -m benchmarks._slow_bucket PORT SECONDS``.

``GET /requests`` returns the number of answered requests by method.
"""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple


class SlowApplication:
    """WSGI application that waits before it passes each request on."""

    def __init__(self, latency_s: float) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._latency_s = latency_s
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == "/requests":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._counts).encode()]
        with self._lock:
            self._counts[environ["REQUEST_METHOD"]] += 1
        if environ["REQUEST_METHOD"] != "PUT":
            time.sleep(self._latency_s)
        return self._app(environ, start_response)


class QuietHandler(WSGIRequestHandler):
    """Request handler without a log that keeps connections open, as S3 does."""

    protocol_version = "HTTP/1.1"

    def log(self, *args: object, **kwargs: object) -> None:
        """Discard the log entry."""


if __name__ == "__main__":
    run_simple(
        "127.0.0.1", int(sys.argv[1]), SlowApplication(float(sys.argv[2])), threaded=True, request_handler=QuietHandler
    )
