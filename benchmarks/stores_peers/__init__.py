"""Stores with ids, texts and metadata, one adapter a file; each runs in a process of its own."""

from __future__ import annotations

from importlib import import_module

from benchmarks.stores_peers.base import Store

_ADAPTERS: dict[str, tuple[str, dict[str, object]]] = {
    "vecindex": ("vecindex:VecindexStore", {}),
    "zvec": ("zvec:ZvecStore", {"int8": False}),
    "zvec-int8": ("zvec:ZvecStore", {"int8": True}),
    "lancedb": ("lancedb:LanceStore", {"graph": False}),
    "lancedb-hnsw": ("lancedb:LanceStore", {"graph": True}),
    "chroma": ("chroma:ChromaStore", {}),
    "sqlite-vec": ("sqlite_vec:SqliteVecStore", {}),
    "milvus-lite": ("milvus_lite:MilvusLiteStore", {}),
    "qdrant-local": ("qdrant:QdrantLocalStore", {}),
    "langchain-faiss": ("langchain_faiss:LangchainFaissStore", {}),
    "plain-faiss": ("plain_faiss:PlainFaissStore", {}),
}

STORES = tuple(name for name in _ADAPTERS if name != "plain-faiss")
"""What is measured unless told otherwise; `plain-faiss` is for the test of the harness."""


def names(listed: str | None) -> list[str]:
    """Return the stores of a comma-separated list."""
    wanted = list(STORES) if listed is None else listed.split(",")
    unknown = [name for name in wanted if name not in _ADAPTERS]
    if unknown:
        raise SystemExit(f"unknown stores: {', '.join(unknown)}; there are {', '.join(STORES)}")
    return wanted


def adapter(name: str) -> Store:
    """Return a store's adapter; an ImportError says that it is not installed."""
    place, arguments = _ADAPTERS[name]
    module, kind = place.split(":")
    store: Store = getattr(import_module(f"benchmarks.stores_peers.{module}"), kind)(**arguments)
    return store
