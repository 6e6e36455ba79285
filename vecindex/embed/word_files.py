"""Files of word vectors: GloVe, word2vec in text and binary form, fastText's `.vec`."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import EmbedderError

_BLOCK = 1 << 20  # bytes of a binary file read at a time
_SAMPLE = 4096  # bytes that tell text from binary
_LONGEST = 1 << 20  # bytes; what is longer is no line of a text file, and no word of a binary one
_DIGITS = 18  # more are no number of words or dimensions, and no 64-bit integer
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r"))  # never in text, sure to be among float32 numbers

Entry: TypeAlias = tuple[bytes, Float32Array]


@dataclass(frozen=True)
class WordTable:
    """The words of a file and their vectors.

    Parameters
    ----------
    rows : dict of str to int
        Where the vector of a word stands; of a word that comes twice, the first.
    vectors : ndarray of float32, shape (n, dim)
        As they are in the file, not normalized.
    """

    rows: dict[str, int]
    vectors: Float32Array


@dataclass(frozen=True)
class _Header:
    """What the first line of a file announces."""

    count: int
    dim: int


def read_words(path: Path) -> WordTable:
    """Return the words of a file and their vectors, whichever of the formats it has.

    Parameters
    ----------
    path : Path
        A GloVe or fastText file, or a word2vec file in text or binary form; may be gzipped. The
        content decides, not the name.

    Returns
    -------
    WordTable
        Bytes of a word that are not UTF-8 are replaced by U+FFFD.

    Raises
    ------
    EmbedderError
        If the file cannot be read, is none of these, or is damaged; the message names the line,
        in a binary file the word.

    Notes
    -----
    Takes 4 bytes a number, and a `dict` of the words, in memory.

    References
    ----------
    GloVe has a line `word number ... number` for each word. word2vec and fastText put a line
    `count dimension` before. word2vec's binary form follows each word and a space by the numbers
    as little-endian float32, and may put a line's end before the next word.
    """
    try:
        with _opened(path) as file:
            header = _header(file.readline(_LONGEST))
            sample = file.read(_SAMPLE)
        with _opened(path) as file:
            if header is None:
                return _table(_text_entries(file, path, None), path, None)
            file.readline()
            if any(sign in _CONTROL for sign in sample):
                return _table(_binary_entries(file, path, header), path, header)
            return _table(_text_entries(file, path, header), path, header)
    except (OSError, EOFError, zlib.error) as error:  # the last two are of damaged gzip files
        raise EmbedderError(f"cannot read the word vectors {str(path)!r}: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    with path.open("rb") as plain:
        if plain.peek(2)[:2] != b"\x1f\x8b":
            yield plain
            return
        with gzip.open(plain) as unpacked:
            yield unpacked


def _header(line: bytes) -> _Header | None:
    fields = line.split()
    if len(fields) == 2 and all(field.isdigit() and len(field) <= _DIGITS for field in fields):
        return _Header(int(fields[0]), int(fields[1]))
    return None


def _table(entries: Iterator[Entry], path: Path, header: _Header | None) -> WordTable:
    rows: dict[str, int] = {}
    buffer = bytearray()  # grows in place; a list of rows would be held twice at the end
    count, dim = 0, 0
    for word, vector in entries:
        count, dim = count + 1, len(vector)
        text = word.decode("utf-8", errors="replace")
        if text not in rows:
            rows[text] = len(rows)
            buffer += vector.astype("<f4", copy=False).tobytes()
    if header is not None and count != header.count:
        raise EmbedderError(
            f"{str(path)!r} announces {header.count} words in line 1, but holds {count}"
        )
    if not rows:
        raise EmbedderError(f"{str(path)!r} holds no word vectors")
    return WordTable(rows, np.frombuffer(buffer, dtype="<f4").reshape(-1, dim))


def _text_entries(file: BufferedIOBase, path: Path, header: _Header | None) -> Iterator[Entry]:
    dim = header.dim if header else None
    for number, line in enumerate(
        iter(lambda: file.readline(_LONGEST), b""), start=1 + bool(header)
    ):
        stripped = line.rstrip()
        if not stripped:
            continue
        if dim is None:
            dim = stripped.count(b" ")
        place = f"{str(path)!r}, line {number}"
        word, *fields = stripped.rsplit(b" ", dim)
        # Some words hold spaces (". . ."); a number at the end of one is a number too many.
        if len(fields) != dim or not dim or (b" " in word and _numbers(word.split(b" ")[-1:])):
            raise EmbedderError(
                f"{place}: expected a word and {dim or 'its'} numbers, found "
                f"{stripped.count(b' ')} after the first word"
            )
        vector = _numbers(fields)
        if vector is None:
            raise EmbedderError(f"{place}: the word {_shown(word)} has something else than numbers")
        yield word, _finite(vector, f"{place}: the word {_shown(word)}")


def _binary_entries(file: BufferedIOBase, path: Path, header: _Header) -> Iterator[Entry]:
    size = 4 * header.dim
    buffer, at = b"", 0
    for number in range(1, header.count + 1):
        place = f"{str(path)!r}, word {number} of {header.count}"
        while (end := buffer.find(b" ", at)) < 0 or len(buffer) < end + 1 + size:
            more = file.read(_BLOCK)
            if not more or (end < 0 and len(buffer) - at > _LONGEST):
                raise EmbedderError(f"{place}: the file ends too early, or is damaged before")
            buffer, at = buffer[at:] + more, 0
        word = buffer[at:end].lstrip(b"\n")
        if not word or any(sign in _CONTROL for sign in word):
            raise EmbedderError(
                f"{place}: {_shown(word)} is no word; line 1 says {header.dim} dimensions"
            )
        at = end + 1 + size
        vector = np.frombuffer(buffer[end + 1 : at], dtype="<f4")
        yield word, _finite(vector, f"{place}, {_shown(word)}")
    if (buffer[at:] + file.read(1)).strip(b"\n"):
        raise EmbedderError(
            f"{str(path)!r} announces {header.count} words in line 1, but holds more"
        )


def _numbers(fields: list[bytes]) -> Any:
    """Return fields as float32, None if one is not a number."""
    try:
        with np.errstate(over="ignore"):  # an overflow to infinity is reported by its place
            return np.array(fields, dtype=np.float32)
    except ValueError:
        return None


def _finite(vector: Float32Array, place: str) -> Float32Array:
    if not np.isfinite(vector).all():
        raise EmbedderError(f"{place} has NaN or an infinity among its numbers")
    return vector


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("utf-8", errors="replace"))
