"""Data sets of the `datasets` library as sources: objects, names on the hub, directories."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vecindex.errors import HubError, InputError, missing_extra
from vecindex.io.columns import Columns
from vecindex.io.objects import is_a, record_source
from vecindex.io.opened import Source
from vecindex.io.records import Bad, Batch
from vecindex.io.tables import arrow_slices, table_batches

PREFIX = "dataset:"
"""Before the name of a data set, as `load_dataset` takes it."""

# Paths lose one of two slashes.
_HUB = re.compile(
    r"hf:/{1,2}datasets/(?P<name>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?"
)


def is_data_set(value: Any) -> bool:
    """Return whether a value is one of the library's data sets, or a dict of its splits."""
    return is_a(value, "datasets", "Dataset", "IterableDataset") or _is_split_dict(value)


def is_name(text: str) -> bool:
    """Return whether a text names a data set, as `dataset:org/name` does."""
    return text.startswith(PREFIX) or _HUB.fullmatch(text.partition("#")[0]) is not None


def named_source(text: str, split: str | None) -> Source:
    """Return a data set on the hub, which is streamed, as a source.

    Parameters
    ----------
    text : str
        `dataset:org/name`, or `hf://datasets/org/name`, there also with `@revision` and `/file`;
        `#config` at the end chooses a configuration.
    split : str or None
        The split; None takes the only one.

    Returns
    -------
    Source
        Nothing but what names the columns is read yet.

    Raises
    ------
    InputError
        If there is no such data set, configuration or split.
    MissingExtraError
        If `datasets` is not installed.
    HubError
        If the hub cannot be reached.
    """
    name, _, config = text.partition("#")
    options: dict[str, Any] = {"name": config or None}
    if match := _HUB.fullmatch(name):
        name = match["name"]
        options |= {"revision": match["revision"], "data_files": match["file"]}
    else:
        name = name.removeprefix(PREFIX)
    return data_set_source(_streamed(name, text, options), split, text)


def directory_source(path: Path, split: str | None) -> Source:
    """Return a directory as a source: what `save_to_disk` wrote, or data files.

    Parameters
    ----------
    path : Path
        The directory; the data files are found as `load_dataset` finds them.
    split : str or None
        The split; None takes the only one.

    Returns
    -------
    Source
        Memory-mapped, or streamed.

    Raises
    ------
    InputError
        If it is neither, or has no such split.
    MissingExtraError
        If `datasets` is not installed.
    """
    if (path / "MANIFEST").exists():
        raise InputError(f"{path} is an index; expected data (`export` writes an index's records)")
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        loaded = _loaded(str(path), lambda datasets: datasets.load_from_disk(str(path)))
    else:
        loaded = _streamed(str(path), str(path), {})
    return data_set_source(loaded, split, str(path))


def data_set_source(value: Any, split: str | None, name: str | None = None) -> Source:
    """Return a `Dataset`, an `IterableDataset` or a split of a dict of them as a source.

    Parameters
    ----------
    value : Dataset, IterableDataset, DatasetDict or IterableDatasetDict
        The library's formats and transforms do not apply; a data set whose features are unknown
        is read as dicts.
    split : str or None
        Which split of a dict; None takes the only one.
    name : str or None
        How messages call it; None takes the class.

    Returns
    -------
    Source
        Streamed in batches.

    Raises
    ------
    InputError
        If there is no such split, or several and none was named; the message lists them.
    """
    name = name or type(value).__name__
    if _is_split_dict(value):
        value, split = _picked(value, split, name), None
    if split is not None:
        raise InputError(f"{name}: it is one split already; leave out split={split!r}")
    if value.features is None:  # then each batch may have another schema, which Arrow refuses
        return record_source(name, value)
    names = list(value.column_names)

    def read(columns: Columns, batch_rows: int, bad: Bad) -> Iterator[Batch]:
        """Yield the batches."""
        asked = list(columns.asked(names, name))
        tables = value.select_columns(asked).with_format("arrow").iter(batch_rows)
        return table_batches(name, names, arrow_slices(name, tables, batch_rows), columns, bad)

    rows = len(value) if is_a(value, "datasets", "Dataset") else None
    return Source(name, lambda: names, read, rows)


def _is_split_dict(value: Any) -> bool:
    return is_a(value, "datasets", "DatasetDict", "IterableDatasetDict")


def _picked(splits: Any, split: str | None, name: str) -> Any:
    there = ", ".join(splits) or "none"
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split is None:
        raise InputError(f"{name}: say which split to read (split=...); there is: {there}")
    if split not in splits:
        raise InputError(f"{name}: there is no split {split!r}; there is: {there}")
    return splits[split]


def _streamed(name: str, shown: str, options: dict[str, Any]) -> Any:
    given = {key: value for key, value in options.items() if value is not None}
    return _loaded(shown, lambda datasets: datasets.load_dataset(name, streaming=True, **given))


def _loaded(shown: str, load: Callable[[Any], Any]) -> Any:
    """Return what the library loads; what it says of names and files is an `InputError`."""
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("datasets", "text") from error
    try:
        return load(datasets)
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        raise InputError(f"{shown}: cannot be loaded as a data set: {error}") from error
    except ConnectionError as error:
        raise HubError(f"{shown}: {error}") from error
