"""`vecindex search`, `get`, `remove` and `export`: rows of an index, found or named."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecindex.cli.options import (
    Embedder,
    IndexPath,
    JsonFlag,
    LockTimeout,
    Where,
    json_object,
    known_ids,
)
from vecindex.cli.output import (
    aside,
    counted,
    emit,
    one_line,
    print_facts,
    print_hits,
    print_plan,
    progress_bar,
)
from vecindex.errors import InputError

if TYPE_CHECKING:
    from vecindex.results import Record


def search(
    index: IndexPath,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to look for.", show_default=False)
    ] = None,
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="How many rows.")] = 10,
    where: Where = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every row.")] = False,
    recall: Annotated[
        float | None, typer.Option("--recall", min=0.0, max=1.0, help="A stricter recall@10.")
    ] = None,
    params: Annotated[
        Any,
        typer.Option(
            "--params",
            metavar="JSON",
            parser=json_object,
            help="Parameters of the structure for this search, as in '{\"ef_search\": 64}'.",
        ),
    ] = None,
    vector: Annotated[
        Path | None,
        typer.Option("--vector", metavar="FILE.npy", help="Look for this vector, not for a text."),
    ] = None,
    embedder: Embedder = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Do not search: say how it would be done, and the costs."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print the nearest rows: score, id and text.

    The score is the cosine of query and row, from -1 to 1, higher is better. --explain needs
    neither TEXT nor --vector.
    """
    from vecindex.index import VectorIndex

    if explain:
        with VectorIndex.open(index) as opened:
            plan = opened.explain(k, where=where, exact=exact, recall=recall, params=params)
        if json:
            emit({"plan": str(plan), **asdict(plan)})
        else:
            print_plan(plan)
        return
    if (text is None) == (vector is None):
        raise typer.BadParameter("give either TEXT or --vector FILE.npy")
    query = text if vector is None else _load_vector(vector)
    with VectorIndex.open(index, embedder=embedder) as opened:
        hits = opened.search(query, k, where=where, exact=exact, recall=recall, params=params)
    if json:
        emit({"hits": [_hit_dict(hit) for hit in hits], "plan": str(hits.plan)})
        return
    print_hits(hits)
    aside(f"({hits.plan})")


def get(
    index: IndexPath,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids.", show_default=False)],
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Print the unit rows as well.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print the rows with these ids.

    An id is taken as a string; if there is no such id and it reads as an integer, as that. Put --
    before a negative one.
    """
    from vecindex.index import VectorIndex

    with VectorIndex.open(index) as opened:
        records = opened.get(known_ids(opened, ids), vectors=vectors)
    if json:
        emit({"records": [_record_dict(record) for record in records]})
        return
    for number, record in enumerate(records):
        if number:
            typer.echo()
        _print_record(record)


def remove(
    index: IndexPath,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids.", show_default=False)
    ] = None,
    where: Where = None,
    lock_timeout: LockTimeout = 0.0,
    json: JsonFlag = False,
) -> None:
    """Remove rows by id, or by --where.

    Ids are read as `vecindex get` reads them. `vecindex compact` gives the space back.
    """
    from vecindex.index import VectorIndex

    if bool(ids) == (where is not None):
        raise typer.BadParameter("give either ids or --where")
    with VectorIndex.open(index, "r+", maintenance="manual", timeout=lock_timeout) as opened:
        removed = opened.remove(known_ids(opened, ids) if ids else None, where=where)
        rows = len(opened)
    if json:
        emit({"removed": removed, "rows": rows})
    else:
        typer.echo(f"{counted(removed, 'row')} removed from {index}: {rows:,} left")


def export(
    index: IndexPath,
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DEST",
            help="A .jsonl, .parquet, .csv, .npy or .faiss file.",
            show_default=False,
        ),
    ],
    vectors: Annotated[
        bool,
        typer.Option(
            "--vectors", help="Write the unit rows as well; .npy and .faiss hold only them."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DEST.")] = False,
    json: JsonFlag = False,
) -> None:
    """Write all rows to a file, in insertion order.

    In .jsonl, .parquet and .csv, `--text text --id id --metadata 'metadata.*'` reads them back.
    Datetimes become ISO 8601 text and bytes become base64 text. A .faiss file is a plain FAISS
    index; DEST.ids.jsonl lists the ids of its labels. DEST is there whole or not at all.
    """
    from vecindex.index import VectorIndex
    from vecindex.io import export as export_file

    with VectorIndex.open(index) as opened, progress_bar(json) as progress:
        if destination.exists() and not destination.is_dir() and not overwrite:
            raise InputError(f"{destination} exists; --overwrite replaces it")
        if destination.suffix.lower() == ".faiss":
            rows = opened.export_faiss(destination, overwrite=overwrite, progress=progress)
        else:
            rows = export_file(
                opened, destination, vectors=vectors, overwrite=overwrite, progress=progress
            )
    if json:
        emit({"path": str(destination), "rows": rows})
    else:
        typer.echo(f"{counted(rows, 'row')} written to {destination}")


def _load_vector(path: Path) -> Any:
    from vecindex.io import read_array

    array = read_array(path)
    if array.ndim == 2 and len(array) != 1:
        raise InputError(f"{path} holds {len(array):,} vectors; expected one")
    return array.reshape(-1)


def _hit_dict(hit: Any) -> dict[str, Any]:
    return {"id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata}


def _record_dict(record: Record) -> dict[str, Any]:
    fields = {"id": record.id, "text": record.text, "metadata": record.metadata}
    return fields if record.vector is None else {**fields, "vector": record.vector}


def _print_record(record: Record) -> None:
    from vecindex.io import json_text

    print_facts(
        {
            "id": one_line(str(record.id)),
            "text": None if record.text is None else one_line(record.text),
            "metadata": None if record.metadata is None else json_text(record.metadata),
            "vector": None if record.vector is None else json_text(record.vector),
        }
    )
