"""Static models of model2vec."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from tiny_models import save_static

from vecindex import VectorIndex
from vecindex.embed import StaticEmbedder, check_same, from_manifest, resolve
from vecindex.errors import EmbedderError, MissingExtraError


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    return save_static(tmp_path_factory.mktemp("models") / "static")


@pytest.fixture
def vectors(static):
    from safetensors.numpy import load_file

    return load_file(static / "model.safetensors")["embeddings"]


def test_a_text_is_the_mean_of_its_tokens(static, vectors):
    embedder = resolve(f"static:{static}")
    assert isinstance(embedder, StaticEmbedder)
    assert (embedder.name, embedder.dim) == (f"static:{static}", 8)
    rows = embedder.embed_documents(["King of unheard", "queen"])
    assert np.abs(rows - [vectors[[1, 9]].mean(0), vectors[2]]).max() < 1e-6
    short = resolve(f"static:{static}?truncate_dim=3")
    assert np.array_equal(short.embed_queries(["queen"]), vectors[2:3, :3])
    assert from_manifest(embedder.name) is None
    assert from_manifest("static:org/model?truncate_dim=3").name.endswith("model?truncate_dim=3")


def test_an_index_is_opened_again_though_a_fixed_sentence_has_no_known_token(static, tmp_path):
    embedder = StaticEmbedder(str(static))
    check_same(embedder.fingerprint(), StaticEmbedder(str(static)).fingerprint())
    texts = ["the king", "the river", "money of a bank"]
    with VectorIndex.create(tmp_path / "i.vx", embedder=embedder) as index:
        index.add(texts=texts)
        with pytest.raises(EmbedderError, match=r"static:.*zeros.*row 0"):
            index.add(texts=["unheard"])
    with VectorIndex.open(tmp_path / "i.vx", embedder=f"static:{static}") as index:
        assert index.search("king", k=1)[0].text == "the king"


def test_what_the_model_cuts_is_counted_and_passages_fit(static):
    embedder = StaticEmbedder(str(static))
    embedder.embed_documents(["a " * 10, "a " * 11, "", "x" * 99])
    assert embedder.truncated == 2  # 11 tokens; more characters than 10 tokens of median length
    passages = embedder.passages("the king of a river un " * 6, None, 2)
    assert len(passages) > 3
    embedder.embed_documents(passages)
    assert embedder.truncated == 2


def test_threads_get_their_own_vectors(static):
    embedder = StaticEmbedder(str(static))
    texts = ["king", "the queen", *["man of money " * 30] * 100]
    expected = embedder.embed_documents(texts)
    wrong: list[float] = []

    def run() -> None:
        rows = [embedder.embed_documents(texts) for _ in range(3)]
        wrong.extend(float(np.abs(row - expected).max()) for row in rows)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 12
    assert max(wrong) == 0


def test_bad_models_and_options_are_named(static, tmp_path, monkeypatch):
    with pytest.raises(EmbedderError, match="truncate_dim must be at least 1"):
        resolve(f"static:{static}?truncate_dim=0")
    with pytest.raises(EmbedderError, match=r"cannot load the embedding model .*truncate_dim=99"):
        StaticEmbedder(str(static), truncate_dim=99).embed_queries(["a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmbedderError, match="cannot load the embedding model 'static:"):
        StaticEmbedder(str(tmp_path / "empty")).embed_queries(["a"])
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[static\]'"):
        StaticEmbedder(str(static)).embed_queries(["a"])
