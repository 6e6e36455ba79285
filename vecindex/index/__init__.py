"""`VectorIndex`, its planner and its upkeep."""

from vecindex.index.index import VectorIndex

__all__ = ["VectorIndex"]
