"""What both hosted providers do with good answers, bad answers and none, by their real clients."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import TOKEN, Drop, Hold, Loopback, Reply, directions, hub_at, serve_hf, serve_openai

from vecindex import VectorIndex
from vecindex.embed import HuggingFaceEmbedder, OpenAIEmbedder, hosted
from vecindex.embed.hosted import HostedEmbedder
from vecindex.errors import EmbedderError, EmbedderMismatchError

TEXTS = [f"text number {number}" for number in range(10)]


class Api:
    """One provider and its server."""

    def __init__(self, name: str, server: Loopback) -> None:
        self.name = name
        self.server = server

    def embedder(self, token: str | None = TOKEN, **options: Any) -> HostedEmbedder:
        if self.name == "hf":
            return HuggingFaceEmbedder(self.server.url, token=token, **options)
        url = self.server.url + "/v1"
        return OpenAIEmbedder("some-model", api_key=token, base_url=url, **options)

    def asked(self) -> int:
        return len(self.server.seen)


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login, no proxy and no setting of whoever runs the tests."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)


@pytest.fixture(params=["hf", "openai"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    serve = serve_hf if request.param == "hf" else serve_openai
    with serve(directions) as server:
        yield Api(request.param, server)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each wait, none of them spent."""
    taken: list[float] = []
    monkeypatch.setattr(hosted, "_pause", taken.append)
    return taken


def failed(embedder: HostedEmbedder, texts: list[str] = TEXTS[:3]) -> EmbedderError:
    with pytest.raises(EmbedderError) as caught:
        embedder.embed_documents(texts)
    return caught.value


def test_rows_belong_to_their_texts_whatever_comes_first(api: Api) -> None:
    embedder = api.embedder(batch_size=2, concurrency=3)
    steps: list[tuple[int, int]] = []
    rows = embedder.embed_documents(TEXTS, progress=lambda *step: steps.append(step))
    assert rows.dtype == np.float32
    assert rows == pytest.approx(np.array(directions(TEXTS)), abs=1e-6)
    assert steps == [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)]
    assert sorted(seen.texts for seen in api.server.seen) == [
        TEXTS[start : start + 2] for start in range(0, 10, 2)
    ]
    assert api.server.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert embedder.embed_queries([]).shape == (0, 4)


def test_so_many_requests_at_a_time_and_no_more(api: Api) -> None:
    meet = threading.Barrier(3, timeout=10)  # breaks if fewer than three are under way

    def embed(texts: list[str]) -> Any:
        meet.wait()
        return directions(texts)

    api.server.embed = embed
    api.embedder(batch_size=1, concurrency=3).embed_documents(TEXTS[:9])
    assert api.server.most_at_once == 3


def test_a_model_that_loads_is_waited_for(
    api: Api, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    loading = {"error": "Model is currently loading", "estimated_time": 120.0}
    api.server.faults += [Reply(503, loading), Reply(503, loading), Reply(503, "<html>no</html>")]
    assert len(api.embedder().embed_documents(TEXTS[:3])) == 3
    assert api.asked() == 4
    assert len(waits) == 3
    assert all(1 <= wait <= 11 for wait in waits)
    assert waits[2] >= 4  # no advice from the server: twice as long each time
    lines = [record.getMessage() for record in caplog.records if record.name == hosted.__name__]
    assert len(lines) == 3
    assert "status 503" in lines[0]
    assert "of at most 300 s" in lines[0]


def test_a_wait_that_is_no_number_of_seconds_still_ends(api: Api, waits: list[float]) -> None:
    body = '{"error": "loading", "estimated_time": NaN}'
    api.server.faults += [Reply(503, body)] * 50
    assert "status 503" in str(failed(api.embedder(patience_s=10)))
    assert all(wait >= 1 for wait in waits)


def test_a_rate_limit_is_waited_for_as_long_as_it_says(api: Api, waits: list[float]) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"  # long past: no reason to wait
    api.server.faults += [
        Reply(429, {"error": "slow down"}, {"Retry-After": "40"}),
        Reply(429, {"error": "slow down"}, {"Retry-After": date}),
    ]
    assert len(api.embedder().embed_documents(TEXTS[:3])) == 3
    assert 40 <= waits[0] <= 41
    assert 1 <= waits[1] <= 2


def test_patience_ends(api: Api, waits: list[float]) -> None:
    api.server.faults += [Reply(429, {"error": "slow down"})] * 50
    error = failed(api.embedder(patience_s=20))
    assert sum(waits) <= 20
    assert 3 <= len(waits) <= 5
    assert api.asked() == len(waits) + 1
    for part in ("status 429", "slow down", "of at most 20 s", "limits of the account"):
        assert part in str(error)


def test_no_wait_longer_than_the_patience_is_begun(api: Api, waits: list[float]) -> None:
    api.server.faults.append(Reply(429, {"error": "daily limit"}, {"Retry-After": "86400"}))
    assert "asks for 86400 s" in str(failed(api.embedder()))
    assert waits == []


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, ""),
        (401, "check the token"),
        (403, "token"),
        (404, "name"),
        (413, "shorter"),
        (422, ""),
    ],
)
def test_other_errors_are_raised_at_once(
    api: Api, waits: list[float], status: int, advice: str
) -> None:
    api.server.faults.append(Reply(status, {"error": {"message": "such is life"}}))
    message = str(failed(api.embedder()))
    assert message.startswith(api.embedder().name)
    assert f"status {status}" in message
    assert "such is life" in message
    assert advice in message
    assert (api.asked(), waits) == (1, [])


def test_a_connection_that_drops_is_tried_again(api: Api, waits: list[float]) -> None:
    api.server.faults += [Drop(), Drop(), Drop()]
    assert len(api.embedder().embed_documents(TEXTS[:3])) == 3
    assert len(waits) == 3
    api.server.faults += [Drop()] * 9
    error = failed(api.embedder())
    assert api.asked() == 8
    assert "no answer" in str(error)
    assert "check the address" in str(error)
    assert error.__notes__ == [f"while {api.embedder().name} embedded 3 texts at positions 0 to 2"]


def test_a_server_that_is_silent_is_tried_again(api: Api, waits: list[float]) -> None:
    api.server.faults.append(Hold())
    assert len(api.embedder(timeout_s=0.1).embed_documents(TEXTS[:3])) == 3
    assert len(waits) == 1
    api.server.faults += [Hold()] * 4
    assert "no answer within 0.1 s" in str(failed(api.embedder(timeout_s=0.1)))


def test_a_server_that_is_not_there(api: Api, waits: list[float]) -> None:
    server = "http://127.0.0.1:9"  # the discard port: nobody listens
    embedder: HostedEmbedder = HuggingFaceEmbedder(server)
    if api.name == "openai":
        embedder = OpenAIEmbedder("m", api_key="any", base_url=server)
    assert "no answer" in str(failed(embedder))
    assert len(waits) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "was given 3 texts, but returned 2 embeddings"),
        (lambda rows: [[float("nan")] * 4, *rows[1:]], "for the text at position 0;"),
        (lambda rows: [rows[0], [None] * 4, rows[2]], "for the text at position 1;"),
        (lambda rows: [rows[0], rows[1][:2], rows[2]], "differ in length"),
        (lambda rows: [[], [], []], "dimension 0"),
        (lambda rows: [], "not of shape|No embedding data"),
        (lambda rows: {"unexpected": 1}, "not a list of embeddings|No embedding data"),
        (lambda rows: "no JSON {", "the answer is not JSON"),
        (lambda rows: None, "not a list of embeddings|not of shape"),
    ],
)
def test_a_bad_answer_is_an_error_that_says_so(
    api: Api, waits: list[float], change: Callable[[Any], Any], message: str
) -> None:
    api.server.faults.append(change)
    error = failed(api.embedder())
    assert str(error).startswith(api.embedder().name)
    assert waits == []
    with pytest.raises(EmbedderError, match=message):
        raise error


def test_another_dimension_than_before(api: Api) -> None:
    embedder = api.embedder()
    embedder.embed_documents(TEXTS[:3])
    api.server.faults.append(lambda rows: [row[:3] for row in rows])
    assert "of dimension 3; expected 4, as before" in str(failed(embedder))


def test_an_empty_text_is_named_before_anything_is_sent(api: Api) -> None:
    error = failed(api.embedder(batch_size=1), [*TEXTS, "", "more"])
    assert "empty text, as at position 10" in str(error)
    assert api.asked() == 0


def test_an_error_stops_the_rest(api: Api) -> None:
    limit = Reply(429, {"error": "wait"}, {"Retry-After": "60"})
    api.server.faults += [limit, Reply(400, {"error": "no"})]
    error = failed(api.embedder(batch_size=1, concurrency=2), TEXTS * 10)
    assert "status 400" in str(error)
    threads = [thread for thread in threading.enumerate() if thread.name == "vecindex-embed"]
    for thread in threads:  # one waits for the rate limit, and need not
        thread.join(5)
        assert not thread.is_alive()
    assert api.asked() == 2


def test_ctrl_c_ends_a_call_whose_requests_hang(api: Api) -> None:
    api.server.faults += [Hold()] * 4

    def interrupt() -> None:
        api.server.holding.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # may be ignored in a shell's &
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            api.embedder(batch_size=1).embed_documents(TEXTS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert api.asked() <= 4


def test_the_token_is_nowhere(
    api: Api, waits: list[float], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": "your token is {token}"}, "estimated_time": 1}
    embedder = api.embedder()
    with VectorIndex.create(tmp_path / "index", embedder=embedder) as index:
        api.server.faults.append(Reply(503, echo))
        index.add(texts=TEXTS)
        api.server.faults.append(Reply(400, echo))
        with pytest.raises(EmbedderError) as caught:
            index.search("anything")
        index.optimize()
    told = "".join(traceback.format_exception(caught.value)) + repr(embedder) + repr(caught.value)
    chain = caught.value.__cause__ or caught.value.__context__
    while chain is not None:  # what an error report may show of the errors behind this one
        told += repr(chain) + repr(vars(chain))
        chain = chain.__cause__ or chain.__context__
    assert "your token is ***" in str(caught.value)
    assert TOKEN not in told
    assert len(caplog.records) > 5
    assert not [record for record in caplog.records if TOKEN in record.getMessage()]
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"text number 3" in stored
    assert TOKEN.encode() not in stored
    with pytest.raises(TypeError):
        pickle.dumps(embedder)


def test_a_missing_token_is_told_before_anything_is_sent(api: Api) -> None:
    with hub_at(api.server):
        if api.name == "hf":
            message = str(failed(HuggingFaceEmbedder("org/model")))
        else:
            message = str(failed(api.embedder(token=None)))
    assert ("HF_TOKEN" if api.name == "hf" else "OPENAI_API_KEY") in message
    assert api.asked() == 0


@pytest.mark.parametrize("token", ["two words-secret", "quoted-secret\u201d", "line\nsecret", " "])
def test_a_token_that_is_none(api: Api, token: str) -> None:
    message = str(failed(api.embedder(token=token)))
    assert "without a space or a line break" in message
    assert "secret" not in message
    assert api.asked() == 0


def test_blanks_around_a_token_are_not_sent(api: Api) -> None:
    api.embedder(token=f" {TOKEN}\n").embed_queries(TEXTS)
    assert api.server.seen[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_word_in_the_place_of_a_token_hides_nothing(api: Api) -> None:
    api.server.faults.append(Reply(400, {"error": "all is not well"}))
    assert "all is not well" in str(failed(api.embedder(token="a")))


def test_an_index_finds_its_model_again_by_name(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = {"hf": "hf:org/model", "openai": "openai:text-embedding-3-small?dimensions=3"}[api.name]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("OPENAI_API_KEY", TOKEN)
    monkeypatch.setenv("OPENAI_BASE_URL", api.server.url)
    with hub_at(api.server):
        with VectorIndex.create(tmp_path / "index", embedder=name) as index:
            index.add(texts=TEXTS, ids=range(10))
        with VectorIndex.open(tmp_path / "index") as index:
            assert index.search(TEXTS[7], k=1)[0].id == 7
            assert index.info().embedder == name
        api.server.embed = lambda texts: directions([text + "!" for text in texts])
        with (
            VectorIndex.open(tmp_path / "index") as index,
            pytest.raises(EmbedderMismatchError, match="embed the same sentence differently"),
        ):
            index.search(TEXTS[7])


def test_a_server_is_never_asked_because_a_file_names_it(api: Api, tmp_path: Path) -> None:
    with VectorIndex.create(tmp_path / "index", embedder=api.embedder()) as index:
        index.add(texts=TEXTS, ids=range(10))
    asked = api.asked()
    with VectorIndex.open(tmp_path / "index") as index:
        with pytest.raises(EmbedderError, match="open it with embedder="):
            index.search(TEXTS[7])
        assert api.asked() == asked
    with VectorIndex.open(tmp_path / "index", embedder=api.embedder()) as index:
        assert index.search(TEXTS[7], k=1)[0].id == 7


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"timeout_s": 0}, {"patience_s": -1}])
def test_numbers_out_of_range(api: Api, options: dict[str, Any]) -> None:
    with pytest.raises(EmbedderError, match=next(iter(options))):
        api.embedder(**options)
