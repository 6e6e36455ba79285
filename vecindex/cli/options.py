"""Options and arguments that several commands share, and how their text is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from vecindex.errors import SpecError
from vecindex.spec import CODES, AutoSpec, FlatSpec, HnswSpec, IvfSpec, parse_spec, spec_name

if TYPE_CHECKING:
    from vecindex.index import VectorIndex
    from vecindex.results import Id

SPEC_HELP = "The structure: auto, flat, hnsw or ivf; with codes as in flat/pq4 or hnsw/bf16."

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
"""Embeds texts when no embedder is named and there is no column of vectors."""


def spec_names() -> list[str]:
    """Return the names of all structures that can be asked for, with their codes."""
    names = [AutoSpec.kind]
    for cls, codes in product((FlatSpec, HnswSpec, IvfSpec), CODES):
        with suppress(SpecError):  # not every structure has all codes
            names.append(spec_name(cls(codes=codes)))
    return names


def known_spec(text: str) -> str:
    """Return the name of a structure if `parse_spec` reads it; another one is wrong usage."""
    try:
        parse_spec(text)
    except SpecError as error:
        known = ", ".join(spec_names())
        raise typer.BadParameter(f"{text!r} is no structure; expected one of {known}") from error
    return text


def json_object(text: str) -> dict[str, Any]:
    """Return the object that an option's JSON text holds; anything else is wrong usage."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter('expected a JSON object, as in {"topic": "premiums"}')
    return value


def split_names(values: Iterable[str]) -> tuple[str, ...]:
    """Return the names of a repeatable option whose values may list several, comma separated."""
    names = (name.strip() for value in values for name in value.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def known_ids(index: VectorIndex, texts: Iterable[str]) -> list[Id]:
    """Return ids from the command line, where all are text, as the index knows them.

    Parameters
    ----------
    index : VectorIndex
        The index.
    texts : iterable of str
        Ids as typed.

    Returns
    -------
    list of str or int
        The text itself if that is an id; else the integer that it spells, if that is one; else
        the text, for the index to say that it is unknown.
    """
    return [_known_id(index, text) for text in texts]


def _known_id(index: VectorIndex, text: str) -> Id:
    if text in index:
        return text
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < 20 and int(text) in index:
        return int(text)
    return text


IndexPath: TypeAlias = Annotated[
    Path, typer.Argument(metavar="INDEX", help="The directory of the index.", show_default=False)
]
Sources: TypeAlias = Annotated[
    list[str],  # a Path would make hf:/ of hf://
    typer.Argument(
        metavar="SOURCE",
        help="Files to read: .jsonl, .ndjson, .json, .csv, .tsv (each also .gz), .parquet, .npy; "
        "directories of them, or that Dataset.save_to_disk wrote; data sets on the hub, as in "
        "dataset:org/name or hf://datasets/org/name.",
        show_default=False,
    ),
]
JsonFlag: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
]
TextColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="COL",
        help="The column of texts; found when plain (text, content, question...).",
    ),
]
IdColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COL",
        help="The column of ids; found when plain (id, _id, doc_id...). Without one ids are "
        "numbers. For .npy: row.",
    ),
]
MetadataColumns: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata",
        metavar="COLS",
        help="Columns to keep as metadata: comma separated, repeatable. "
        "COL.* keeps each entry of the objects in COL.",
    ),
]
VectorColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--vector",
        metavar="COL",
        help="The column of vectors, lists of numbers; '*' for columns 0, 1, 2... of a dimension "
        "each. Found when plain (embedding, vector...), unless --text is given.",
    ),
]
Embedder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="NAME",
        help="The model that embeds texts, as in st:org/model, transformers:org/model#cls or "
        "openai:text-embedding-3-small.",
    ),
]
Split: TypeAlias = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="The split of a data set.")
]
BatchRows: TypeAlias = Annotated[
    int, typer.Option("--batch-rows", min=1, help="Rows added, and made durable, at a time.")
]
TargetRecall: TypeAlias = Annotated[
    float | None,
    typer.Option("--target-recall", min=0.0, max=1.0, help="Recall@10 to keep, measured."),
]
LockTimeout: TypeAlias = Annotated[
    float,
    typer.Option(
        "--lock-timeout",
        metavar="SECONDS",
        min=0.0,
        help="Wait so long for another writer to end.",
    ),
]
Where: TypeAlias = Annotated[
    Any,
    typer.Option(
        "--where",
        metavar="JSON",
        parser=json_object,
        help='Only rows whose metadata match, as in \'{"year": {"$gte": 2023}}\'.',
    ),
]
