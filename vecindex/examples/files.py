"""Search the paragraphs of a directory's text files, and keep up with what changes in them.

Run `python -m vecindex.examples.files DIR "a question"`. The index is kept in `DIR.vx`: a second
run embeds changed files only, and forgets those that are gone. Needs the extra `text`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vecindex import VectorIndex

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SUFFIXES = {".md", ".rst", ".txt"}


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yield each paragraph of a text with the line on which it begins, counted from 1."""
    for found in re.finditer(r"\S.*?(?=\n\s*\n|\s*\Z)", text, flags=re.DOTALL):
        yield text.count("\n", 0, found.start()) + 1, found[0]


def update(index: VectorIndex, folder: Path) -> int:
    """Bring an index to the state of a directory and return how many files were read.

    Parameters
    ----------
    index : VectorIndex
        Open for writing. An id is `"file:line"`; metadata hold the file and when it was changed.
    folder : Path
        Its text files, also those in directories below.

    Returns
    -------
    int
        Files that are new or changed; only those are embedded.
    """
    metadata = (record.metadata or {} for record in index.scan())
    known = {entry["file"]: entry["changed"] for entry in metadata}
    there = {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES and path.is_file()
    }
    changed = [name for name, when in there.items() if known.get(name) != when]
    gone = [name for name in known if name not in there]
    if stale := [name for name in (*changed, *gone) if name in known]:
        index.remove(where={"file": {"$in": stale}})
    for name in changed:
        found = list(paragraphs((folder / name).read_text(encoding="utf-8", errors="replace")))
        index.upsert(
            ids=[f"{name}:{line}" for line, _ in found],
            texts=[text for _, text in found],
            metadata=[{"file": name, "changed": there[name]} for _ in found],
        )
    return len(changed)


def main(folder: str, question: str, embedder: Any = MODEL) -> None:
    """Update the index of a directory and print the paragraphs nearest to a question.

    Parameters
    ----------
    folder : str
        The directory.
    question : str
        What to look for.
    embedder : str or callable
        As for `VectorIndex.create`.
    """
    if not Path(folder).is_dir():
        sys.exit(f"{folder} is not a directory")
    path = Path(f"{Path(folder).resolve()}.vx")
    if not path.exists():
        VectorIndex.create(path, embedder=embedder).close()
    with VectorIndex.open(path, "r+", embedder=embedder) as index:
        print(f"{update(index, Path(folder))} files read, {len(index)} paragraphs")
        for hit in index.search(question, k=3):
            print(f"{hit.score:.4f}  {hit.id}  {' '.join((hit.text or '').split())[:70]}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit('usage: python -m vecindex.examples.files DIR "a question"')
    main(*sys.argv[1:])
