"""vecindex: an embedded vector index for Python over FAISS."""

from vecindex.build import BuildOptions, build, plan_build
from vecindex.errors import VecindexError
from vecindex.index import VectorIndex
from vecindex.results import Hit, Hits, Plan, Record
from vecindex.semantic import semantic_search
from vecindex.spec import FlatSpec, HnswSpec, IvfSpec, OptimizeBudget

__all__ = [
    "VectorIndex",
    "Hit",
    "Hits",
    "Plan",
    "Record",
    "FlatSpec",
    "HnswSpec",
    "IvfSpec",
    "OptimizeBudget",
    "VecindexError",
    "build",
    "plan_build",
    "BuildOptions",
    "semantic_search",
]
__version__ = "0.1.0"
