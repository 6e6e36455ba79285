"""Nearest neighbours: exact, by graph, by lists; and what recall they really have.

The only room that knows FAISS. It knows nothing of files, ids and texts: rows in, row numbers out.
"""

from vecindex.ann.base import BuildInterrupted, Structure
from vecindex.ann.calibrate import calibrate, candidates_for
from vecindex.ann.exact import exact_search
from vecindex.ann.flat import LiveMask, search_flat, search_rows
from vecindex.ann.ivf_build import lists_for
from vecindex.ann.scores import score_rows, top_k
from vecindex.ann.structures import build, load, write
from vecindex.ann.threads import CORES

__all__ = [
    "BuildInterrupted",
    "CORES",
    "LiveMask",
    "Structure",
    "build",
    "calibrate",
    "candidates_for",
    "exact_search",
    "lists_for",
    "load",
    "score_rows",
    "search_flat",
    "search_rows",
    "top_k",
    "write",
]
