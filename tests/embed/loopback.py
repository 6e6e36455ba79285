"""Servers on 127.0.0.1 that play the embedding APIs, well or badly, for the real clients."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

import numpy as np

Embed = Callable[[list[str]], Any]
"""From texts to an array_like of shape (n, dim)."""

TOKEN = "hf_loopback-0123456789-secret"


@dataclass
class Reply:
    """What is sent instead of embeddings; `{token}` in the body is the token of the request."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Drop:
    """The connection is closed without an answer."""


class Hold:
    """No answer until the server closes."""


Fault = Reply | Drop | Hold | Callable[[list[Any]], Any]
"""A callable is given the embeddings as lists and returns what is sent in their place."""


@dataclass
class Seen:
    """A request for embeddings."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        return self.body.get("input") or self.body["inputs"]


class Loopback:
    """A server that runs; `faults` are used up by the next requests, one each."""

    def __init__(self, embed: Embed, token: str | None, answer: Callable[..., Any]) -> None:
        self.embed = embed
        self.token = token
        self.faults: deque[Fault] = deque()
        self.seen: list[Seen] = []
        self.holding = threading.Event()
        self.most_at_once = 0
        self._answer = answer
        self._at_once = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        handler = type("Handler", (_Handler,), {"loopback": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def reply(self, seen: Seen) -> Reply | Drop:
        with self._lock:
            self.seen.append(seen)
            fault = self.faults.popleft() if self.faults else None
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self._replied(seen, fault)
        finally:
            with self._lock:
                self._at_once -= 1

    def _replied(self, seen: Seen, fault: Fault | None) -> Reply | Drop:
        if isinstance(fault, Hold):
            self.holding.set()
            self._closed.wait()
            return Drop()
        if isinstance(fault, Reply | Drop):
            return fault
        if self.token is not None and seen.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401, {"error": {"message": "Invalid token {token}", "code": "bad_key"}})
        return self._answer(seen, self.embed, fault or (lambda rows: rows))

    @contextlib.contextmanager
    def running(self) -> Iterator[Loopback]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.005,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closed.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.loopback.reply(Seen(self.path, headers, body)))

    def do_GET(self) -> None:
        """What the Hub tells of a model, which the client asks before it sends a text."""
        name = self.path.removeprefix("/api/models/")
        facts = {"id": name, "tags": ["feature-extraction"], "pipeline_tag": "feature-extraction"}
        self._send(Reply(200, facts) if "missing" not in name else Reply(404, {"error": "none"}))

    def _send(self, reply: Reply | Drop) -> None:
        if isinstance(reply, Drop):
            return
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        raw = text.replace("{token}", self.headers.get("authorization", "")[7:]).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(reply.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve_openai(embed: Embed, *, token: str | None = TOKEN) -> Iterator[Loopback]:
    """A server for `OpenAIEmbedder(base_url=server.url)`, or `OPENAI_BASE_URL`."""
    with Loopback(embed, token, _openai_answer).running() as server:
        yield server


@contextlib.contextmanager
def serve_hf(embed: Embed, *, token: str | None = TOKEN) -> Iterator[Loopback]:
    """A server for `HuggingFaceEmbedder(server.url)`, as text-embeddings-inference is one."""
    with Loopback(embed, token, _hf_answer).running() as server:
        yield server


@contextlib.contextmanager
def hub_at(server: Loopback) -> Iterator[None]:
    """Let huggingface_hub find the Hub and its inference router at a `serve_hf` server."""
    from huggingface_hub import constants
    from huggingface_hub.inference._providers import PROVIDERS, hf_inference

    task = PROVIDERS["hf-inference"]["feature-extraction"]
    hf_inference._check_supported_task.cache_clear()
    with (
        mock.patch.object(task, "base_url", server.url + "/hf-inference"),
        mock.patch.object(constants, "ENDPOINT", server.url),
    ):
        yield
    hf_inference._check_supported_task.cache_clear()


def directions(texts: Sequence[str], dim: int = 4) -> list[list[float]]:
    """A tiny model: the same row for the same text, another one for another text."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(dim) for text in texts]
    return [row.tolist() for row in rows]


def _openai_answer(seen: Seen, embed: Embed, change: Callable[[list[Any]], Any]) -> Reply:
    texts = seen.texts
    if "" in texts or len(texts) > 2048:
        return Reply(400, {"error": {"message": "'$.input' is invalid.", "code": None}})
    rows = np.asarray(embed(texts), dtype=np.float32)[:, : seen.body.get("dimensions")]
    changed = change(rows.tolist())
    if not isinstance(changed, list):
        return Reply(200, changed)
    data = [
        {"object": "embedding", "index": index, "embedding": _coded(row, seen.body)}
        for index, row in enumerate(changed)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    # Backwards: the index says which is which, not the place.
    body = {"object": "list", "data": data[::-1], "model": seen.body["model"], "usage": usage}
    return Reply(200, body)


def _coded(row: Any, body: dict[str, Any]) -> Any:
    if body.get("encoding_format") != "base64" or None in row:
        return row
    return base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()


def _hf_answer(seen: Seen, embed: Embed, change: Callable[[list[Any]], Any]) -> Reply:
    if len(seen.texts) > 32:
        error = f"batch size {len(seen.texts)} > maximum allowed batch size 32"
        return Reply(422, {"error": error, "error_type": "Validation"})
    return Reply(200, change(np.asarray(embed(seen.texts), dtype=np.float32).tolist()))
