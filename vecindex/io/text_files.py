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
from vecindex.io.columns import Columns
from vecindex.io.records import Bad, Located, refuse, require_seen
from vecindex.io.values import Place

_BOM = b"\xef\xbb\xbf"
_FIELD = 1 << 26  # characters of a field: a quote that is never closed must not fill the memory


def read_jsonl(path: Path, columns: Columns, bad: Bad = refuse) -> Iterator[Located]:
    """Yield the objects of a JSONL file, blank lines left out.

    Parameters
    ----------
    path : Path
        One JSON object a line, UTF-8.
    columns : Columns
        Its metadata columns must occur somewhere in the file: the file is first read as far as
        the line where the last of them has been seen, usually the first.
    bad : callable
        Told of each line that is not an object in JSON.

    Yields
    ------
    tuple of Place and dict
        The line and its object.

    Raises
    ------
    InputError
        If a metadata column is in no line.
    """
    if columns.metadata_sources:
        require_seen(str(path), _objects(path, _pass_over), columns)
    yield from _objects(path, bad)


def read_json(path: Path, columns: Columns, bad: Bad = refuse) -> Iterator[Located]:
    """Yield the objects of a JSON file that holds one list of objects.

    The standard library reads JSON documents whole, so the file must fit into memory: prefer
    JSONL for anything large.

    Parameters
    ----------
    path : Path
        A JSON document, UTF-8.
    columns : Columns
        Its metadata columns must occur in at least one object.
    bad : callable
        Told of each entry that is not an object.

    Yields
    ------
    tuple of Place and dict
        The record, counted from 1, and its object.

    Raises
    ------
    InputError
        If the file is not a list, or a metadata column is in none of its objects.
    """
    document = _parse(str(path), "".join(line for _, line in _lines(path, refuse)))
    if not isinstance(document, list):
        raise InputError(f"{path}: expected a list of objects, not {_kind(document)}")
    records: list[Located] = []
    for number, value in enumerate(document, 1):
        place = Place(str(path), "record", number)
        if isinstance(value, dict):
            records.append((place, value))
        else:
            bad(_no_object(place, value))
    require_seen(str(path), records, columns)
    yield from records


def read_csv(
    path: Path, columns: Columns, delimiter: str = ",", bad: Bad = refuse
) -> Iterator[Located]:
    """Yield the records of a CSV file with a header row; every value is a string.

    Parameters
    ----------
    path : Path
        UTF-8, quoted as the `csv` module's `excel` dialect does.
    columns : Columns
        All its columns must be in the header.
    delimiter : str
        What separates fields.
    bad : callable
        Told of each record that cannot be read, or has more or fewer fields than the header.

    Yields
    ------
    tuple of Place and dict
        The line where the record begins, and its values by column.

    Raises
    ------
    InputError
        If a column is not in the header or twice.
    """
    header = csv_header(path, delimiter)
    if not header:
        raise InputError(f"{path}: empty; expected a header row")
    columns.asked(header, str(path))
    records = _csv_records(path, delimiter, bad)
    next(records)
    for line, values in records:
        place = Place(str(path), "line", line)
        if len(values) == len(header):
            yield place, dict(zip(header, values, strict=True))
        else:
            bad(InputError(f"{place}: {len(values)} fields, but the header has {len(header)}"))


def csv_header(path: Path, delimiter: str) -> list[str]:
    """Return the header row of a CSV file, empty if the file is."""
    _, header = next(_csv_records(path, delimiter, refuse), (0, []))
    return header


def first_object(path: Path) -> dict[str, Any]:
    """Return the first object of a JSONL file, an empty one if there is none."""
    return dict(next((record for _, record in _objects(path, _pass_over)), {}))


def _csv_records(path: Path, delimiter: str, bad: Bad) -> Iterator[tuple[int, list[str]]]:
    """Yield the records with the line where each begins, empty lines left out."""
    begin = 0

    def lines() -> Iterator[str]:
        """Yield the lines, keeping the number of the first of each record."""
        nonlocal begin
        for number, line in _lines(path, bad):
            begin = begin or number
            yield line

    # The module's limit of 131,072 characters is less than a long text has; it is raised only.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD))
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        begin = 0
        try:
            values = next(reader, None)
        except csv.Error as error:
            bad(InputError(f"{path}, line {begin}: not CSV: {error}"))
            continue
        if values is None:
            return
        if values:
            yield begin, values


def _objects(path: Path, bad: Bad) -> Iterator[Located]:
    for number, line in _lines(path, bad):
        if not line or line.isspace():
            continue
        place = Place(str(path), "line", number)
        try:
            value = _parse(str(place), line)
        except InputError as error:
            bad(error)
            continue
        if isinstance(value, dict):
            yield place, value
        else:
            bad(_no_object(place, value))


def _pass_over(_error: InputError) -> None:
    """Leave a bad line to the reading that follows, which names it."""


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from error


def _no_object(place: Place, value: Any) -> InputError:
    return InputError(f"{place}: expected a JSON object, not {_kind(value)}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), "a number" if type(value) is not bool else "true or false")


def _lines(path: Path, bad: Bad) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file counted from 1, newlines kept, a byte order mark dropped."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                try:
                    text = (line.removeprefix(_BOM) if number == 1 else line).decode()
                except UnicodeDecodeError as error:
                    bad(InputError(f"{path}, line {number}: not UTF-8: {error}"))
                else:
                    yield number, text
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}, after line {number}: not gzip: {error}") from error


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")
