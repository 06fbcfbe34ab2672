"""A proxy before an S3 server that damages a share of its answers, as busy servers, gateways and connections do.

Faults are drawn by a seeded generator, one draw per request, so that every run has the same share of them.

==========  ============================================================================================
``503``     ``SlowDown`` in S3's own XML; the request never reaches the server
``504``     a gateway's HTML page; the request never reaches the server
``cut``     the answer's headers, half its body, then the line is closed; the request did reach the server
``stall``   the same, but the line stays open without a further byte for `stall_s`
``etag``    a whole answer with another object's ETag
``page``    status 200, right ETag, and an HTML page in the place of the data
==========  ============================================================================================
"""

import http.client
import random
import threading
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("503", "504", "cut", "stall", "etag", "page")

PAGE = b"<!DOCTYPE html>\n<html><head><title>504 Gateway Time-out</title></head><body>nginx</body></html>\n"
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message></Error>"
)
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


class FaultyProxy:
    """Listens on a port of its own and forwards requests to `server`; a share `rate` of them fails.

    Parameters
    ----------
    server : str
        ``http://host:port``.
    rate : float
        Share of requests that fail.
    faults : sequence of str
        Kinds of fault, equally likely; see the module.
    lies_about : str
        Only answers about paths with this prefix are damaged by ``etag`` and ``page``, which a client of a store has no
        means to see through: any other draws ``503`` instead.
    stall_s : float
        How long a stalled line stays open.
    seed : int
    """

    def __init__(
        self,
        server: str,
        *,
        rate: float = 0.2,
        faults: Sequence[str] = FAULTS,
        lies_about: str = "/",
        stall_s: float = 30.0,
        seed: int = 0,
    ) -> None:
        address = urlsplit(server)
        self.rate, self.faults, self.lies_about, self.stall_s = rate, tuple(faults), lies_about, stall_s
        self.counts: Counter[str] = Counter()
        """Requests by what became of them: ``fine`` or the kind of fault."""
        self.paths: list[tuple[str, str, str]] = []
        """Method, path and ``Range`` of every request, in order."""
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self, "target": (address.hostname, address.port)})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Address and port at which it listens."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def failed(self) -> int:
        """Requests that failed so far."""
        return self.counts.total() - self.counts["fine"]

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._http.shutdown()
        self._http.server_close()

    def draw(self, method: str, path: str, range_: str) -> str:
        """Draw the fault of a request, if any, and count it."""
        with self._lock:
            kind = self._chance.choice(self.faults) if self._chance.random() < self.rate else "fine"
            if kind in {"etag", "page"} and (method != "GET" or not path.startswith(self.lies_about)):
                kind = "503"
            self.counts[kind] += 1
            self.paths.append((method, path, range_))
        return kind

    def stall(self) -> None:
        """Wait as long as a stalled line stays open."""
        self._ended.wait(self.stall_s)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    target: tuple[str, int]

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.proxy.draw(self.command, self.path, self.headers.get("Range") or "")
        if kind == "503":
            self._answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
        elif kind == "504":
            self._answer(504, {"Content-Type": "text/html"}, PAGE)
        else:
            self._pass_on(kind, body)

    def _pass_on(self, kind: str, body: bytes) -> None:
        connection = http.client.HTTPConnection(*self.target, timeout=60)
        connection.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k != "Connection"})
        response = connection.getresponse()
        data = response.read()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        connection.close()
        if kind in {"cut", "stall"}:
            self._answer(response.status, headers, data, sent=len(data) // 2, length=length)
            if kind == "stall":
                self.proxy.stall()
            self.close_connection = True
            return
        if kind == "etag":
            headers = {name: '"0123456789abcdef"' if name.lower() == "etag" else v for name, v in headers.items()}
        if kind == "page":
            data = (PAGE + b" " * len(data))[: len(data)]
        self._answer(response.status, headers, data, length=length)

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes, *, sent: int | None = None, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])
            self.wfile.flush()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - names of the library

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""
