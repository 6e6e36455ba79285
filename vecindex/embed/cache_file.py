"""The file of an embedding cache: vectors by model and digest in SQLite, for many processes.

SQLite keeps the file whole when a process is killed, and lets processes take turns. What it does
not notice is a changed byte in a stored value, so each row has a checksum of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.checksum import crc32
from vecindex.embed.fingerprint import Fingerprint, check_same
from vecindex.errors import EmbedderMismatchError, InputError

NAME = "embeddings-1.sqlite3"
"""The file's name; another layout of its tables would get another number."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS models (
    model INTEGER PRIMARY KEY, name BLOB, revision BLOB, dim INTEGER, prompts BLOB, canaries BLOB
);
CREATE TABLE IF NOT EXISTS vectors (
    model INTEGER, digest BLOB, used INTEGER, crc INTEGER, vector BLOB, UNIQUE (model, digest)
);
CREATE INDEX IF NOT EXISTS vectors_used ON vectors (used);
"""
_PAGE_BYTES = 8192  # holds five rows of dimension 384, or two of 768, with little waste
_BUSY_S = 30  # how long to wait for other processes before doing without the cache
_ASKED = 500  # digests in one query; SQLite's limit was 999 for long
_FRESH_S = 3600  # a row used within this time is not marked again: reading then writes nothing
_EVICTED = 10  # one row in so many goes when there is no room
_SAME_LENGTH = 0.01  # relative; a model that began to normalize is another one
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_OF_PARENTS: list[sqlite3.Connection] = []  # never closed here: SQLite forbids that after a fork

T = TypeVar("T")


class CacheFile:
    """Vectors that were computed before, in one SQLite file within a directory.

    Parameters
    ----------
    directory : Path
        Made when it is first needed.
    max_bytes : int
        Bytes of all rows above which those not used for longest are removed.

    Raises
    ------
    InputError
        If `directory` is a file, or `max_bytes` is not positive.

    Notes
    -----
    Never raises after that: a file that cannot be used is warned of once, and from then on
    nothing is found and nothing kept. A damaged file is renamed and begun anew. Safe for several
    threads, for several processes on one machine, and after a fork.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        if directory.exists() and not directory.is_dir():
            raise InputError(f"the embedding cache is a directory, but {directory} is a file")
        if max_bytes < 1:
            raise InputError(f"max_bytes must be at least 1, not {max_bytes}")
        self.path = directory / NAME
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] = (0, 0)  # process and inode of the connection
        self._given_up = False

    def model(self, fingerprint: Fingerprint) -> int:
        """Return the number under which a model's vectors are kept; a new one for a new model."""
        # Random, so that no other model can come to have it, even in a file begun anew.
        fresh = secrets.randbits(62)
        return self._run(lambda db: _model(db, fingerprint, fresh), fresh)

    def get(self, model: int, digests: Sequence[bytes], dim: int) -> dict[bytes, Float32Array]:
        """Return the vectors, of shape (dim,), of those digests that are known."""
        return self._run(lambda db: _get(db, model, digests, dim), {})

    def put(self, model: int, digests: Sequence[bytes], vectors: Float32Array) -> None:
        """Keep vectors, one for each digest, and make room for them."""
        self._run(lambda db: _put(db, model, digests, vectors, self._max_bytes), None)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            if self._connection is not None and self._opened[0] == os.getpid():
                self._connection.close()
            self._connection = None

    def _run(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return what `work` does with the file, or `otherwise` if the file cannot be used."""
        with self._lock:
            for _ in range(2):
                if self._given_up:
                    break
                try:
                    return work(self._connected())
                except sqlite3.DatabaseError as error:
                    self._after(error)
                except OSError as error:
                    self._give_up(error)
        return otherwise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._opened[0] != os.getpid():
            _OF_PARENTS.append(self._connection)
            self._connection = None
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(self.path)
            self._opened = (os.getpid(), _inode(self.path))
        return self._connection

    def _after(self, error: sqlite3.DatabaseError) -> None:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None or code & 0xFF not in _DAMAGED:
            self._give_up(error)
            return
        seen = self._opened[1] if self._connection is not None else _inode(self.path)
        self.close()
        try:
            if _inode(self.path) == seen:  # otherwise another process has done so already
                self._set_aside(error)
        except OSError as failure:
            self._give_up(failure)

    def _set_aside(self, error: Exception) -> None:
        aside = self.path.with_name(NAME + ".damaged")
        for ending in ("-wal", "-shm"):
            self.path.with_name(NAME + ending).unlink(missing_ok=True)
        self.path.replace(aside)
        _warn(f"the embedding cache {self.path} was damaged ({error}); begun anew, see {aside}")

    def _give_up(self, error: Exception) -> None:
        self._given_up = True
        with suppress(sqlite3.Error):
            self.close()
        self._connection = None
        _warn(f"going on without the embedding cache {self.path}: {error}")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, _BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.text_factory = bytes  # a damaged value may be no text
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        _switch_to_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")  # whole after a crash; the last rows may be gone
        with _Transaction(db):
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
    except BaseException:
        db.close()
        raise
    return db


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Let readers and a writer work at the same time; waits, which SQLite does not do here."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


class _Transaction:
    """Takes the file's only write lock at once, so that no transaction can fail halfway."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            with suppress(sqlite3.Error):  # the first error is the one to tell
                self._db.execute("ROLLBACK")


def _model(db: sqlite3.Connection, fingerprint: Fingerprint, fresh: int) -> int:
    name, revision = fingerprint.name.encode(), (fingerprint.revision or "").encode()
    prompts = json.dumps(fingerprint.prompts, sort_keys=True).encode()
    key = (name, revision, fingerprint.dim, prompts)
    with _Transaction(db):
        known = db.execute(
            "SELECT model, canaries FROM models"
            " WHERE name = ? AND revision = ? AND dim = ? AND prompts = ?",
            key,
        ).fetchall()
        for model, canaries in known:
            if _same(fingerprint, canaries):
                return int(model)
        canaries = fingerprint.canaries.astype("<f4").tobytes()
        db.execute("INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)", (fresh, *key, canaries))
    return fresh


def _same(fingerprint: Fingerprint, canaries: object) -> bool:
    """Return whether stored canaries are this model's, apart from the noise of another run."""
    size = fingerprint.canaries.size * 4
    if not isinstance(canaries, bytes) or len(canaries) != size:
        return False
    rows = np.frombuffer(canaries, "<f4").reshape(fingerprint.canaries.shape)
    stored = Fingerprint(
        fingerprint.name, fingerprint.revision, fingerprint.dim, fingerprint.prompts, rows
    )
    try:
        check_same(stored, fingerprint)
    except EmbedderMismatchError:
        return False
    before, now = (np.linalg.norm(each.canaries, axis=1) for each in (stored, fingerprint))
    return bool(np.allclose(now, before, rtol=_SAME_LENGTH))


def _get(
    db: sqlite3.Connection, model: int, digests: Sequence[bytes], dim: int
) -> dict[bytes, Float32Array]:
    found: dict[bytes, Float32Array] = {}
    idle = []
    now = int(time.time())
    for start in range(0, len(digests), _ASKED):
        asked = digests[start : start + _ASKED]
        marks = ",".join("?" * len(asked))
        rows = db.execute(
            "SELECT rowid, digest, used, crc, vector FROM vectors"
            f" WHERE model = ? AND digest IN ({marks})",
            (model, *asked),
        )
        for rowid, digest, used, crc, vector in rows:
            if isinstance(vector, bytes) and len(vector) == 4 * dim:
                if _checksum(model, digest, vector) != crc:
                    continue
                found[digest] = np.frombuffer(vector, "<f4")
                if not isinstance(used, int) or abs(now - used) > _FRESH_S:
                    idle.append((now, rowid))
    if idle:
        with _Transaction(db):
            db.executemany("UPDATE vectors SET used = ? WHERE rowid = ?", idle)
    return found


def _put(
    db: sqlite3.Connection,
    model: int,
    digests: Sequence[bytes],
    vectors: Float32Array,
    max_bytes: int,
) -> None:
    now = int(time.time())
    values = [row.tobytes() for row in vectors.astype("<f4", copy=False)]
    rows = [
        (model, digest, now, _checksum(model, digest, value), value)
        for digest, value in zip(digests, values, strict=True)
    ]
    with _Transaction(db):
        # What is there is damaged, or was put in by another process meanwhile.
        db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)", rows)
        while _size(db) > max_bytes and (count := _count(db)):
            db.execute(
                "DELETE FROM vectors WHERE rowid IN"
                " (SELECT rowid FROM vectors ORDER BY used, rowid LIMIT ?)",
                (max(1, count // _EVICTED),),
            )


def _checksum(model: int, digest: bytes, vector: bytes) -> int:
    return crc32(vector, crc32(digest, model & 0xFFFFFFFF))


def _size(db: sqlite3.Connection) -> int:
    """Return the bytes of the pages in use; free ones are used again before the file grows."""
    ((pages,),) = db.execute("PRAGMA page_count")
    ((free,),) = db.execute("PRAGMA freelist_count")
    return int(pages - free) * _PAGE_BYTES


def _count(db: sqlite3.Connection) -> int:
    ((count,),) = db.execute("SELECT count(*) FROM vectors")
    return int(count)
