"""`semantic_search` gives what sentence-transformers' function of that name gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers.util import semantic_search as theirs

from vecindex import semantic_search
from vecindex.errors import DimensionError, InputError, VectorValueError

RNG = np.random.default_rng(3)
CORPUS = RNG.normal(size=(300, 24)).astype(np.float32) * RNG.uniform(0.1, 9, size=(300, 1))
QUERIES = RNG.normal(size=(7, 24))


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list, lambda x: [*torch.tensor(x)]])
def test_the_same_hits_as_theirs_whatever_holds_the_numbers(kind) -> None:
    ours = semantic_search(kind(QUERIES), kind(CORPUS), top_k=12)
    expected = theirs(
        torch.tensor(QUERIES, dtype=torch.float32), torch.tensor(CORPUS).float(), top_k=12
    )
    assert [[hit["corpus_id"] for hit in hits] for hits in ours] == [
        [hit["corpus_id"] for hit in hits] for hits in expected
    ]
    for hits, others in zip(ours, expected, strict=True):
        assert [hit["score"] for hit in hits] == pytest.approx(
            [hit["score"] for hit in others], abs=1e-6
        )
        assert {type(value) for hit in hits for value in hit.values()} == {int, float}


def test_one_query_is_a_list_of_one() -> None:
    assert semantic_search(QUERIES[0], CORPUS) == semantic_search(QUERIES[:1], CORPUS)
    assert len(semantic_search(QUERIES[0], CORPUS)[0]) == 10


def test_tensors_that_numpy_cannot_take() -> None:
    corpus = torch.tensor(CORPUS, dtype=torch.bfloat16, requires_grad=True)
    assert semantic_search(corpus[5], corpus, 1)[0][0]["corpus_id"] == 5
    assert semantic_search([corpus[5]], list(corpus), 1)[0][0]["corpus_id"] == 5


def test_ties_stand_in_the_order_of_the_corpus() -> None:
    corpus = np.concatenate([-CORPUS[:3], np.repeat(CORPUS[:1], 40, axis=0) * 2])
    hits = semantic_search(CORPUS[0], corpus, top_k=30)[0]
    assert [hit["corpus_id"] for hit in hits] == list(range(3, 33))


def test_few_rows_and_none() -> None:
    assert len(semantic_search(QUERIES, CORPUS[:4])[0]) == 4
    assert semantic_search(QUERIES, CORPUS[:0]) == [[]] * 7
    assert semantic_search([], CORPUS) == []


def test_what_is_refused() -> None:
    with pytest.raises(DimensionError, match="dimension 23, but corpus_embeddings have 24"):
        semantic_search(QUERIES[:, :23], CORPUS)
    for odd in ("text", None, 3.0, (row for row in QUERIES)):
        with pytest.raises(DimensionError, match=r"query_embeddings must have shape .* not one"):
            semantic_search(odd, CORPUS)
        with pytest.raises(DimensionError, match=r"corpus_embeddings must have shape .* not one"):
            semantic_search(QUERIES, odd)
    for ragged in ([[1.0, 2.0], [1.0]], [torch.ones(2), torch.ones(3)]):
        with pytest.raises(DimensionError, match="query_embeddings must have rows of one"):
            semantic_search(ragged, CORPUS)
    with pytest.raises(VectorValueError, match=r"corpus_embeddings .* row 1"):
        semantic_search(QUERIES, [[1.0, 0.0], [0.0, 0.0]])
    for top_k in (0, True, 2.5):
        with pytest.raises(InputError, match="top_k"):
            semantic_search(QUERIES, CORPUS, top_k)
