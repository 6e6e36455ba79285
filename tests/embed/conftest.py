"""The real all-MiniLM-L6-v2, from its installed package, loaded once."""

from __future__ import annotations

import pytest

from vecindex.embed import SentenceTransformerEmbedder
from vecindex.embed.weights import packaged_minilm


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformerEmbedder:
    import torch

    torch.set_num_threads(1)  # texts this short only wait for each other's threads
    return SentenceTransformerEmbedder("all-MiniLM-L6-v2", device="cpu")


@pytest.fixture(scope="session")
def prompted_model(minilm):
    """The same weights as a model object with prompts of its own."""
    from sentence_transformers import SentenceTransformer

    weights = packaged_minilm()
    assert weights is not None
    minilm.dim  # noqa: B018  # loaded first, so that its bar for reading weights was hidden
    prompts = {"query": "query: ", "passage": "passage: "}
    return SentenceTransformer(weights.location, device="cpu", prompts=prompts)
