"""Answer a question with the nearest of a list of frequently asked ones.

Run `python -m vecindex.examples.faq`, or with a question of your own behind it. Needs the extra
`text`: a model of 90 MB turns the texts into vectors.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from vecindex import VectorIndex
from vecindex.examples.medicare import QUERY, QUESTIONS

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def main(question: str = QUERY, folder: Path | None = None) -> None:
    """Print the five questions that are nearest to one.

    Parameters
    ----------
    question : str
        What to ask.
    folder : Path or None
        Where the index and the embeddings are left; None leaves nothing.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return main(question, Path(temporary))

    # 1. Embed the questions and keep them: when `add` returns they are on disk.
    with VectorIndex.create(folder / "faq.vx", embedder=MODEL) as index:
        index.add(texts=QUESTIONS, ids=range(len(QUESTIONS)))
        # The embeddings alone, as a table that every tool reads.
        index.to_csv(folder / "embeddings.csv", vectors="only")

    # 2. Ask, here or in any other process: the index knows its model.
    with VectorIndex.open(folder / "faq.vx") as index:
        print(question)
        for hit in index.search(question, k=5):
            print(f"{hit.score:.4f}  {hit.id:>2}  {hit.text}")
    return None


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else QUERY)
