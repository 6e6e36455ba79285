"""Texts longer than the model reads are noticed without asking the embedder."""

from __future__ import annotations

import threading

from vecindex import VectorIndex
from vecindex.embed import FunctionEmbedder


class ThreeLetters(FunctionEmbedder):
    """Reads three letters of a text; several calls can be made to overlap."""

    def __init__(self) -> None:
        self.meeting = threading.Barrier(1)
        super().__init__(self._rows, name="three")

    def count_cut(self, texts: list[str]) -> int:
        return sum(len(text) > 3 for text in texts)

    def _rows(self, texts: list[str]) -> list[list[float]]:
        self.meeting.wait(timeout=10)
        return [[1.0, *map(float, text.ljust(3).encode()[:3])] for text in texts]


def test_texts_that_were_cut_are_in_the_notes(tmp_path) -> None:
    embedder = ThreeLetters()
    embedder.embed_documents(["before the index"])
    with VectorIndex.create(tmp_path / "a.vx", embedder=embedder) as index:
        index.add(texts=["abc", "ab", ""], ids=["a", "b", "c"])
        index.search("a long question")
        assert index.info().notes == ()
        index.add(texts=["abcd"])
        assert index.info().notes == (
            "1 text was longer than function:three reads: only the beginning was embedded",
        )
        index.upsert(texts=["x" * 5, "y" * 6, "z"], ids=["a", "b", "c"])
        (note,) = index.info().notes
        assert note.startswith("3 texts were longer")


def test_texts_of_several_threads_are_counted_once(tmp_path) -> None:
    embedder = ThreeLetters()
    with VectorIndex.create(tmp_path / "a.vx", embedder=embedder) as index:
        index.add(texts=["abc"])
        embedder.meeting = threading.Barrier(4)  # all four are in the model at the same time
        threads = [
            threading.Thread(target=lambda: index.add(texts=["long", "longer"])) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (note,) = index.info().notes
        assert note.startswith("8 texts were longer")
