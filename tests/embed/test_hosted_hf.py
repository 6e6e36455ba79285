"""What only Hugging Face's API asks for: the Hub's word on a model, servers by URL, tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import TOKEN, Loopback, directions, hub_at, serve_hf

from vecindex.embed import HuggingFaceEmbedder, resolve
from vecindex.errors import EmbedderError, MissingExtraError

TEXTS = [f"text number {number}" for number in range(70)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Loopback]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    with serve_hf(directions) as running:
        yield running


def test_a_name_on_the_hub_is_asked_at_its_router(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_at(server):
        HuggingFaceEmbedder("org/model").embed_documents(TEXTS)
    assert sorted(len(seen.texts) for seen in server.seen) == [6, 32, 32]
    assert {seen.path for seen in server.seen} == {
        "/hf-inference/models/org/model/pipeline/feature-extraction"
    }
    assert server.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert server.seen[0].body["truncate"] is True


def test_a_model_that_is_not_on_the_hub(server: Loopback) -> None:
    with hub_at(server), pytest.raises(EmbedderError, match=r"status 404.*check the model's name"):
        HuggingFaceEmbedder("org/missing", token=TOKEN).embed_queries(["a"])
    assert server.seen == []


def test_the_login_for_the_hub_is_not_sent_to_other_servers(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.token = None
    embedder = resolve(f"hf:{server.url}/embed")
    assert embedder is not None
    assert len(embedder.embed_queries(TEXTS[:2])) == 2
    assert server.seen[0].path == "/embed"
    assert "authorization" not in server.seen[0].headers


def test_requests_stay_below_two_megabytes(server: Loopback) -> None:
    HuggingFaceEmbedder(server.url, token=TOKEN).embed_documents(["é" * 200_000] * 5)
    assert sorted(len(seen.texts) for seen in server.seen) == [1, 2, 2]


def test_a_vector_for_each_token_is_refused(server: Loopback) -> None:
    embedder = HuggingFaceEmbedder(server.url, token=TOKEN)
    server.faults.append(lambda rows: [[row, row] for row in rows])
    with pytest.raises(EmbedderError, match="returns a vector for each token, not for each text"):
        embedder.embed_queries(["one", "two"])
    server.faults.append(lambda rows: [[rows[0]] * 2, [rows[1]] * 3])
    with pytest.raises(EmbedderError, match="a vector for each token, not for each text"):
        embedder.embed_queries(["one", "two"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[hf\]'"):
        HuggingFaceEmbedder("org/model").embed_queries(["a"])


@pytest.mark.parametrize("name", ["", "a b", "../model", "ftp://host/model", "http://"])
def test_a_model_that_is_none(name: str) -> None:
    with pytest.raises(EmbedderError, match=r"names no model|as in 'http://"):
        HuggingFaceEmbedder(name)


@pytest.mark.parametrize("url", ["https://user:secret@host:8080/embed", "http://h/e?key=secret"])
def test_an_address_with_secrets_is_refused_without_showing_them(url: str) -> None:
    with pytest.raises(EmbedderError, match="no user, password or query") as raised:
        HuggingFaceEmbedder(url)
    assert "secret" not in str(raised.value)
    assert HuggingFaceEmbedder("https://host:8080/embed").name == "hf:https://host:8080/embed"
