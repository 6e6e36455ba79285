"""What was compiled when vecindex was installed; None without a compiler: FAISS serves then."""

from __future__ import annotations

try:
    from vecindex.ann import _scores as scores
    from vecindex.ann import _walk as walk
except ImportError:
    scores = walk = None  # type: ignore[assignment]

try:
    from vecindex.ann import _scan as scan
except ImportError:  # or a processor whose instructions it does not know
    scan = None  # type: ignore[assignment]
if scores is None:
    scan = None  # scores must come from one of both, to the last bit

__all__ = ["scan", "scores", "walk"]
