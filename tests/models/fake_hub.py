"""A hub on this machine: repositories in memory, with the part of the HTTP interface that transfers need."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_right"


class Hub(BaseHTTPRequestHandler):
    """Files lie in ``server.repos[repo][path]``."""

    def log_message(self, *arguments):
        pass

    def reply(self, body, status=200, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self):
        body = self.body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply({"error": "Invalid credentials"}, 401)
            return
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            self.server.repos.setdefault(repo, {})
            self.server.created.append(asked)
            self.reply({"url": f"{self.server.url}/{repo}", "id": repo})
        elif parts[-1] == "yaml" or "validate-yaml" in parts:
            self.reply({"warnings": [], "errors": []})
        elif parts[4] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.reply({"files": files})
        else:
            repo = "/".join(parts[2:4])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.repos[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.reply({"commitUrl": f"{self.server.url}/{repo}/commit/{self.sha(repo)}", "commitOid": self.sha(repo)})

    def sha(self, repo):
        digest = hashlib.sha1(usedforsecurity=False)
        for name, data in sorted(self.server.repos[repo].items()):
            digest.update(name.encode() + data)
        return digest.hexdigest()

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repo not in self.server.repos:
            self.reply({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif parts[0] == "api":
            siblings = [{"rfilename": name} for name in sorted(self.server.repos[repo])]
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in sorted(self.server.repos[repo].items())
            ]
            info = {"id": repo, "sha": self.sha(repo), "siblings": siblings, "private": False, "tags": []}
            self.reply(entries if "tree" in parts else info)
        else:
            data = self.server.repos[repo].get("/".join(parts[4:]))
            if data is None:
                self.reply({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
                return
            etag = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            self.reply(data, X_Repo_Commit=self.sha(repo), ETag=f'"{etag}"')

    def do_HEAD(self):
        self.do_GET()


def start():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.repos, server.created = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
