"""Local receivers of alerts: a webhook, a mail server, and Slack's address behind a proxy."""

import json
import shutil
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any


class Webhook:
    """A receiver of JSON messages."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.url = ""

    def subject(self, start: str) -> dict[str, Any] | None:
        """Return the first message whose subject has this start."""
        return next((one for one in list(self.messages) if one["subject"].startswith(start)), None)


@contextmanager
def webhook() -> Iterator[Webhook]:
    found = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}/hook/planted-token-5eD0bWmGy3"
        yield found
        server.shutdown()


class Mailbox:
    """A receiver of mails."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.url = ""


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    found = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.reply("220 ready")
            lines: list[str] | None = None
            for raw in self.rfile:
                line = raw.decode().rstrip("\r\n")
                if lines is not None and line != ".":
                    lines.append(line)
                elif lines is not None:
                    found.mails.append("\n".join(lines))
                    lines = None
                    self.reply("250 kept")
                elif line.upper() == "DATA":
                    lines = []
                    self.reply("354 go on")
                elif line.upper() == "QUIT":
                    self.reply("221 bye")
                    return
                else:
                    self.reply("250 ok")

        def reply(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        found.url = f"mailto://127.0.0.1:{port}?from=emeg@example.org&to=ops@example.org&mode=insecure"
        yield found
        server.shutdown()


class Slack:
    """What came to hooks.slack.com: path and JSON of each request."""

    url = "https://hooks.slack.com/services/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"

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.environment: dict[str, str] = {}


@contextmanager
def slack(folder: Path) -> Iterator[Slack | None]:
    """Run a proxy that answers in the place of hooks.slack.com, with a certificate that only this test trusts."""
    if shutil.which("openssl") is None:
        yield None
        return
    found, key, certificate = Slack(), folder / "slack.key", folder / "slack.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout", str(key)]
    command += [
        "-out",
        str(certificate),
        "-subj",
        "/CN=hooks.slack.com",
        "-addext",
        "subjectAltName=DNS:hooks.slack.com",
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            with context.wrap_socket(self.connection, server_side=True) as inner, inner.makefile("rwb") as file:
                path = file.readline().split()[1].decode()
                length = 0
                while line := file.readline().strip():
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                found.messages.append((self.path.partition(":")[0] + path, json.loads(file.read(length))))
                file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.environment = {
            "HTTPS_PROXY": f"http://127.0.0.1:{server.server_port}",
            "REQUESTS_CA_BUNDLE": str(certificate),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        yield found
        server.shutdown()
