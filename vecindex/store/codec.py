"""Records as bytes: msgpack, with datetimes kept as ISO 8601 text in an extension type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from typing import Any

import msgpack
import numpy as np

from vecindex.errors import CorruptIndexError, MetadataError
from vecindex.results import Id, Metadata, Record

DATETIME_EXT = 1
"""msgpack extension type of a datetime: ISO 8601 text, so that offset and microseconds stay."""

MAX_DEPTH = 64
"""How deep metadata may be nested."""
_LEAVES = {str, int, float, bool, type(None)}  # what needs no look inside; most values are these
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1  # what msgpack can hold
DEAD_RECORD = msgpack.packb(None)
"""What replaces the record of a removed row when a segment is rewritten."""


_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: bytes.__bytes__,
    list: list,
}


def _default(value: Any) -> Any:
    # Called for what msgpack's strict types refuse, subclasses included.
    if isinstance(value, datetime):
        text = value.isoformat()
        datetime.fromisoformat(text)  # pandas.NaT is a datetime, but could never be read back
        return msgpack.ExtType(DATETIME_EXT, text.encode())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    for kind, plain in _PLAIN.items():  # a subclass, as of an enum, may print as something else
        if isinstance(value, kind):
            return plain(value)
    raise TypeError(f"cannot store a value of type {type(value).__name__}")


def _ext_hook(code: int, data: bytes) -> Any:
    if code == DATETIME_EXT:
        return datetime.fromisoformat(data.decode())
    raise ValueError(f"unknown extension type {code}")


class RecordPacker:
    """Packs records one after the other; reuses one msgpack packer, so not for several threads."""

    def __init__(self) -> None:
        self._pack_plain = msgpack.Packer(use_bin_type=True).pack
        self._pack = msgpack.Packer(use_bin_type=True, strict_types=True, default=_default).pack

    def pack_all(
        self,
        ids: Sequence[Id],
        texts: Sequence[str | None] | None,
        metadata: Sequence[Metadata | None] | None,
    ) -> list[bytes]:
        """Return the bytes of the records of a call, with errors as those of `pack`."""
        none = [None] * len(ids)
        columns = list(zip(ids, texts or none, metadata or none, strict=True))
        if metadata is None or _plain(metadata):
            pack = self._pack_plain
            with suppress(TypeError, ValueError, OverflowError):
                return [pack(record) for record in columns]
        return [self.pack(row, *record) for row, record in enumerate(columns)]

    def pack(self, row: int, record_id: Id, text: str | None, metadata: Metadata | None) -> bytes:
        """Return the bytes of one record.

        Raises
        ------
        MetadataError
            If the text or a metadata key or value cannot be stored; `row` is its position in
            the call.
        """
        if metadata is not None:
            _check_keys(row, metadata, "metadata", 0)
        try:
            packed: bytes = self._pack([record_id, text, metadata])
        except (TypeError, ValueError, OverflowError) as error:
            _blame(row, text, metadata)
            raise MetadataError(f"row {row}: cannot be stored: {error}") from error
        return packed


def _plain(metadata: Sequence[Metadata | None]) -> bool:
    """Return whether all metadata is flat with str keys, so that no key needs a look."""
    given = [entry for entry in metadata if entry is not None]
    keys = set(map(type, chain.from_iterable(given)))
    values = set(map(type, chain.from_iterable(map(dict.values, given))))
    return keys <= {str} and values <= _LEAVES


def _check_keys(row: int, value: Any, path: str, depth: int) -> None:
    """Raise unless every key of nested dicts is a str and nesting is sane."""
    if depth > MAX_DEPTH:
        raise MetadataError(f"row {row}: {path} is nested more than {MAX_DEPTH} deep")
    keyed = isinstance(value, Mapping)
    for key, inner in value.items() if keyed else enumerate(value):
        if keyed and not isinstance(key, str):
            raise MetadataError(
                f"row {row}: {path} has the key {key!r}; keys must be str, not {type(key).__name__}"
            )
        if type(inner) in _LEAVES:
            continue
        if isinstance(inner, msgpack.ExtType | msgpack.Timestamp):  # would come back as others
            raise MetadataError(_unstorable(row, f"{path}[{key!r}]", inner))
        if isinstance(inner, Mapping | list | tuple):
            _check_keys(row, inner, f"{path}[{key!r}]", depth + 1)


def _blame(row: int, text: str | None, metadata: Metadata | None) -> None:
    """Raise the `MetadataError` that names the value which cannot be packed."""
    if text is not None:
        _try_pack(row, text, "text")
    if metadata is not None:
        _blame_value(row, metadata, "metadata")


def _blame_value(row: int, value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _try_pack(row, key, f"the key {key!a} of {path}")
            _blame_value(row, inner, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            _blame_value(row, inner, f"{path}[{position}]")
    else:
        _try_pack(row, value, path)


def _try_pack(row: int, value: Any, path: str) -> None:
    try:
        msgpack.packb(value, use_bin_type=True, strict_types=True, default=_default)
    except UnicodeEncodeError as error:
        raise MetadataError(f"row {row}: {path} is not valid Unicode: {error.reason}") from error
    except OverflowError as error:
        raise MetadataError(
            f"row {row}: {path} is {value!r}, out of the range {_INT_MIN} to {_INT_MAX}"
        ) from error
    except (TypeError, ValueError) as error:
        raise MetadataError(_unstorable(row, path, value)) from error


def _unstorable(row: int, path: str, value: Any) -> str:
    return (
        f"row {row}: {path} has type {type(value).__name__}, which cannot be stored; use None, "
        "bool, int, float, str, bytes, datetime, or lists and dicts of these"
    )


def pack_ids(ids: Sequence[Id]) -> list[bytes]:
    """Return the bytes of ids: their keys in the id table."""
    pack = msgpack.Packer(use_bin_type=True).pack  # packb would make a packer for each
    return [pack(value) for value in ids]


def unpack_ids(keys: Sequence[bytes | memoryview]) -> list[Id]:
    """Return the ids that `pack_ids` packed."""
    return unpack_joined_ids(b"".join(keys), len(keys))


def unpack_joined_ids(keys: bytes, count: int) -> list[Id]:
    """Return the ids whose keys stand one after another."""
    ids: list[Id] = msgpack.unpackb(_array(keys, count))
    return ids


def _array(packed: bytes, count: int) -> bytes:
    """Return the packed list of packed values: to unpack that is quicker than one by one."""
    return b"\xdd" + count.to_bytes(4, "big") + packed


def unpack_metadata(records: Sequence[bytes]) -> list[Metadata | None]:
    """Return the metadata of packed records; a removed row's record has none."""
    try:
        unpacked = msgpack.unpackb(_array(b"".join(records), len(records)), ext_hook=_ext_hook)
        return [None if record is None else record[2] for record in unpacked]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise CorruptIndexError(f"checksummed records cannot be read: {error}") from error


def unpack_record(data: bytes | memoryview) -> Record:
    """Return the record that `RecordPacker.pack` packed."""
    return Record(*unpack_fields(data))


def unpack_fields(data: bytes | memoryview) -> tuple[Id, str | None, Metadata | None]:
    """Return id, text and metadata of a packed record."""
    try:
        record_id, text, metadata = msgpack.unpackb(data, ext_hook=_ext_hook)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptIndexError(f"a checksummed record cannot be read: {error}") from error
    return record_id, text, metadata
