"""Nearest neighbours: exact, by graph, by lists; and what recall they really have.

The only room that knows FAISS. It knows nothing of files, ids and texts: rows in, row numbers out.
"""

from vecindex.ann.base import CALIBRATED_K, BuildInterrupted, Structure, slots_for
from vecindex.ann.calibrate import calibrate
from vecindex.ann.candidates import candidates_for
from vecindex.ann.choose import Choice, choose
from vecindex.ann.exact import exact_search
from vecindex.ann.flat import LiveMask, search_flat, search_rows
from vecindex.ann.ivf_build import lists_for
from vecindex.ann.questions import Questions, questions, sample_for
from vecindex.ann.rescored import Best, Wanted, best_of
from vecindex.ann.scan import Encoder, Scan
from vecindex.ann.scores import merge, score_rows, top_k
from vecindex.ann.structures import build, load, write
from vecindex.ann.threads import CORES, in_pieces, limit_threads

__all__ = [
    "Best",
    "BuildInterrupted",
    "CALIBRATED_K",
    "CORES",
    "Choice",
    "Encoder",
    "LiveMask",
    "Questions",
    "Scan",
    "Structure",
    "Wanted",
    "best_of",
    "build",
    "calibrate",
    "candidates_for",
    "choose",
    "exact_search",
    "in_pieces",
    "limit_threads",
    "lists_for",
    "load",
    "merge",
    "questions",
    "sample_for",
    "score_rows",
    "search_flat",
    "search_rows",
    "slots_for",
    "top_k",
    "write",
]
