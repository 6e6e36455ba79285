"""sqlite-vec: exact search inside SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlite_vec

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector

if not hasattr(sqlite3.Connection, "enable_load_extension"):  # some builds of Python leave it out
    import pysqlite3.dbapi2 as sqlite3

_TABLE = """create virtual table rows using vec0(
    id text primary key, v float[{dim}] distance_metric=cosine,
    n integer, kind text, u float, +body text)"""
_SEARCH = "select id, body from rows where v match ? and k = ?"


class SqliteVecStore(Store):
    """One table: vectors, metadata columns that filter during the scan, texts as auxiliary columns."""

    packages = ("sqlite-vec",)
    note = f"vec0 table, exact scan, SQLite {sqlite3.sqlite_version}"
    durability = "one transaction a batch, journal_mode=WAL, synchronous=FULL"
    queries = 100
    filtered_queries = 50

    def _connect(self, folder: Path) -> Any:
        connection = sqlite3.connect(str(folder / "rows.db"))
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        connection.enable_load_extension(False)
        return connection

    def create(self, folder: Path, dim: int) -> None:
        """A write-ahead log, synced at each commit."""
        self.database: Any = self._connect(folder)
        self.database.execute("pragma journal_mode = wal")
        self.database.execute("pragma synchronous = full")
        self.database.execute(_TABLE.format(dim=dim))

    def add(self, batch: Batch) -> None:
        """One transaction."""
        columns = zip(batch.ids, batch.vectors, batch.metadata, batch.texts, strict=True)
        lines = [(i, v, m["n"], m["kind"], m["u"], text) for i, v, m, text in columns]
        with self.database:
            self.database.executemany(
                "insert into rows(id, v, n, kind, u, body) values (?, ?, ?, ?, ?, ?)", lines
            )

    def build(self) -> None:
        """Nothing but the log's end."""
        self.database.execute("pragma wal_checkpoint(truncate)")

    def open(self, folder: Path) -> None:
        """Connect."""
        self.database = self._connect(folder)

    def close(self) -> None:
        """Disconnect."""
        self.database.close()

    def settings(self) -> list[Setting]:
        """There is only one."""
        return [Setting("exact", filtered=True)]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """One statement."""
        database = self.database
        statement = _SEARCH if below is None else f"{_SEARCH} and u < ?"
        more = () if below is None else (below,)

        def ask(vector: Vector) -> Answer:
            lines = database.execute(statement, (vector, K, *more)).fetchall()
            return [line[0] for line in lines], [line[1] for line in lines]

        return ask
