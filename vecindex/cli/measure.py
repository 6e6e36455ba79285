"""`vecindex bench`: measure an index on its own rows or on given queries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecindex.cli.options import Embedder, IndexPath, JsonFlag
from vecindex.cli.output import aside, emit, progress_bar
from vecindex.errors import InputError

if TYPE_CHECKING:
    from vecindex.index import VectorIndex


def bench(
    index: IndexPath,
    *,
    k: Annotated[
        list[int] | None,
        typer.Option("-k", min=1, help="Rows asked for; repeatable.", show_default="1, 10, 100"),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Queries: vectors in a .npy file, or texts in a .txt file, one a line.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Rows to ask with when there are no --queries.")
    ] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds of timing.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.json", help="Write the report here as well."),
    ] = None,
    embedder: Embedder = None,
    json: JsonFlag = False,
) -> None:
    """Measure recall, latency and throughput.

    Exact search is the truth. Without --queries, rows of the index are the queries, and no row
    finds itself. The index is not changed.
    """
    from vecindex.bench import bench as measure
    from vecindex.index import VectorIndex

    model = _model(index, embedder) if queries is not None and not _is_npy(queries) else embedder
    with VectorIndex.open(index, embedder=model) as opened, progress_bar(json) as progress:
        report = measure(
            opened,
            k=k or (1, 10, 100),
            queries=None if queries is None else _queries(opened, queries, model),
            sample=sample,
            seed=seed,
            repeats=repeats,
            progress=progress,
        )
    if out is not None:
        out.write_text(report.to_json(), encoding="utf-8")
    if json:
        emit(report.to_dict())
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(report.to_table())
    else:
        typer.echo(report.to_markdown(), nl=False)
    if out is not None:
        aside(f"written to {out}")


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _model(index: Path, named: str | None) -> Any:
    """Return the embedder named, or else the one that the index names."""
    from vecindex.embed import from_manifest, resolve
    from vecindex.index import VectorIndex

    with VectorIndex.open(index) as opened:
        stored = opened.info().embedder
    return resolve(named) or (from_manifest(stored) if stored else None)


def _queries(index: VectorIndex, path: Path, model: Any) -> Any:
    from vecindex.io import read_array

    if _is_npy(path):
        return read_array(path, dims=(2,))
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} holds no queries; expected one a line")
    index.search(lines[0], k=1)  # the index makes sure that the model is its own
    return model.embed_queries(lines)
