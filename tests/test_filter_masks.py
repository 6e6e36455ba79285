"""Filters evaluated on columns keep exactly the rows that they keep one record at a time."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecindex import VectorIndex
from vecindex.filters import batches, derive, parse
from vecindex.filters.batches import join, take
from vecindex.filters.cache import ArrayCache
from vecindex.filters.derive import derive as derive_batch
from vecindex.filters.layout import check_batch
from vecindex.filters.masks import Columns
from vecindex.index import maintenance
from vecindex.store.codec import RecordPacker, unpack_metadata, unpack_record
from vecindex.store.columns import derive_columns
from vecindex.store.files import Directory
from vecindex.store.masks import decide
from vecindex.store.rewrite import Source, rewrite
from vecindex.store.segment import Segment, Tail, TailView

UTC = dt.timezone.utc  # noqa: UP017
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30, seconds=1, microseconds=7))
NOON = dt.datetime(2024, 5, 1, 12)
INSTANTS = [
    NOON,
    NOON.replace(microsecond=1),
    NOON.replace(tzinfo=UTC),
    NOON.replace(tzinfo=UTC).astimezone(EAST),
    NOON.replace(tzinfo=EAST),
    dt.datetime.min,
    dt.datetime.max,
    dt.datetime.min.replace(tzinfo=EAST),
    dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=5))),
]
FLOATS = [math.nan, math.inf, -math.inf, -0.0, 0.5, 1.0, 1.5, 2.0**53, 2.0**63, -(2.0**63), 1e300]
INTS = [0, 1, 2, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]
TEXTS = ["", "a", "ab", "b", "é", "日本", "\0", "\U0001f600", "￿", "x" * 1025]

numbers = st.one_of(st.sampled_from(INTS), st.sampled_from(FLOATS), st.integers(-2, 2))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.sampled_from(TEXTS),
    st.sampled_from([b"", b"a", b"\xff", b"x" * 1025]),
    st.sampled_from(INSTANTS),
)
lists = st.one_of(
    st.lists(scalars, max_size=3),
    *(st.lists(st.sampled_from(of), max_size=3) for of in (INTS, FLOATS, TEXTS, INSTANTS)),
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3),
    st.just(["a"] * 257),
)
keys = st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a", "", ".", "c"])
values = st.recursive(
    st.one_of(scalars, lists),
    lambda inner: st.one_of(
        st.dictionaries(keys, inner, max_size=3), st.lists(inner, min_size=1, max_size=2)
    ),
    max_leaves=4,
)
entries = st.one_of(st.none(), st.dictionaries(keys, values, max_size=4))
plain_entries = st.fixed_dictionaries(
    {"a": numbers, "b": st.sampled_from(["a", "b"])}, optional={"c": lists, "a.b": scalars}
)
tables = st.one_of(st.lists(entries, max_size=10), st.lists(plain_entries, max_size=10))

huge = st.sampled_from([10**400, -(10**400), 2**53 + 1, 2**64, -(2**63) - 1])
operands = st.one_of(values, numbers, huge, st.just(dt.date(2024, 5, 1)))
ordered = st.one_of(
    numbers,
    huge,
    st.sampled_from([*TEXTS, *INSTANTS, b"", b"a", b"\xff", dt.date(2024, 5, 1)]),
)
tests = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$contains"]), operands),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(operands, max_size=12)),
    st.tuples(st.just("$exists"), st.booleans()),
).map(lambda test: dict([test]))
paths = st.one_of(keys, st.sampled_from(["a.a", "b.a.b", "..", "c.a", "gone"]))
filters = st.recursive(
    st.dictionaries(paths, tests, min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.builds(
            lambda op, parts: {op: parts},
            st.sampled_from(["$and", "$or"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=4,
)
many_filters = st.lists(filters, min_size=1, max_size=6)
limits = st.sampled_from([(64, 256, 4096), (1, 3, 4096), (0, 0, 4096), (1, 2, 3), (9, 9, 1)])


@contextmanager
def limited(limit: tuple[int, int, int]) -> Iterator[None]:
    """Give only few paths columns."""
    with (
        mock.patch.multiple(batches, _ALWAYS=limit[0], _MOST=limit[1]),
        mock.patch.object(derive, "_MOST_SEEN", limit[2]),
    ):
        yield


def packed(table: list[dict | None]) -> list[bytes]:
    return RecordPacker().pack_all(list(range(len(table))), None, table)


def check(columns: Columns, records: list[bytes], where: dict) -> None:
    """Compare a verdict, and what is made of it, with the plain evaluation."""
    parsed = parse(where)
    expected = [parsed.matches(unpack_record(record).metadata) for record in records]
    verdict = columns.evaluate(parsed)
    unknown = np.zeros(len(records), bool) if verdict.unknown is None else verdict.unknown
    assert not (verdict.true & unknown).any()
    known = np.flatnonzero(~unknown)
    assert verdict.true[known].tolist() == [expected[row] for row in known]
    fetched = decide(parsed, columns, lambda rows: [records[row] for row in rows], len(records))
    assert fetched.tolist() == expected


@settings(max_examples=400, deadline=None)
@given(tables, many_filters, limits)
def test_columns_say_what_records_say(table, wheres, limit):
    records = packed(table)
    with limited(limit):
        columns = derive_columns(records)
    check_batch(columns.batch, len(records))
    for where in wheres:
        check(columns, records, where)


@settings(max_examples=200, deadline=None)
@given(st.lists(tables, min_size=1, max_size=4), many_filters, limits, st.data())
def test_joined_and_picked_columns_say_what_records_say(parts, wheres, limit, data):
    records, made = [], []
    for table in parts:
        own = packed(table)
        rows = list(range(-1, len(own)))
        chosen = data.draw(st.none() | st.lists(st.sampled_from(rows), max_size=12))
        with limited(data.draw(limits)):
            batch = derive_batch(unpack_metadata(own))
            if chosen is not None:
                batch = take(batch, np.array(chosen, dtype=np.int64))
                own = [packed([None])[0] if row < 0 else own[row] for row in chosen]
        made.append(batch)
        records += own
    with limited(limit):
        joined = join(made)
    check_batch(joined, len(records))
    for where in wheres:
        check(Columns(joined), records, where)


@settings(max_examples=100, deadline=None)
@given(st.lists(tables.filter(bool), min_size=1, max_size=3), many_filters, limits, st.data())
def test_files_written_and_merged_say_what_records_say(parts, wheres, limit, data):
    with tempfile.TemporaryDirectory() as path, limited(limit):
        directory = Directory(Path(path))
        sources, expected = [], []
        for number, table in enumerate(parts):
            dead = np.array(data.draw(st.lists(st.booleans(), min_size=len(table))))[: len(table)]
            tail = Tail(2)
            vectors = np.ones((len(table), 2), np.float32)
            tail.append(0, list(range(len(table))), packed(table), vectors)
            part = TailView(tail, len(table))
            if data.draw(st.booleans()):
                entry, _ = rewrite(directory, number, [Source(part, None)], 2, list)
                part = Segment(directory, entry, 2)
            keep_dead = data.draw(st.booleans())
            sources.append(Source(part, dead, keep_dead=keep_dead))
            records = packed(table)
            for record, gone in zip(records, dead.tolist(), strict=True):
                if keep_dead or not gone:
                    expected.append(None if gone else unpack_record(record))
        if not expected:
            return
        entry, _ = rewrite(directory, 99, sources, 2, list)
        segment = Segment(directory, entry, 2, pytest.fail)
        for where in map(parse, wheres):
            kept = segment.keeps(where).tolist()
            for record, keeps in zip(expected, kept, strict=True):
                assert record is None or keeps is where.matches(record.metadata)


class Model:
    """The records that an index should hold, evaluated one by one."""

    def __init__(self) -> None:
        self.records: dict[int, dict | None] = {}

    def check(self, index: VectorIndex, where: dict) -> None:
        parsed = parse(where)
        stored = unpack_metadata(packed(list(self.records.values())))
        kept = [i for i, entry in zip(self.records, stored, strict=True) if parsed.matches(entry)]
        assert index.count(where) == len(kept)
        assert [record.id for record in index.scan(where)] == kept
        assert index.search_arrays([[1.0, 0.0]], k=100, where=where)[0][0].tolist() == kept


steps = st.one_of(
    st.tuples(st.just("add"), tables.filter(bool)),
    st.tuples(st.just("remove"), st.lists(st.integers(0, 30), max_size=5)),
    st.tuples(st.just("remove_where"), filters),
    st.tuples(st.sampled_from(["seal", "optimize", "compact", "reopen"]), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=2, max_size=8), st.lists(filters, min_size=1, max_size=3), limits)
def test_an_index_keeps_what_the_records_say(plan, wheres, limit):
    with tempfile.TemporaryDirectory() as path, limited(limit):
        model = Model()
        index = VectorIndex.create(f"{path}/x.vx", dim=2, spec="flat", maintenance="manual")
        for step, given_with in plan:
            index = carry_out(index, model, step, given_with)
            for where in wheres:
                model.check(index, where)
        index.close()


def carry_out(index: VectorIndex, model: Model, step: str, given_with: object) -> VectorIndex:
    if step == "add":
        vectors = [[1.0, 0.0]] * len(given_with)
        ids = index.add(vectors=vectors, metadata=given_with)
        model.records.update(zip(ids, given_with, strict=True))
    elif step == "remove":
        index.remove(given_with)
        for gone in given_with:
            model.records.pop(gone, None)
    elif step == "remove_where":
        parsed = parse(given_with)
        stored = unpack_metadata(packed(list(model.records.values())))
        kept = [not parsed.matches(entry) for entry in stored]
        assert index.remove(where=given_with) == kept.count(False)
        pairs = zip(model.records.items(), kept, strict=True)
        model.records = dict(item for item, keep in pairs if keep)
    elif step == "seal":
        index._maintenance.seal()
    elif step in ("optimize", "compact"):
        getattr(index, step)()
    else:
        index.close()
        return VectorIndex.open(index.path, "r+", maintenance="manual")
    return index


# -- every value against every other ---------------------------------------------------------

BYTES = [b"", b"a", b"\xff", b"x" * 1025]
VALUES = [None, True, False, *INTS, *FLOATS, *TEXTS, *BYTES, *INSTANTS, [], {}, {"b": 1}]
BETWEEN = [2**53 + 0.0, 2**62 + 1, 10**400, -(10**400), 2**64, -(2**63) - 1, 2**1023 + 1, -0.5]
OPERANDS = [*VALUES, *BETWEEN, dt.date(2024, 5, 1)]
ORDERED = [v for v in OPERANDS if not isinstance(v, bool | list | dict | None)]
NEAR = [2**53 - 1, 2**53 + 2, 2**53 + 3, -(2**53) - 2, 2**63 - 512, 2.0**53 - 1, 2.0**53 + 2]


def compare_all(table: list[dict | None], wheres: list[dict]) -> None:
    records = packed(table)
    columns = derive_columns(records)
    for where in wheres:
        check(columns, records, where)


@pytest.mark.parametrize("op", ["$gt", "$gte", "$lt", "$lte"])
def test_order_of_every_value(op):
    table = [{"a": value} for value in [*VALUES, *NEAR]]
    compare_all(table, [{"a": {op: value}} for value in [*ORDERED, *NEAR]])
    # With one kind in a column, too: nothing else of the path can make up for a wrong row.
    for of in (INTS[:-2], FLOATS, [*TEXTS[:-1]]):
        compare_all([{"a": v} for v in of], [{"a": {op: value}} for value in [*ORDERED, *NEAR]])


def test_equality_of_every_value():
    table = [{"a": value} for value in [*VALUES, *NEAR]] + [{}, None]
    wheres = [{"a": {op: v}} for op in ("$eq", "$contains") for v in [*OPERANDS, *NEAR]]
    compare_all(table, wheres)
    compare_all(table, [{"a": {"$in": [v, w]}} for v in OPERANDS for w in (2**53, "a", None, 1)])
    compare_all(table, [{"a": {"$in": OPERANDS[start:]}} for start in range(len(OPERANDS))])
    compare_all([{"a": v} for v in INTS[:-3]], [{"a": {"$in": [*NEAR, *BETWEEN, *FLOATS]}}])
    compare_all([{"a": v} for v in FLOATS], [{"a": {"$in": [*NEAR, *BETWEEN, *INTS]}}])


def test_items_of_lists_of_every_value():
    pairs = [(v, w) for of in (INTS, FLOATS, TEXTS, BYTES, INSTANTS) for v in of for w in of]
    table = [{"a": [v, w]} for v, w in pairs] + [{"a": []}, {"a": [None]}, {"a": [True]}, {}]
    for wanted in OPERANDS:
        wheres = [{"a": {"$contains": wanted}}, {"a": {"$in": [wanted, "b"]}}, {"a": [wanted]}]
        compare_all(table, [*wheres, {"a": [1, wanted]}, {"a": {"$in": [[wanted, 1.0], [wanted]]}}])


# -- what must be decided without the records ------------------------------------------------

ORDINARY = [
    {
        "n": row % 7,
        "x": row / 4,
        "s": f"text {row % 5}",
        "ok": row % 2 == 0,
        "at": NOON + dt.timedelta(row),
        "when": NOON.replace(tzinfo=EAST) + dt.timedelta(row),
        "raw": b"%d" % (row % 3),
        "tags": [f"t{row % 4}", f"t{row % 3}"][: row % 3],
        "deep": {"er": {"n": row % 3}},
        "some.dots": row % 2,
        **({"null": None} if row % 3 else {}),
    }
    for row in range(100)
]


@pytest.mark.parametrize(
    "where",
    [
        {"n": 3},
        {"n": 3.0},
        {"n": {"$gt": 2.5, "$lte": 5}},
        {"n": {"$in": list(range(2, 40))}},
        {"x": {"$lt": 10}},
        {"x": {"$in": [1, 2.5]}},
        {"s": "text 3"},
        {"s": {"$in": ["text 1", "text 2", 4]}},
        {"s": {"$gte": "text 2"}},
        {"s": {"$contains": "2"}},
        {"ok": True},
        {"ok": {"$ne": True}},
        {"at": {"$gte": NOON + dt.timedelta(3)}},
        {"when": NOON.replace(tzinfo=EAST).astimezone(UTC) + dt.timedelta(3)},
        {"raw": {"$lt": b"2"}},
        {"tags": {"$contains": "t2"}},
        {"tags": {"$in": ["t2", "t1"]}},
        {"tags": []},
        {"tags": ["t2", "t2"]},
        {"tags": {"$in": [["t3"], ["t1", "t1"], "t0", ["t1", {}]]}},
        {"tags": {"$nin": [[]]}},
        {"deep.er.n": 1},
        {"deep.er": {"$exists": True}},
        {"some.dots": 1},
        {"null": None},
        {"null": {"$exists": False}},
        {"gone": 1},
        {"gone": {"$exists": False}},
        {"$or": [{"n": 1}, {"$not": {"s": "text 1", "ok": False}}]},
        {},
    ],
    ids=str,
)
def test_ordinary_metadata_needs_no_record(where):
    records = packed(ORDINARY)
    columns = derive_columns(records)
    parsed = parse(where)
    verdict = columns.evaluate(parsed)
    assert verdict.unknown is None or not verdict.unknown.any()
    assert verdict.true.tolist() == [parsed.matches(r) for r in unpack_metadata(records)]
    assert verdict.true.any() or where == {"gone": 1}


def test_what_does_not_fit_is_left_to_the_record_and_nothing_else():
    values = [2**64 - 1, 1, "x" * 1025, [1, "a"], [[1]], "x", ["x"] * 257, {"b": 1}]
    table = [{"a": value} for value in values] + [{"a.b": 1, "a": {"b": 2}}]
    columns = derive_columns(packed(table))

    def unknown(where: dict) -> list[int]:
        found = columns.evaluate(parse(where)).unknown
        return [] if found is None else np.flatnonzero(found).tolist()

    assert unknown({"a": 1}) == [0, 2, 3, 4, 6]
    assert unknown({"a.b": 1}) == [8]
    assert unknown({"a": {"b": 1}}) == [0, 2, 3, 4, 6, 7, 8]
    assert unknown({"a": {"$exists": True}}) == []
    assert unknown({"a": 1, "a.b": {"$exists": False}}) == [0, 2, 3, 4, 6]
    assert unknown({"$or": [{"a.b": 1}, {"a.b": {"$exists": True}}]}) == []


def test_rare_paths_get_no_columns():
    table = [{"often": 1, f"rare {row}": row} for row in range(500)]
    columns = derive_columns(packed(table))
    names = columns.batch.schema.names
    assert "int:often" in names
    assert "rest" in names
    assert len(names) == 2 + 63
    check(columns, packed(table), {"rare 7": 7})
    check(columns, packed(table), {"rare 444": {"$gt": 3}})
    assert columns.evaluate(parse({"often": 1})).unknown is None


def test_a_path_that_once_was_rare_may_be_in_earlier_rows():
    early, late = [{"a": 1}, {"b": 1}, None], [{"b": 2}, {"a": 2}, {}]
    with limited((0, 0, 4096)):
        first = derive_batch(early)
    columns = Columns(join([first, derive_batch(late)]))
    again = Columns(join([columns.batch, derive_batch(late), first]))
    for where in ({"a": 1}, {"a": {"$ne": 1}}, {"a": {"$exists": False}}, {"b": {"$gt": 0}}):
        check(columns, packed(early + late), where)
        check(again, packed(early + late * 2 + early), where)
    unknown = again.evaluate(parse({"a": {"$exists": True}})).unknown
    assert np.flatnonzero(unknown).tolist() == [0, 1, 9, 10]


def test_keys_made_of_data_do_not_blow_up():
    table = [{f"{row}.{key}": 1 for key in range(100)} for row in range(200)]
    columns = derive_columns(packed(table))
    assert columns.batch.num_columns <= 257
    check(columns, packed(table), {"150.3": 1})
    check(columns, packed(table), {"0.3": {"$exists": False}})


def test_null_is_false_whatever_is_below_it():
    packed_bits = pa.py_buffer(bytes([0b111])), pa.py_buffer(bytes([0b101]))
    array = pa.BooleanArray.from_buffers(pa.bool_(), 3, [packed_bits[1], packed_bits[0]])
    assert batches.bits(array).tolist() == [True, False, True]
    assert batches.bits(array[1:]).tolist() == [False, True]
    assert batches.valid(array[:1]) is None


def test_removed_rows_leave_nothing_in_the_columns():
    table = [{"secret": "aaaa", "n": [1]}, {"n": 2}, {"n": 3, "tags": ["bbbb"]}]
    batch = take(derive_batch(table), np.array([-1, 1]))
    assert batch.schema.names == ["int:n"]
    assert batch.column(0).to_pylist() == [None, 2]


def test_a_batch_of_another_version_or_shape_is_refused():
    batch = derive_batch([{"a": 1}])
    check_batch(batch, 1)
    with pytest.raises(ValueError, match="another version"):
        check_batch(batch, 2)
    with pytest.raises(ValueError, match="another version"):
        check_batch(batch.replace_schema_metadata({"vecindex": "2"}), 1)
    for name in ("text:a", "float:a", "int"):
        other = pa.record_batch(batch.columns, [name], metadata=batch.schema.metadata)
        with pytest.raises(ValueError, match="has type"):
            check_batch(other, 1)
    twice = pa.record_batch([batch.column(0)] * 2, ["int:a"] * 2, metadata=batch.schema.metadata)
    with pytest.raises(ValueError, match="twice"):
        check_batch(twice, 1)


# -- the cache -------------------------------------------------------------------------------


def test_the_cache_is_bounded_and_drops_what_was_not_used():
    cache: ArrayCache[str] = ArrayCache(count=3, size_bytes=100)
    for key in "abc":
        cache.put(key, np.zeros(10, bool))
    assert cache.get("a") is not None
    cache.put("d", np.zeros(10, bool))
    assert [key for key, _ in cache.items()] == ["c", "a", "d"]
    cache.put("e", np.zeros(85, bool))
    assert [key for key, _ in cache.items()] == ["d", "e"]
    cache.put("d", np.zeros(101, bool))
    assert cache.get("d") is None
    cache.put("f", np.zeros(15, bool))
    assert [key for key, _ in cache.items()] == ["e", "f"]
    with pytest.raises(ValueError, match="read-only"):
        cache.get("f")[0] = True


def test_masks_outlive_adds_and_removes(tmp_path, monkeypatch):
    seen = []
    plain = Columns.evaluate
    monkeypatch.setattr(
        Columns, "evaluate", lambda self, where: seen.append(self.count) or plain(self, where)
    )
    monkeypatch.setattr("vecindex.store.masks.unpack_record", lambda record: seen.append("record"))
    with VectorIndex.create(tmp_path / "x.vx", dim=2, spec="flat", maintenance="manual") as index:
        rows = np.ones((1000, 2))
        index.add(vectors=rows, metadata=[{"n": n} for n in range(1000)])
        index._maintenance.seal()
        index.add(vectors=rows[:300], metadata=[{"n": n} for n in range(300)])
        where = {"n": {"$lt": 100}}
        assert index.count(where) == 200
        assert seen == [1000, 300]
        index.remove([5, 1005])
        assert index.count(where) == 198
        index.remove(where={"n": 6})
        assert index.count(where) == 196
        assert seen == [1000, 300] * 2
        index.add(vectors=rows[:400], metadata=[{"n": n} for n in range(400)])
        assert index.count(where) == 296
        assert seen[4:] == [700]
        assert [len(rows) for rows in index._view().matching(parse(where))] == [98, 198]
        keeps = index._view().keeps(0, parse(where))
        assert np.flatnonzero(keeps).tolist() == [n for n in range(100) if n not in (5, 6)]
        assert seen[4:] == [700]


def test_few_new_rows_are_read_one_by_one(tmp_path):
    with VectorIndex.create(tmp_path / "x.vx", dim=2, maintenance="manual") as index:
        for n in range(5):
            index.add(vectors=[[1, 0]], metadata=[{"n": n}])
            assert index.count({"n": {"$gte": 1}}) == n
        assert index._store.state.tail.tail.masks._columns is None


def test_scan_fetches_only_what_matches(tmp_path, monkeypatch):
    monkeypatch.setattr(maintenance, "_SEAL_OPERATIONS", 2)
    with VectorIndex.create(tmp_path / "x.vx", dim=2, maintenance="manual") as index:
        for start in range(0, 60, 10):
            table = [{"n": n} for n in range(start, start + 10)]
            index.add(vectors=np.ones((10, 2)), metadata=table, texts=[f"t{n}" for n in range(10)])
        fetched = []
        for part in index._view().parts[:-1]:
            get = part.records
            monkeypatch.setattr(part, "records", lambda r, get=get: fetched.append(r) or get(r))
        found = index.scan({"n": {"$in": [3, 4, 55]}})
        assert fetched == []
        assert next(found).metadata == {"n": 3}
        assert [rows.tolist() for rows in fetched] == [[3, 4]]
        assert [record.metadata["n"] for record in found] == [4, 55]


def test_damaged_columns_cost_speed_not_answers(tmp_path):
    with VectorIndex.create(tmp_path / "x.vx", dim=2, spec="flat", maintenance="manual") as index:
        index.add(vectors=np.ones((50, 2)), metadata=[{"n": n} for n in range(50)])
        index.optimize()
    (file,) = (tmp_path / "x.vx").glob("columns-*.arrow")
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with VectorIndex.open(tmp_path / "x.vx") as index:
        assert index.verify().problems[0].rebuildable
        assert [problem.file for problem in index.verify().problems] == [file.name]
        assert index.info().notes == ()
        assert index.count({"n": {"$lt": 7}}) == 7
        assert index.count({"n": {"$gte": 7}}) == 43
        assert file.name in index.info().notes[0]
        assert len(index.info().notes) == 1


def test_filters_beside_a_writer_see_whole_states(tmp_path):
    failures, done = [], threading.Event()

    def read(index: VectorIndex, where: dict) -> None:
        before = 0
        while not done.is_set():
            count = index.count(where)
            if count % 100 or count < before or len(list(index.scan(where))) < count:
                failures.append((count, before))
            before = count

    with VectorIndex.create(tmp_path / "x.vx", dim=2, spec="flat", maintenance="manual") as index:
        wheres = [{"n": 1}, {"n": {"$in": [1, 2]}}, {"n": {"$gte": 2.5}}]
        threads = [threading.Thread(target=read, args=(index, where)) for where in wheres]
        for thread in threads:
            thread.start()
        for number in range(30):
            table = [{"n": n % 4} for n in range(400)]
            index.add(vectors=np.ones((400, 2)), metadata=table)
            if number % 7 == 6:
                index._maintenance.seal()
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert [index.count(where) for where in wheres] == [3000, 6000, 3000]
