"""`vecindex info`, `optimize`, `compact` and `verify`: the state of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecindex.cli.options import IndexPath, JsonFlag, SpecName, TargetRecall
from vecindex.cli.output import counted, emit, measured_recall, print_facts, progress_bar, size_text

if TYPE_CHECKING:
    from vecindex.results import IndexInfo


def info(index: IndexPath, json: JsonFlag = False) -> None:
    """Print facts: rows, structure, measured recall."""
    from vecindex.index import VectorIndex

    with VectorIndex.open(index) as opened:
        facts = opened.info()
    _report(facts, json)


def optimize(
    index: IndexPath,
    spec: Annotated[
        SpecName | None, typer.Option("--spec", help="Another structure.", show_default=False)
    ] = None,
    target_recall: TargetRecall = None,
    json: JsonFlag = False,
) -> None:
    """Fold new rows into the structure.

    Then choose its parameters anew by measuring recall, so that it stays as promised.
    """
    from vecindex.index import VectorIndex

    with (
        VectorIndex.open(index, "r+", maintenance="manual") as opened,
        progress_bar(json) as progress,
    ):
        name = None if spec is None else spec.value
        opened.optimize(name, target_recall, progress=progress)
        facts = opened.info()
    _report(facts, json)


def compact(index: IndexPath, json: JsonFlag = False) -> None:
    """Give the space of removed rows back."""
    from vecindex.index import VectorIndex

    with (
        VectorIndex.open(index, "r+", maintenance="manual") as opened,
        progress_bar(json) as progress,
    ):
        before = opened.info().size_bytes
        opened.compact(progress=progress)
        facts = opened.info()
    if json:
        emit({"size_bytes_before": before, "size_bytes": facts.size_bytes, "rows": facts.rows})
    else:
        typer.echo(f"{index}: {size_text(before)} before, {size_text(facts.size_bytes)} now")


def verify(index: IndexPath, json: JsonFlag = False) -> None:
    """Check every byte of an index.

    The exit code is 1 if something is damaged.
    """
    from vecindex.index import VectorIndex

    with VectorIndex.open(index) as opened, progress_bar(json) as progress:
        report = opened.verify(progress=progress)
    if json:
        emit(report.to_dict())
    else:
        for problem in report.problems:
            mend = "; it can be rebuilt: vecindex optimize" if problem.rebuildable else ""
            typer.echo(f"{problem.file}, offset {problem.offset}: {problem.what}{mend}")
        found = counted(len(report.problems), "problem") if report.problems else "no problem"
        size = size_text(report.size_bytes)
        read = f"{counted(report.files, 'file')}, {size}, {counted(report.rows, 'row')} checked"
        typer.echo(f"{index}: {found}; {read}")
    if not report.ok:
        raise typer.Exit(1)


def _report(info: IndexInfo, json: bool) -> None:
    if json:
        emit(info.to_dict())
        return
    print_facts(_facts(info))
    for note in info.notes:
        typer.echo(f"note: {note}")


def _facts(info: IndexInfo) -> dict[str, Any]:
    recall = measured_recall(info)
    removed = f", {info.removed:,} removed" if info.removed else ""
    return {
        "path": info.path,
        "rows": f"{info.rows:,}{removed}",
        "dim": info.dim,
        "structure": info.structure or "none (every search is exact)",
        "spec": _options(info.spec),
        "indexed": None
        if not info.indexed
        else f"{counted(info.indexed, 'row')}, {info.tail:,} beside it",
        "target": f"recall@10 {info.target_recall:g}",
        "measured": None if recall is None else f"recall@10 {recall:.4f}",
        "params": None if not info.params else _options(info.params),
        "embedder": info.embedder,
        "size": size_text(info.size_bytes),
        "generation": info.generation,
        "format": info.format,
    }


def _options(values: dict[str, Any]) -> str:
    kind = values.get("kind", "")
    rest = [f"{name}={value}" for name, value in values.items() if name != "kind"]
    return " ".join([*([kind] if kind else []), *rest])
