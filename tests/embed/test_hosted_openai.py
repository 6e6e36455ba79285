"""What only OpenAI's API asks for: limits in texts and tokens, dimensions, an environment."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import tiktoken
from loopback import TOKEN, Loopback, Reply, directions, serve_openai

from vecindex.cli.demo import QUERY, QUESTIONS
from vecindex.embed import OpenAIEmbedder, hosted, resolve
from vecindex.errors import EmbedderError, MissingExtraError

SMALL = "text-embedding-3-small"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A server that the environment names, as another one than OpenAI's."""
    with serve_openai(directions) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of one byte, but for `abab`: the real table would come from the network."""
    ranks = {bytes([value]): value for value in range(256)} | {b"ab": 256, b"abab": 257}
    encoding = tiktoken.Encoding(
        "letters", pat_str=r"\S+|\s", mergeable_ranks=ranks, special_tokens={}
    )
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: encoding)


def test_the_medicare_questions_through_the_api(minilm: Any, tmp_path: Any) -> None:
    from vecindex import VectorIndex

    with serve_openai(minilm.embed_documents) as server:
        embedder = OpenAIEmbedder("any", api_key=TOKEN, base_url=server.url)
        with VectorIndex.create(tmp_path / "faq", embedder=embedder) as index:
            index.add(texts=QUESTIONS, ids=range(13))
            hits = index.search(QUERY, k=5)
    assert [hit.id for hit in hits] == [8, 7, 3, 9, 10]
    assert [hit.score for hit in hits] == pytest.approx(
        [0.7565, 0.7419, 0.7253, 0.6736, 0.6505], abs=1e-4
    )


def test_fewer_dimensions_belong_to_the_name(server: Loopback) -> None:
    embedder = resolve(f"openai:{SMALL}?dimensions=3")
    assert embedder is not None
    assert embedder.name == OpenAIEmbedder(SMALL, dimensions=3).name
    assert embedder.dim == 3
    assert server.seen[0].body["dimensions"] == 3
    assert server.seen[0].path == "/embeddings"
    for wrong in ("?dimensions=0", "?dimensions=many", "?size=3"):
        with pytest.raises(EmbedderError, match="dimensions"):
            resolve(f"openai:{SMALL}{wrong}")


def test_requests_stay_within_the_limits(server: Loopback) -> None:
    OpenAIEmbedder(SMALL, batch_size=2048).embed_documents(["short"] * 5000)
    assert sorted(len(seen.texts) for seen in server.seen) == [904, 2048, 2048]
    server.seen.clear()
    OpenAIEmbedder(SMALL, batch_size=2048).embed_documents(["x" * 8191] * 80)
    assert sorted(len(seen.texts) for seen in server.seen) == [8, 36, 36]  # 36 * 8191 < 300,000
    with pytest.raises(EmbedderError, match="at most 2048"):
        OpenAIEmbedder(SMALL, batch_size=2049)


@pytest.mark.usefixtures("letters")
def test_long_texts_are_cut_by_tokens_and_counted(server: Loopback) -> None:
    texts = ["ab" * 8191, "ab" * 16382, "ab" * 16383, "x" * 8191, "x" * 8192, "x" * 5_000_000]
    texts += ["é" * 4096]  # 8,192 tokens: the cut is in the middle of the last letter
    embedder = OpenAIEmbedder(SMALL)
    rows = embedder.embed_documents(texts)
    sent = [text for seen in server.seen for text in seen.texts]
    assert sent[:2] == texts[:2]
    assert sent[2] == texts[1]
    assert sent[3:6] == ["x" * 8191] * 3
    assert sent[6] == "é" * 4095
    assert embedder.truncated == 4
    assert rows[1].tolist() == rows[2].tolist()


def test_without_the_table_of_tokens_a_cut_is_by_bytes(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def offline(name: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    embedder = OpenAIEmbedder(SMALL)
    embedder.embed_documents(["é" * 5000, "fits", "y" * 9000])
    assert sorted(server.seen[0].texts) == ["fits", "y" * 8191, "é" * 4095]
    assert embedder.truncated == 2
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "cl100k_base (ConnectionError)" in line.getMessage()


def test_other_models_get_their_texts_whole(server: Loopback) -> None:
    embedder = OpenAIEmbedder("bge-m3")
    embedder.embed_documents(["z" * 20_000])
    assert server.seen[0].texts == ["z" * 20_000]
    assert embedder.truncated == 0


def test_used_up_credit_is_not_waited_for(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(hosted, "_pause", waits.append)
    error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
    server.faults += [Reply(500, {"error": {"message": "try again"}}), Reply(429, {"error": error})]
    with pytest.raises(EmbedderError, match="status 429, You exceeded your current quota"):
        OpenAIEmbedder(SMALL).embed_queries(["anything"])
    assert len(waits) == 1  # for the 500, which OpenAI says to repeat


def test_embeddings_that_are_not_numbered(server: Loopback) -> None:
    twice = {"object": "embedding", "index": 0, "embedding": [1.0, 2.0]}
    server.faults.append(Reply(200, {"data": [twice, twice]}))
    with pytest.raises(EmbedderError, match="not numbered from 0 on"):
        OpenAIEmbedder(SMALL).embed_queries(["a", "b"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[openai\]'"):
        OpenAIEmbedder(SMALL, api_key="any").embed_queries(["a"])


@pytest.mark.parametrize("name", ["", " ", "a b", "http://127.0.0.1/v1", "../model"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(EmbedderError, match="names no model"):
        OpenAIEmbedder(name)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(EmbedderError, match="as in 'http://"):
        OpenAIEmbedder("m", base_url=url)


@pytest.mark.parametrize("url", ["http://u:secret@h/v1", "http://h/v1?key=secret"])
def test_an_address_with_secrets_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbedderError, match="no user, password or query"):
        OpenAIEmbedder("m", base_url=url)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(EmbedderError, match="no user, password or query"):
        OpenAIEmbedder("m", api_key="abc").embed_queries(["a"])
