"""Libraries for vectors alone, one adapter a file; each runs in a process of its own."""

from __future__ import annotations

from importlib import import_module

from benchmarks.peers.base import Peer

VECINDEX_SPECS = (
    "flat",
    "flat/pq4",
    "ivf",
    "ivf/pq4",
    "hnsw",
    "hnsw/bf16",
    "hnsw/sq8",
    "hnsw/sq4",
    "auto",
)
"""Specs of vecindex that are measured; one that it does not know is listed as skipped."""

_ADAPTERS: dict[str, tuple[str, dict[str, object]]] = {
    **{f"vecindex:{spec}": ("vecindex:VecindexPeer", {"spec": spec}) for spec in VECINDEX_SPECS},
    "faiss-flat": ("faiss:FaissFlat", {}),
    "faiss-hnsw32": ("faiss:FaissHnsw", {"m": 32}),
    "hnswlib-16": ("hnswlib:HnswlibPeer", {"m": 16}),
    "hnswlib-32": ("hnswlib:HnswlibPeer", {"m": 32}),
    "usearch": ("usearch:UsearchPeer", {"dtype": None}),
    "usearch-f32": ("usearch:UsearchPeer", {"dtype": "f32", "connectivity": 32}),
    "voyager-12": ("voyager:VoyagerPeer", {"m": 12}),
    "voyager-32": ("voyager:VoyagerPeer", {"m": 32}),
    "scann": ("scann:ScannPeer", {"tree": True}),
    "scann-soar": ("scann:ScannPeer", {"tree": True, "soar": True}),
    "scann-ah": ("scann:ScannPeer", {"tree": False}),
    "wrong": ("wrong:WrongPeer", {}),
}

LIBRARIES = tuple(name for name in _ADAPTERS if name != "wrong")
"""What is measured unless told otherwise."""


def names(listed: str | None) -> list[str]:
    """Return the libraries of a comma-separated list; a bare `vecindex` means all its specs."""
    wanted = LIBRARIES if listed is None else tuple(listed.split(","))
    expanded = [
        name
        for one in wanted
        for name in (
            [n for n in LIBRARIES if n.startswith("vecindex:")] if one == "vecindex" else [one]
        )
    ]
    unknown = [name for name in expanded if name not in _ADAPTERS]
    if unknown:
        raise SystemExit(
            f"unknown libraries: {', '.join(unknown)}; there are {', '.join(LIBRARIES)}"
        )
    return list(dict.fromkeys(expanded))


def adapter(name: str) -> Peer:
    """Return a library's adapter; an ImportError says that it is not installed."""
    place, arguments = _ADAPTERS[name]
    module, kind = place.split(":")
    peer: Peer = getattr(import_module(f"benchmarks.peers.{module}"), kind)(**arguments)
    return peer
