"""What else is fuzzed: files of others, notes of ours beside an index, and filters."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import typer

from vecindex import VectorIndex, io
from vecindex import filters as grammar
from vecindex.ann import interchange as faiss_reader
from vecindex.bench.report import FORMAT, BenchReport
from vecindex.build import options as build_options
from vecindex.build.options import Settled
from vecindex.cli.options import json_object
from vecindex.embed import cache_file, fingerprint, word_files
from vecindex.errors import CorruptIndexError, EmbedderError, FilterError, InputError
from vecindex.store.files import Directory

from . import hostile

GOLDEN = Path(__file__).parents[1] / "golden"

Attempt = Callable[[bytes], str]


def interchange(work: Path) -> Attempt:
    """FAISS files: the vectors are those of the file."""

    def attempt(data: bytes) -> str:
        path = work / "x.faiss"
        path.write_bytes(data)
        try:
            located = faiss_reader.locate(path)
            rows = [row for batch in located.batches(7) for row in batch]
        except (InputError, CorruptIndexError) as error:
            return type(error).__name__
        assert len(rows) == len(located)
        assert all(row.tobytes() in data for row in rows)
        assert located.labels is None or len(located.labels) == len(rows)
        return "answered"

    return attempt


def interchange_seeds() -> list[bytes]:
    rows = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(4), 4, 2)
    lists.train(rows)
    made = [faiss.IndexFlatIP(4), faiss.IndexFlatL2(4), faiss.IndexHNSWFlat(4, 3), lists]
    for index in made:
        index.add(rows)
    numbered = faiss.IndexIDMap2(faiss.IndexFlatIP(4))
    numbered.add_with_ids(rows, np.arange(12) * 1000)
    return [faiss.serialize_index(index).tobytes() for index in (*made, numbered)]


def words(work: Path) -> Attempt:
    """Word vectors."""

    def attempt(data: bytes) -> str:
        path = work / "words"
        path.write_bytes(data)
        try:
            table = word_files.read_words(path)
        except EmbedderError:
            return "refused"
        assert len(table.rows) == len(table.vectors) > 0
        assert sorted(table.rows.values()) == list(range(len(table.vectors)))
        assert np.isfinite(table.vectors).all()
        return "answered"

    return attempt


def words_seeds() -> list[bytes]:
    rows = np.arange(6, dtype="<f4").reshape(3, 2)
    text = b"the 0 1\nof 2 3\n. . 4 5\n"
    binary = b"".join(b"w%d " % number + row.tobytes() + b"\n" for number, row in enumerate(rows))
    return [text, b"3 2\n" + text, b"3 2\n" + binary, gzip.compress(text, mtime=0)]


_DIGESTS = [bytes([number]) * 32 for number in range(5)]
_MODEL = fingerprint.Fingerprint("st:a/b", None, 8, {}, np.eye(3, 8, dtype=np.float32))


def cache(work: Path) -> Attempt:
    """Embedding caches: never an error, at most a warning."""

    def attempt(data: bytes) -> str:
        for file in work.iterdir():
            file.unlink()
        (work / cache_file.NAME).write_bytes(data)
        cache = cache_file.CacheFile(work, 1 << 20)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = cache.get(cache.model(_MODEL), _DIGESTS, 8)
            cache.put(1, _DIGESTS[:2], np.eye(2, 8, dtype=np.float32))
            cache.close()
        assert set(found) <= set(_DIGESTS)
        assert all(row.shape == (8,) and row.dtype == np.float32 for row in found.values())
        assert all(warning.category is RuntimeWarning for warning in told)
        return "answered" if found else "refused" if told else "empty"

    return attempt


def cache_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        cache = cache_file.CacheFile(Path(name), 1 << 20)
        model = cache.model(_MODEL)
        cache.put(model, _DIGESTS, np.eye(5, 8, dtype=np.float32))
        cache.close()
        return [(Path(name) / cache_file.NAME).read_bytes()]


_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".npy")


def sources(work: Path) -> Attempt:
    """Sources of records, with and without leaving out what is bad."""

    def attempt(data: bytes) -> str:
        suffix = _SUFFIXES[data[0] % len(_SUFFIXES)] if data else ".csv"
        path = work / f"x{suffix}"
        path.write_bytes(data[1:])
        skipped = io.Skipped()
        try:
            some = sum(len(batch) for batch in io.read_batches(path, skip_bad=skipped))
        except InputError:
            some = -1
        try:
            every = sum(len(batch) for batch in io.read_batches(path))
        except InputError:
            return "refused"
        assert some == every, "what is read whole is read without skipping"
        return "answered"

    return attempt


def sources_seeds() -> list[bytes]:
    objects = [{"id": "a", "text": "one", "n": 1}, {"id": "b", "text": None, "vector": [1, 0.5]}]
    lines = "".join(json.dumps(value) + "\n" for value in objects).encode()
    array = hostile.saved(np.eye(3, 4, dtype=np.float32))
    contents = [
        lines, json.dumps(objects).encode(), b'id,text\na,"x, ""y"""\nb,\n', b"id\ttext\n1\tx\n",
        gzip.compress(lines, mtime=0), array,
    ]  # fmt: skip
    return [bytes([number]) + content for number, content in enumerate(contents)]


def notes(work: Path) -> Attempt:
    """What a build notes beside its index, and the report of an earlier bench."""
    settled = Settled("column", 128, 16)

    def attempt(data: bytes) -> str:
        (work / build_options.NAME).write_bytes(data)
        outcome = "refused"
        with suppress(InputError, CorruptIndexError):
            settled.check(Directory(work), 1)
            settled.keep(Directory(work))
            outcome = "answered"
        with suppress(InputError):
            BenchReport.from_json(data.decode(errors="replace"))
            outcome = "answered"
        return outcome

    return attempt


def notes_seeds() -> list[bytes]:
    report = {"format": FORMAT, "facts": {}, "rows": [], "conditions": []}
    settled = {"ids": "column", "chunk": 128, "overlap": 16}
    return [json.dumps(value).encode() for value in (report, settled)] + [b"[" * 9000]


def where(work: Path) -> Attempt:
    """Filters: columns and records must agree."""
    path = Path(shutil.copytree(GOLDEN / "full-1", work / "full-1"))
    index = VectorIndex.open(path)
    metadata = [record.metadata for record in index.scan()]

    def attempt(data: bytes) -> str:
        try:
            where = json_object(data.decode(errors="replace"))
            parsed = grammar.parse(where)
            found = index.count(where)
        except (FilterError, typer.BadParameter):
            return "refused"
        assert found == sum(map(parsed.matches, metadata)), "columns and records disagree"
        return "answered"

    return attempt


def where_seeds() -> list[bytes]:
    some: list[dict[str, Any]] = [
        {"n": 3}, {"n": {"$gt": 2, "$lte": 30}}, {"in.tags": {"$contains": "a"}}, {"at": None},
        {"$or": [{"n": {"$in": [1, 2.0, "x"]}}, {"$not": {"in.tags": {"$exists": True}}}]},
        {"in": {"tags": ["a", 5]}}, {"n": {"$nin": []}, "at": {"$gte": "2020-01-05"}}, {},
        {"$and": [{"n": {"$ne": 1}}, {"n": {"$not": {"$lt": 7}}}]},
    ]  # fmt: skip
    return [json.dumps(where).encode() for where in some]


def mutate_json(data: bytes, choose: random.Random) -> bytes:
    return json.dumps(hostile.mutate_value(json.loads(data), choose), default=str).encode()
