"""Sort new questions into topics by their nearest neighbours, and say how often that is right.

Run `python -m vecindex.examples.topics`. Needs the extra `text`. Two ways to use vectors that are
in an index: ask it (which topic do the nearest have?), or take them out as a data set and compute
with them (would each question be sorted right if it were new?).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from vecindex import VectorIndex
from vecindex.examples.medicare import QUESTIONS

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TOPICS = (
    "card", "costs", "leaving", "joining", "joining", "joining", "costs", "basics", "costs",
    "basics", "costs", "basics", "joining",
)  # fmt: skip
"""Of the questions, in their order."""

NEW = ("When can I enroll in Part B?", "How much will I pay every month?")


def topic_of(index: VectorIndex, question: str, k: int = 3) -> str:
    """Return the topic that most of the nearest questions have, the nearest deciding ties.

    Parameters
    ----------
    index : VectorIndex
        With a `topic` in the metadata of every row.
    question : str
        A new one.
    k : int
        How many neighbours vote.

    Returns
    -------
    str
        The topic.
    """
    votes = Counter((hit.metadata or {})["topic"] for hit in index.search(question, k=k))
    return str(votes.most_common(1)[0][0])


def leave_one_out(index: VectorIndex) -> float:
    """Return the share of rows whose nearest other row has the same topic."""
    rows = index.to_dataset().with_format("numpy")
    vectors = np.concatenate([batch["embedding"] for batch in rows.iter(1000)])
    topics = np.array([record.metadata["topic"] for record in index.scan() if record.metadata])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    return float((topics[cosines.argmax(axis=1)] == topics).mean())


def main() -> None:
    """Print a topic for each new question, and how far to believe it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "topics.vx"
        with VectorIndex.create(path, embedder=MODEL) as index:
            index.add(texts=QUESTIONS, metadata=[{"topic": topic} for topic in TOPICS])
            for question in NEW:
                print(f"{topic_of(index, question):8}  {question}")
            print(f"right for {leave_one_out(index):.0%} of the known ones, had they been new")


if __name__ == "__main__":
    main()
