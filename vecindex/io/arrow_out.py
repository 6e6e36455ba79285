"""An index's records as columns of Arrow, and as a data set of Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

from vecindex.errors import InputError, missing_extra
from vecindex.io.rows import Rows, chunks
from vecindex.io.strict_json import json_text
from vecindex.results import Record

Reopen = Callable[[], AbstractContextManager[Rows]]
"""Opens an index for reading; it is pickled when a data set is handed to other processes."""


def arrow_schema(index: Rows, vectors: bool | Literal["only"]) -> Any:
    """Return the columns of an index's records and their types.

    Parameters
    ----------
    index : Rows
        An open index; its first id decides the type of the column.
    vectors : bool or {"only"}
        Whether there is a column `embedding`, and whether it is the only one.

    Returns
    -------
    pyarrow.Schema
        `id` (int64 or string), `text`, `metadata` (JSON text), `embedding` (float32, as many as
        the index has dimensions).

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra("pyarrow", "arrow") from error
    fields: dict[str, Any] = {}
    if vectors != "only":
        first = next(iter(index.scan()), None)
        ints = first is not None and isinstance(first.id, int)
        fields["id"] = pyarrow.int64() if ints else pyarrow.string()
        fields |= {"text": pyarrow.string(), "metadata": pyarrow.string()}
    if vectors:
        fields["embedding"] = pyarrow.list_(pyarrow.float32(), index.dim or -1)
    return pyarrow.schema(fields.items())


def arrow_batches(index: Rows, schema: Any) -> Iterator[Any]:
    """Yield the records as batches of a schema.

    Parameters
    ----------
    index : Rows
        An open index.
    schema : pyarrow.Schema
        What `arrow_schema` gave.

    Yields
    ------
    pyarrow.RecordBatch
        Of `ROWS` rows, the last one of fewer.

    Raises
    ------
    InputError
        If an id is not of the column's type.
    """
    import pyarrow

    names = schema.names
    id_type = None
    if "id" in names:
        id_type = int if schema.field("id").type == pyarrow.int64() else str
    for records in chunks(index, vectors="embedding" in names):
        columns = _columns(records, id_type)
        arrays = [pyarrow.array(columns[name], schema.field(name).type) for name in names]
        yield pyarrow.record_batch(arrays, schema=schema)


def to_dataset(index: Rows, reopen: Reopen) -> Any:
    """Return an index's records as a data set that reads them while it is iterated.

    Parameters
    ----------
    index : Rows
        An open index, for what the columns are.
    reopen : callable
        Opens it anew at each pass over the data set.

    Returns
    -------
    datasets.IterableDataset
        Columns as of `arrow_schema`.

    Raises
    ------
    MissingExtraError
        If `datasets` is not installed.

    Notes
    -----
    `IterableDataset.from_generator` takes the types of some operations from a few rows and fails
    where the first have no text (`datasets` 5.2); tables bring their types with them.
    """
    try:
        import datasets
        from datasets.iterable_dataset import ArrowExamplesIterable
    except ImportError as error:
        raise missing_extra("datasets", "text") from error
    schema = arrow_schema(index, vectors=True)
    return datasets.IterableDataset(
        ArrowExamplesIterable(_tables, {"reopen": reopen, "schema": schema}),
        info=datasets.DatasetInfo(features=datasets.Features.from_arrow_schema(schema)),
    )


def _tables(reopen: Reopen, schema: Any) -> Iterator[tuple[int, Any]]:
    import pyarrow

    with reopen() as index:
        for number, batch in enumerate(arrow_batches(index, schema)):
            yield number, pyarrow.Table.from_batches([batch])


def _columns(records: list[Record], id_type: type | None) -> dict[str, list[Any]]:
    for record in records:
        if id_type is not None and not isinstance(record.id, id_type):
            raise InputError(
                f"the ids are strings and integers: {record.id!r} is not of the first one's type, "
                f"{id_type.__name__}; export to .jsonl, which can hold both"
            )
    return {
        "id": [record.id for record in records],
        "text": [record.text for record in records],
        "metadata": [
            None if record.metadata is None else json_text(record.metadata) for record in records
        ],
        "embedding": [record.vector for record in records],
    }
