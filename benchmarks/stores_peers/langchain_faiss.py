"""LangChain's FAISS: positions as ids, a pickle beside an index file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import faiss

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS
    from langchain_community.vectorstores.utils import DistanceStrategy
from langchain_core.embeddings import Embeddings

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector


class _Outside(Embeddings):
    """Vectors are handed over; nothing is embedded."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


class LangchainFaissStore(Store):
    """An `IndexFlatIP`, its usual index, with its in-memory docstore."""

    packages = ("langchain-community", "langchain-core", "faiss-cpu")
    note = "IndexFlatIP; a filter drops rows from fetch_k candidates"
    durability = "none before save_local, called once at the end, which does not sync"
    queries = 200
    filtered_queries = 20

    def create(self, folder: Path, dim: int) -> None:
        """Empty."""
        self.folder, self.rows = folder, 0
        self.store: Any = FAISS(
            _Outside(), faiss.IndexFlatIP(dim), InMemoryDocstore(), {},
            distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT,
        )  # fmt: skip

    def add(self, batch: Batch) -> None:
        """In memory."""
        pairs = zip(batch.texts, batch.vectors, strict=True)
        self.store.add_embeddings(pairs, metadatas=batch.metadata, ids=batch.ids)

    def build(self) -> None:
        """Write two files."""
        self.store.save_local(str(self.folder))

    def open(self, folder: Path) -> None:
        """Unpickle."""
        self.store = FAISS.load_local(
            str(folder), _Outside(), allow_dangerous_deserialization=True,
            distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT,
        )  # fmt: skip
        self.rows = len(self.store.index_to_docstore_id)

    def close(self) -> None:
        """Nothing is held."""
        self.store = None

    def settings(self) -> list[Setting]:
        """Its own fetch_k, and one so large that no row is missed."""
        return [
            Setting("fetch_k 20 (its default)", {"fetch_k": 20}, filtered=True),
            Setting("fetch_k all", {"fetch_k": None}, filtered=True),
        ]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Documents carry ids and texts."""
        store, fetch_k = self.store, setting.values["fetch_k"] or self.rows
        where = None if below is None else {"u": {"$lt": below}}
        faiss.omp_set_num_threads(1)

        def ask(vector: Vector) -> Answer:
            found = store.similarity_search_with_score_by_vector(
                vector, k=K, filter=where, fetch_k=fetch_k
            )
            return [one.id for one, _ in found], [one.page_content for one, _ in found]

        return ask
