"""Records of text files, one at a time with their line: JSONL, JSON, CSV and TSV, also gzipped."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from vecindex.errors import InputError
from vecindex.io.records import Columns, Located, Place, no_column

_BOM = b"\xef\xbb\xbf"


def read_jsonl(path: Path, columns: Columns) -> Iterator[Located]:
    """Yield the objects of a JSONL file, blank lines left out.

    Parameters
    ----------
    path : Path
        One JSON object a line, UTF-8.
    columns : Columns
        Its metadata columns must occur somewhere in the file: the file is first read as far as
        the line where the last of them has been seen, usually the first.

    Yields
    ------
    tuple of Place and dict
        The line and its object.

    Raises
    ------
    InputError
        If a line is not an object in JSON, or a metadata column is in no line.
    """
    _require_seen(str(path), _objects(path), columns)
    yield from _objects(path)


def read_json(path: Path, columns: Columns) -> Iterator[Located]:
    """Yield the objects of a JSON file that holds one list of objects.

    The standard library reads JSON documents whole, so the file must fit into memory: prefer
    JSONL for anything large.

    Parameters
    ----------
    path : Path
        A JSON document, UTF-8.
    columns : Columns
        Its metadata columns must occur in at least one object.

    Yields
    ------
    tuple of Place and dict
        The record, counted from 1, and its object.

    Raises
    ------
    InputError
        If the file is not a list of objects, or a metadata column is in none of them.
    """
    document = _parse(str(path), "".join(line for _, line in _lines(path)))
    if not isinstance(document, list):
        raise InputError(f"{path}: expected a list of objects, not {_kind(document)}")
    places = [Place(str(path), "record", number) for number in range(1, len(document) + 1)]
    records = [
        (place, _object(place, value)) for place, value in zip(places, document, strict=True)
    ]
    _require_seen(str(path), iter(records), columns)
    yield from records


def read_csv(path: Path, columns: Columns, delimiter: str = ",") -> Iterator[Located]:
    """Yield the records of a CSV file with a header row; every value is a string.

    Parameters
    ----------
    path : Path
        UTF-8, quoted as the `csv` module's `excel` dialect does.
    columns : Columns
        All its columns must be in the header.
    delimiter : str
        What separates fields.

    Yields
    ------
    tuple of Place and dict
        The line where the record begins, and its values by column.

    Raises
    ------
    InputError
        If a column is not in the header or twice, or a record has more or fewer fields.
    """
    records = _csv_records(path, delimiter)
    _, header = next(records, (0, []))
    _check_header(path, header, columns)
    for line, values in records:
        place = Place(str(path), "line", line)
        if len(values) != len(header):
            raise InputError(f"{place}: {len(values)} fields, but the header has {len(header)}")
        yield place, dict(zip(header, values, strict=True))


def csv_header(path: Path, delimiter: str) -> list[str]:
    """Return the header row of a CSV file, empty if the file is."""
    _, header = next(_csv_records(path, delimiter), (0, []))
    return header


def _csv_records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the records with the line where each begins, empty lines left out."""
    reader = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{path}, line {line}: not CSV: {error}") from error
        if values is None:
            return
        if values:
            yield line, values


def _check_header(path: Path, header: list[str], columns: Columns) -> None:
    if not header:
        raise InputError(f"{path}: empty; expected a header row")
    asked = [*columns.required, *columns.metadata_sources]
    if missing := [name for name in asked if name not in header]:
        raise no_column(str(path), missing, header)
    if twice := [name for name in asked if header.count(name) > 1]:
        raise InputError(f"{path}: column {twice[0]!r} is in the header more than once")


def _objects(path: Path) -> Iterator[Located]:
    for number, line in _lines(path):
        if line and not line.isspace():
            place = Place(str(path), "line", number)
            yield place, _object(place, _parse(str(place), line))


def _require_seen(source: str, records: Iterator[Located], columns: Columns) -> None:
    """Check that each metadata column is in some record, reading no further than needed."""
    missing = dict.fromkeys(columns.metadata_sources)
    there: dict[str, None] = {}
    for _, record in records if missing else ():
        there |= dict.fromkeys(record)
        missing = {name: None for name in missing if name not in record}
        if not missing:
            return
    if missing and there:
        raise no_column(source, missing, there)


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from error


def _object(place: Place, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise InputError(f"{place}: expected a JSON object, not {_kind(value)}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), "a number" if type(value) is not bool else "true or false")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file counted from 1, newlines kept, a byte order mark dropped."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                yield number, (line.removeprefix(_BOM) if number == 1 else line).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: not UTF-8: {error}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}, after line {number}: not gzip: {error}") from error


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")
