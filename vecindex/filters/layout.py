"""What the columns of a part's metadata are called and what they hold; needs pyarrow.

A batch of n rows has, for each path, a column for each kind of value found there, called
`kind:path` as in `int:year` or `list<str>:tags`. A row without such a value is null in it. Beside
them are flags, columns of bool without nulls:

========== =======================================================================================
`none`     the value is None
`empty`    the value is an empty list
`map`      the value is a mapping; what it holds is found at longer paths
`odd`      there is a value, but it is in no column: only the record can tell
`maybe`    there may be a value: only the record can tell
========== =======================================================================================

The one flag `rest` marks rows with values at paths that have no columns at all.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow as pa

Array: TypeAlias = Any  # pyarrow has no types

SCALARS: dict[str, Any] = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.large_string(),
    "bytes": pa.large_binary(),
    "naive": pa.timestamp("us"),
    "aware": pa.timestamp("us", "UTC"),
}
LISTS = {f"list<{kind}>": pa.large_list(of) for kind, of in SCALARS.items()}
FLAGS = dict.fromkeys(["none", "empty", "map", "odd", "maybe"], pa.bool_())
TYPES = SCALARS | LISTS | FLAGS

REST = "rest"
VERSION = {b"vecindex": b"1"}  # a file of another version is passed over


def name_of(kind: str, path: str) -> str:
    """Return the name of a column."""
    return f"{kind}:{path}"


def check_batch(batch: Any, rows: int) -> None:
    """Raise ValueError unless a batch is one that we could have written."""
    if batch.schema.metadata != VERSION or batch.num_rows != rows:
        raise ValueError("columns of another version, or of other rows")
    for field in batch.schema:
        kind, colon, _ = field.name.partition(":")
        expected = TYPES.get(kind) if colon else FLAGS["odd"]
        if field.type != expected or (not colon and field.name != REST):
            raise ValueError(f"the column {field.name!r} has type {field.type}")
    if len(set(batch.schema.names)) != len(batch.schema.names):
        raise ValueError("a column is there twice")
    batch.validate(full=True)
