"""`VectorIndex` beside a dict: whatever is done in whatever order, both answer the same.

The rows come from a pool in which two scores of one query are either equal to the last bit
(duplicates, and unit vectors of halves and ones, whose products are exact in float32) or further
apart than rounding. So ids must come back in exactly the model's order, ties by insertion.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from vecindex import FlatSpec, HnswSpec, IvfSpec, VectorIndex
from vecindex.errors import DuplicateIdError, UnknownIdError, VectorValueError
from vecindex.index import maintenance

DIM = 8
EXACT = 1e-6  # how near a score must be to the model's


def _pool() -> np.ndarray:
    """Return unit rows: the axes and their opposites, vectors of four halves, and random ones."""
    axes = np.concatenate([np.eye(DIM), -np.eye(DIM)])
    halves = np.zeros((6, DIM))
    for number, row in enumerate(halves):
        row[[number % 4, (number + 1) % 4, number % 3 + 4, 7]] = 0.5 * (-1) ** number
    random = np.random.default_rng(0).normal(size=(26, DIM))
    rows = np.concatenate([axes, halves, random / np.linalg.norm(random, axis=1)[:, None]])
    return rows.astype(np.float32)


POOL = _pool()
SCORES = POOL.astype(np.float64) @ POOL.astype(np.float64).T

int_ids = st.integers(-3, 9) | st.sampled_from([2**40, -(2**63), 7_000])
str_ids = st.sampled_from(["0", "1", "2", "a", "b", "c", "é", "", "long id " * 20])
some_ids = st.lists(int_ids | str_ids, min_size=1, max_size=6, unique_by=lambda i: (type(i), i))
metadata = st.none() | st.fixed_dictionaries(
    {"group": st.integers(0, 2)}, optional={"n": st.integers(0, 9), "tags": st.just(["x", None])}
)
rows = st.tuples(
    st.integers(0, len(POOL) - 1), st.none() | st.sampled_from(["", "a text", "ü"]), metadata
)
filters = st.sampled_from(
    [
        {"group": 0},
        {"group": {"$in": [1, 2]}},
        {"n": {"$gte": 5}},
        {"$not": {"group": 1}},
        {"group": 77},
        {},
    ]
)
specs = st.sampled_from(
    ["flat", "auto", "hnsw", "ivf", FlatSpec(), HnswSpec(m=4, ef_construction=8), IvfSpec(nlist=3)]
)


def keeps(where: dict[str, Any], found: dict[str, Any] | None) -> bool:
    """Return what the filters above mean."""
    have = found or {}
    if "$not" in where:
        return have.get("group") != 1
    if "n" in where:
        return have.get("n", -1) >= 5
    wanted = where.get("group")
    if isinstance(wanted, dict):
        return have.get("group") in wanted["$in"]
    return wanted is None or have.get("group") == wanted


@dataclass(frozen=True)
class Row:
    """What the model knows of one id."""

    vector: int  # number in the pool
    text: str | None
    metadata: dict[str, Any] | None


Model = dict[Any, Row]  # in insertion order; an upsert moves its rows to the end


def best(model: Model, query: int, where: dict[str, Any] | None) -> list[tuple[Any, float]]:
    """Return all ids and scores, best first, ties by insertion order."""
    found = [
        (record_id, float(SCORES[query, row.vector]))
        for record_id, row in model.items()
        if where is None or keeps(where, row.metadata)
    ]
    return sorted(found, key=lambda pair: -round(pair[1], 6))  # stable


def test_scores_of_the_pool_are_equal_or_well_apart() -> None:
    for row in SCORES:
        gaps = np.diff(np.sort(row))
        assert ((gaps == 0) | (gaps > 10 * EXACT)).all()


class IndexMachine(RuleBasedStateMachine):
    """Two handles, a writer's and a reader's, and what each of them must show."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.root = Path(tempfile.mkdtemp(prefix="vecindex-"))
        self.model: Model = {}
        self.fresh: set[Any] = set()  # put since the last fold by hand: searched exactly
        self.used: set[Any] = set()
        self.options: dict[str, Any] = {}
        self.steps = 0

    @initialize(
        spec=specs,
        dim=st.sampled_from([None, DIM]),
        durability=st.sampled_from(["os", "os", "sync"]),
        background=st.sampled_from([False, False, False, True]),
        seal_after=st.sampled_from([1, 3, 4096]),  # operations
        start=st.sampled_from([60, 90, 12, 1, 0]),
        folded=st.booleans(),
        promise=st.sampled_from([0.3, 0.3, 0.95]),  # a low one uses the structure on few rows, too
    )
    def create(
        self,
        spec: Any,
        dim: int | None,
        durability: str,
        background: bool,
        seal_after: int,
        start: int,
        folded: bool,
        promise: float,
    ) -> None:
        for call in ("fsync", "fdatasync"):  # nothing here depends on the disk itself
            self.patch.setattr(os, call, lambda fd: None)
        self.patch.setattr(maintenance, "_SEAL_OPERATIONS", seal_after)
        if seal_after < 10:
            self.patch.setattr(maintenance, "_SEAL_BYTES", 4096)
            self.patch.setattr(maintenance, "_MERGE_FACTOR", 4)
            self.patch.setattr(maintenance, "_FIRST_ROWS", 8)
            self.patch.setattr(maintenance, "_LEAST_ROWS", 4)
        self.options = {
            "durability": durability,
            "maintenance": "background" if background else "manual",
        }
        self.index = VectorIndex.create(
            self.root / "x.vx", dim=dim, spec=spec, target_recall=promise, **self.options
        )
        self.reader = VectorIndex.open(self.root / "x.vx")
        self.seen: Model = {}
        self.seen_fresh: set[Any] = set()
        if start:
            self.add_many(start, 1)
        if folded:
            self.optimize(None)

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
            self.reader.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    # -- writing ---------------------------------------------------------------------------

    def _columns(self, drawn: list[Any], scale: float = 1.0) -> dict[str, Any]:
        return {
            "vectors": POOL[[row[0] for row in drawn]] * scale,
            "texts": [row[1] for row in drawn],
            "metadata": [row[2] for row in drawn],
        }

    def _remember(self, ids: list[Any], drawn: list[Any]) -> None:
        for record_id, row in zip(ids, drawn, strict=True):
            self.model.pop(record_id, None)
            self.model[record_id] = Row(*row)
        self.used |= set(ids)
        self.fresh |= set(ids)

    @rule(drawn=st.lists(rows, min_size=1, max_size=6), scale=st.sampled_from([1.0, 0.25, 1024.0]))
    def add_with_made_ids(self, drawn: list[Any], scale: float) -> None:
        ids = self.index.add(**self._columns(drawn, scale))
        assert len(set(ids)) == len(drawn)
        assert not set(ids) & self.used, "an id was made that had been used before"
        self._remember(ids, drawn)

    @rule(count=st.integers(5, 40), stride=st.integers(1, 7))
    def add_many(self, count: int, stride: int) -> None:
        drawn = [
            (i * stride % len(POOL), f"text {i}", {"group": i % 3, "n": i % 10})
            for i in range(count)
        ]
        self.add_with_made_ids(drawn, 1.0)

    @rule(ids=some_ids, data=st.data())
    def add_with_own_ids(self, ids: list[Any], data: st.DataObject) -> None:
        drawn = data.draw(st.lists(rows, min_size=len(ids), max_size=len(ids)))
        if set(ids) & self.model.keys():
            with pytest.raises(DuplicateIdError):
                self.index.add(ids=ids, **self._columns(drawn))
            return
        assert self.index.add(ids=ids, **self._columns(drawn)) == ids
        self._remember(ids, drawn)

    @rule(ids=some_ids, data=st.data())
    def upsert(self, ids: list[Any], data: st.DataObject) -> None:
        drawn = data.draw(st.lists(rows, min_size=len(ids), max_size=len(ids)))
        columns = self._columns(drawn)
        bad = columns | {"vectors": np.where(np.arange(DIM) == 3, np.nan, columns["vectors"])}
        with pytest.raises(VectorValueError, match=r"in rows? 0"):
            self.index.upsert(ids=ids, **bad)
        assert self.index.upsert(ids=ids, **columns) == ids
        self._remember(ids, drawn)

    @rule(ids=some_ids, data=st.data())
    def remove(self, ids: list[Any], data: st.DataObject) -> None:
        if self.model:
            ids = ids + data.draw(st.lists(st.sampled_from(list(self.model)), max_size=4))
        known = set(ids) & self.model.keys()
        assert self.index.remove(ids) == len(known)
        for record_id in known:
            del self.model[record_id]

    @rule(where=filters)
    def remove_by_filter(self, where: dict[str, Any]) -> None:
        where = where or {"n": {"$gte": 5}}
        known = [i for i, row in self.model.items() if keeps(where, row.metadata)]
        assert self.index.remove(where=where) == len(known)
        for record_id in known:
            del self.model[record_id]

    @rule()
    def remove_the_oldest(self) -> None:
        oldest = list(self.model)[: max(1, len(self.model) - 3)]
        assert self.index.remove(oldest) == len(oldest)
        for record_id in oldest:
            del self.model[record_id]

    # -- upkeep ----------------------------------------------------------------------------

    @rule(spec=st.none() | specs)
    def optimize(self, spec: Any) -> None:
        self.index.optimize(spec)
        info = self.index.info()
        assert info.tail == 0 or info.indexed == 0
        assert info.indexed in (0, info.rows + info.removed)
        self.fresh.clear()

    @rule()
    def compact(self) -> None:
        self.index.compact()
        assert self.index.info().removed == 0
        self.fresh.clear()

    @rule()
    def reopen(self) -> None:
        self.index.flush()
        self.index.close()
        self.index = VectorIndex.open(self.root / "x.vx", "r+", **self.options)
        assert self.index.info().notes == ()

    @rule()
    def verify(self) -> None:
        if self.options["maintenance"] == "manual":
            report = self.index.verify()
            assert report.ok, report.problems
            assert report.rows == len(self.model)

    @rule()
    def refresh_reader(self) -> None:
        changed = self.reader.refresh()
        assert changed or self.seen == self.model
        assert not self.reader.refresh() or self.options["maintenance"] == "background"
        self._reader_is_new()

    @rule()
    def open_another_reader(self) -> None:
        self.reader.close()
        self.reader = VectorIndex.open(self.root / "x.vx")
        self._reader_is_new()

    def _reader_is_new(self) -> None:
        self.seen, self.seen_fresh = dict(self.model), set(self.fresh)

    # -- reading ---------------------------------------------------------------------------

    def _check_hits(
        self, hits: Any, model: Model, query: int, k: int, where: dict[str, Any] | None
    ) -> None:
        truth = best(model, query, where)
        found = [(hit.id, hit.score) for hit in hits]
        assert len(found) == min(k, len(truth))
        if hits.plan.method in ("exact", "none"):
            assert [i for i, _ in found] == [i for i, _ in truth[:k]]
        if self.options["maintenance"] == "manual":
            fresh = self.fresh if model is self.model else self.seen_fresh
            near = {i for i, _ in truth[:k]} & fresh
            assert near <= {i for i, _ in found}, "a new row was passed over"
        places = {i: place for place, (i, _) in enumerate(truth)}
        assert [places[i] for i, _ in found] == sorted({places[i] for i, _ in found})
        for hit in hits:
            row = model[hit.id]
            assert hit.score == pytest.approx(SCORES[query, row.vector], abs=EXACT)
            assert (hit.text, hit.metadata) == (row.text, row.metadata)

    @rule(
        query=st.integers(0, len(POOL) - 1),
        k=st.integers(1, 30),
        where=st.none() | filters,
        exact=st.booleans(),
        reader=st.booleans(),
    )
    def search(self, query: int, k: int, where: Any, exact: bool, reader: bool) -> None:
        handle, model = (self.reader, self.seen) if reader else (self.index, self.model)
        hits = handle.search(POOL[query] * 3, k=k, where=where, exact=exact)
        self._check_hits(hits, model, query, k, where)
        if exact or where is not None:
            assert hits.plan.method in ("exact", "none")
            assert hits.plan == handle.explain(k=k, where=where, exact=exact)

    @rule(
        queries=st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=25),
        k=st.integers(1, 12),
        where=st.none() | filters,
        exact=st.booleans(),
        reader=st.booleans(),
    )
    def search_batch(
        self, queries: list[int], k: int, where: Any, exact: bool, reader: bool
    ) -> None:
        handle, model = (self.reader, self.seen) if reader else (self.index, self.model)
        lists = handle.search(POOL[queries], k=k, where=where, exact=exact)
        assert len(lists) == len(queries)
        for query, hits in zip(queries, lists, strict=True):
            self._check_hits(hits, model, query, k, where)
        if exact:
            ids, scores = handle.search_arrays(POOL[queries], k=k, where=where, exact=exact)
            assert ids.tolist() == [[hit.id for hit in hits] for hits in lists]
            assert scores.tolist() == [[hit.score for hit in hits] for hits in lists]

    @rule(query=st.integers(0, len(POOL) - 1), effort=st.integers(1, 40))
    def search_with_own_params(self, query: int, effort: int) -> None:
        structure = self.index.explain().method
        name = {"hnsw": "ef_search", "ivf": "nprobe"}.get(structure)
        if name is None or self.options["maintenance"] == "background":
            return
        hits = self.index.search(POOL[query], k=5, params={name: effort})
        assert hits.plan.params == {name: effort}
        self._check_hits(hits, self.model, query, 5, None)

    @rule(ids=some_ids, data=st.data(), reader=st.booleans())
    def get(self, ids: list[Any], data: st.DataObject, reader: bool) -> None:
        handle, model = (self.reader, self.seen) if reader else (self.index, self.model)
        assert [i in handle for i in ids] == [i in model for i in ids]
        if not set(ids) <= model.keys():
            with pytest.raises(UnknownIdError):
                handle.get(ids)
        if not model:
            return
        wanted = data.draw(st.lists(st.sampled_from(list(model)), max_size=5))
        records = handle.get(wanted, vectors=True)
        assert [record.id for record in records] == wanted
        for record in records:
            row = model[record.id]
            assert (record.text, record.metadata) == (row.text, row.metadata)
            np.testing.assert_allclose(record.vector, POOL[row.vector], atol=1e-7)

    @rule(where=filters)
    def count(self, where: dict[str, Any]) -> None:
        wanted = [i for i, row in self.model.items() if keeps(where, row.metadata)]
        assert self.index.count(where) == len(wanted)
        assert [record.id for record in self.index.scan(where)] == wanted

    @invariant()
    @precondition(lambda self: hasattr(self, "index"))
    def both_handles_show_their_state(self) -> None:
        for handle, model in ((self.index, self.model), (self.reader, self.seen)):
            assert len(handle) == len(model)
            assert [(record.id, record.text, record.metadata) for record in handle.scan()] == [
                (record_id, row.text, row.metadata) for record_id, row in model.items()
            ]
            self.steps += 1
            query, k = self.steps % len(POOL), self.steps % 14 + 1
            self._check_hits(handle.search(POOL[query], k=k), model, query, k, None)


def test_index_answers_as_the_model_does() -> None:
    run_state_machine_as_test(
        IndexMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
