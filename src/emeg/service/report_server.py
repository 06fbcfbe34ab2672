"""``python -m emeg.service.report_server HOST PORT STORE...``: serve the report pages of local stores, nothing else."""

import html
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote


def find_pages(stores: Sequence[Path]) -> dict[str, Path]:
    """Return the report pages of the stores by the path at which they are served: ``/<store>/<report>``."""
    pages = {}
    for number, store in enumerate(stores):
        for page in sorted((store / "reports").glob("*/index.html")):
            pages[f"/{number}/{page.parent.name}"] = page
    return pages


def find_page(stores: Sequence[Path], path: str) -> Path | None:
    """Return the page at a path; ``/<report>`` alone finds a report by its name in any store, None if there is none."""
    pages = find_pages(stores)
    by_name = {f"/{page.parent.name}": page for page in reversed(pages.values())}
    return pages.get(path) or by_name.get(path)


def make_handler(stores: Sequence[Path]) -> type[BaseHTTPRequestHandler]:
    """Return a request handler that serves a list of the pages, and the pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with a page; only names from the list are looked up, so that no path can lead elsewhere."""
            path = unquote(self.path.partition("?")[0]).rstrip("/")
            if not path:
                self._answer(HTTPStatus.OK, _list(find_pages(stores), stores).encode())
            elif (page := find_page(stores, path)) is not None:
                self._answer(HTTPStatus.OK, page.read_bytes())
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"<p>There is no such report. <a href='/'>All reports</a></p>")

        def _answer(self, status: HTTPStatus, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _list(pages: dict[str, Path], stores: Sequence[Path]) -> str:
    items = "".join(
        f"<li><a href='{quote(path)}'>{html.escape(path.rpartition('/')[2])}</a>"
        f" {html.escape(str(stores[int(path.split('/')[1])]))}</li>"
        for path in pages
    )
    return f"<!doctype html><title>emeg reports</title><h1>Reports</h1><ul>{items or '<li>none yet</li>'}</ul>"


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is stopped."""
    host, port, *stores = arguments
    with ThreadingHTTPServer((host, int(port)), make_handler([Path(store) for store in stores])) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
