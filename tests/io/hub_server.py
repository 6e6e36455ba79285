"""A small Hugging Face Hub on 127.0.0.1, as the real client calls it.

Repositories are dicts of bytes, one commit after the other. What the client would send by Xet, it
sends by LFS here (`HF_HUB_DISABLE_XET`): the Xet protocol is spoken by a binary of its own to
servers of its own and is not played.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_only_for_this_test"
SMALL = 200  # bytes; larger files go by LFS


@dataclass
class Repo:
    """One data set repository: its files by name, and how often it was committed to."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()


class Hub:
    """What the server keeps; tests look at it and change it."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fail: dict[str, int] = {}  # status by a part of "METHOD path"
        self.address = ""

    def sizes(self, repo_id: str) -> dict[str, int]:
        return {name: len(data) for name, data in self.repos[repo_id].files.items()}


class Handler(BaseHTTPRequestHandler):
    """Answers one client; `hub` is set by `serve_hub`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self.body = self.read_chunks() if chunked else self.rfile.read(size)
        parts = urlsplit(self.path)
        self.path_only, self.query = unquote(parts.path), parse_qs(parts.query)
        asked = f"{self.command} {self.path_only}"
        self.hub.asked.append(asked)
        for part, status in self.hub.fail.items():
            if part in asked:
                return self.answer({"error": "as the test wants"}, status)
        blob = self.path_only.removeprefix("/blobs/")
        if blob != self.path_only:  # signed addresses need no token
            self.hub.blobs[blob] = self.body
            return self.answer({})
        return self.route(self.path_only.strip("/").split("/"))

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815  # as http.server calls them

    def read_chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def route(self, words: list[str]) -> None:
        writer = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if (
            self.command == "POST"
            and words[-1] not in ("validate-yaml", "paths-info")
            and not writer
        ):
            return self.answer({"error": "Invalid credentials in Authorization header"}, 401)
        match words:
            case ["api", "repos", "create"]:
                return self.create(json.loads(self.body))
            case ["api", "validate-yaml"]:
                return self.answer({"errors": [], "warnings": []})
            case ["datasets", _, _, "info", "lfs", "objects", "batch"]:
                return self.batch(json.loads(self.body))
            case ["api", "datasets", user, name, *rest]:
                pass
            case ["datasets", user, name, "resolve", _, *file]:
                rest = ["resolve", "/".join(file)]
            case _:
                return self.answer({"error": "Not found"}, 404)
        repo_id = f"{user}/{name}"
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and not writer):
            return self.answer({"error": "Repository not found"}, 404, code="RepoNotFound")
        return self.in_repo(repo_id, repo, rest)

    def in_repo(self, repo_id: str, repo: Repo, words: list[str]) -> None:
        match words:
            case [] | ["revision", _]:
                siblings = [{"rfilename": name} for name in repo.files]
                self.answer({"id": repo_id, "sha": repo.sha, "siblings": siblings, "tags": []})
            case ["preupload", _]:
                files = json.loads(self.body)["files"]
                modes = [
                    {
                        "path": file["path"],
                        "uploadMode": "regular" if file["size"] <= SMALL else "lfs",
                        "shouldIgnore": False,
                    }
                    for file in files
                ]
                self.answer({"files": modes})
            case ["commit", _]:
                self.commit(repo_id, repo, [json.loads(line) for line in self.body.splitlines()])
            case ["tree", _, *folder]:
                inside = "/".join(folder)
                self.answer([self.entry(repo, n) for n in repo.files if n.startswith(inside)])
            case ["paths-info", _]:
                wanted = json.loads(self.body)["paths"]
                self.answer([self.entry(repo, n) for n in repo.files if n in wanted])
            case ["resolve", name]:
                self.resolve(repo, name)
            case _:
                self.answer({"error": "Not found"}, 404)

    def create(self, asked: dict[str, Any]) -> None:
        repo_id = f"{asked['organization'] or 'me'}/{asked['name']}"
        known = repo_id in self.hub.repos
        if not known:
            self.hub.repos[repo_id] = Repo(asked.get("visibility") == "private")
        url = f"{self.hub.address}/datasets/{repo_id}"
        self.answer({"url": url}, 409 if known else 200)

    def batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {
                **one,
                "actions": {"upload": {"href": f"{self.hub.address}/blobs/{one['oid']}"}},
            }
            for one in asked["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, repo_id: str, repo: Repo, lines: list[dict[str, Any]]) -> None:
        files = dict(repo.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                summary = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                data = self.hub.blobs[value["oid"]]
                assert hashlib.sha256(data).hexdigest() == value["oid"]
                files[value["path"]] = data
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repo.files = files
        repo.commits.append(summary)
        url = f"{self.hub.address}/datasets/{repo_id}/commit/{repo.sha}"
        self.answer({"success": True, "commitUrl": url, "commitOid": repo.sha})

    def entry(self, repo: Repo, name: str) -> dict[str, Any]:
        data = repo.files[name]
        entry = {"type": "file", "path": name, "size": len(data), "oid": git_oid(data)}
        if len(data) > SMALL:
            oid = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
        return entry

    def resolve(self, repo: Repo, name: str) -> None:
        if name not in repo.files:
            return self.answer({"error": "Entry not found"}, 404, code="EntryNotFound")
        data = repo.files[name]
        etag = f'"{git_oid(data)}"'
        wanted = self.headers.get("Range")
        status = 200
        if wanted and data:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            data, status = data[int(first) : int(last) + 1 if last else None], 206
        return self.send(data, status, {"ETag": etag, "X-Repo-Commit": repo.sha})

    def answer(self, value: Any, status: int = 200, code: str | None = None) -> None:
        headers = {"Content-Type": "application/json"}
        if code:
            headers |= {"X-Error-Code": code, "X-Error-Message": value["error"]}
        self.send(json.dumps(value).encode(), status, headers)

    def send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub on a free port of 127.0.0.1."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
