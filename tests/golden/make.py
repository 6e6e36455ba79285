"""Makes the golden directories of the current format: `python -m tests.golden.make`.

They are committed and must open for ever, so this is run once for each format, never to mend a
failing test: an existing directory is left alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.torture.samples import QUERIES, WHERE, make_flat, make_full
from vecindex import VectorIndex
from vecindex.store.frames import FORMAT

HERE = Path(__file__).parent
MAKERS = {"flat": make_flat, "full": lambda path: make_full(path, indexed=64)}


def answers(index: VectorIndex) -> dict[str, Any]:
    """Return rows and answers as plain JSON values."""
    ids, scores = index.search_arrays(QUERIES, k=5, exact=True)
    return {
        "rows": [
            [r.id, r.text, repr(r.metadata), np.asarray(r.vector, "<f4").tobytes().hex()]
            for r in index.scan(vectors=True)
        ],
        "found": ids.tolist(),
        "scores": scores.tolist(),
        "structure": index.search_arrays(QUERIES, k=5, params={"rescore": 8})[0].tolist(),
        "where": [hit.id for hit in index.search(QUERIES[0], k=4, where=WHERE)],
    }


def main() -> None:
    """Make what is not there."""
    for name, make in MAKERS.items():
        path = HERE / f"{name}-{FORMAT}"
        if path.exists():
            continue
        make(path)
        (path / "LOCK").unlink()
        with VectorIndex.open(path) as index:
            text = json.dumps(answers(index), indent=1)
        path.with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
