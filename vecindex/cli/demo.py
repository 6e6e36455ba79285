"""`vecindex demo`: thirteen questions on disk, and the five nearest to one more."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecindex.cli.options import DEFAULT_EMBEDDER, JsonFlag
from vecindex.cli.output import emit, print_hits
from vecindex.errors import IndexPathError, VecindexError
from vecindex.examples.medicare import QUERY, QUESTIONS

if TYPE_CHECKING:
    from vecindex.index import VectorIndex


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the index is kept.")
    ] = Path("vecindex-demo.vx"),
    json: JsonFlag = False,
) -> None:
    """Build a small index on disk and search it.

    Needs the text extra: pip install 'vecindex[text]'. An index that a former demo left in DIR is
    used again; anything else there is left alone.
    """
    from vecindex.index import VectorIndex

    reused = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if reused:
        _mend(out)
    else:
        _build(out)
    with VectorIndex.open(out) as index:
        hits = index.search(QUERY, k=5)
    if json:
        found = [{"id": hit.id, "score": hit.score, "text": hit.text} for hit in hits]
        emit({"path": str(out), "reused": reused, "query": QUERY, "hits": found})
        return
    typer.echo(f"{QUERY}\n")
    print_hits(hits)
    did = "was there already" if reused else "is now on disk"
    typer.echo(f'\nThe index {did}: {out}\nTry: vecindex search {out} "lost my card"')


def _build(out: Path) -> None:
    """Make the index beside `out` and rename it: no half-built demo is ever found there."""
    from vecindex.index import VectorIndex

    place = Path(tempfile.mkdtemp(prefix=".vecindex-demo-", dir=out.parent))
    try:
        with VectorIndex.create(
            place / "index", embedder=DEFAULT_EMBEDDER, maintenance="manual"
        ) as index:
            _add(index, range(len(QUESTIONS)))
        (place / "index").replace(out)
    finally:
        shutil.rmtree(place)


def _mend(out: Path) -> None:
    """Check that `out` is a former demo, and put back questions that were removed from it."""
    from vecindex.index import VectorIndex

    try:
        with VectorIndex.open(out) as index:
            there = [id for id in range(len(QUESTIONS)) if id in index]
            ours = [record.text for record in index.get(there)] == [QUESTIONS[id] for id in there]
            empty = not len(index)
    except VecindexError as error:
        error.add_note("choose another directory for the demo with --out")
        raise
    if not ours or not (there or empty):
        raise IndexPathError(f"{out} is an index of something else; choose another --out")
    missing = sorted(set(range(len(QUESTIONS))).difference(there))
    if missing:
        with VectorIndex.open(out, "r+", maintenance="manual") as index:
            _add(index, missing)


def _add(index: VectorIndex, ids: Iterable[int]) -> None:
    numbers = list(ids)
    index.add(texts=[QUESTIONS[id] for id in numbers], ids=numbers)
