"""The `where` grammar: its errors, its edges, and its laws by Hypothesis."""

from __future__ import annotations

import datetime as dt
import enum
import math
import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecindex.errors import FilterError
from vecindex.filters import And, Condition, Not, Or, parse

UTC = dt.timezone.utc  # noqa: UP017
NAIVE = dt.datetime(2024, 5, 1, 12, 0)
AWARE = dt.datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
NAN = float("nan")


class Colour(str, enum.Enum):  # noqa: UP042
    """A str whose str() is not its value."""

    RED = "red"


def keeps(where: dict, metadata: dict | None) -> bool:
    return parse(where).matches(metadata)


@pytest.mark.parametrize(
    ("where", "metadata", "kept"),
    [
        # equality and kinds
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": False}, {"a": False}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": b"x"}, {"a": "x"}, False),
        ({"a": b"x"}, {"a": b"x"}, True),
        ({"a": 2**53 + 1}, {"a": float(2**53)}, False),
        ({"a": Colour.RED}, {"a": "red"}, True),
        ({"a": np.int64(3)}, {"a": 3}, True),
        ({"a": np.bool_(True)}, {"a": True}, True),
        ({"a": np.float32(0.5)}, {"a": 0.5}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {"a": 0}, False),
        ({"a": None}, {}, False),
        ({"a": {"$eq": "x"}}, {"a": "x"}, True),
        ({"a": {"$ne": "x"}}, {"a": "x"}, False),
        ({"a": {"$ne": 1}}, {"a": True}, True),
        ({"a": {"$neq": "x"}}, {"a": "y"}, True),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": (1, 2)}, {"a": [1, 2]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": [1]}, {"a": [True]}, False),
        ({"a": 1}, {"a": [1]}, False),
        ({"a": {"b": 1, "c": [2]}}, {"a": {"c": [2], "b": 1.0}}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, False),
        ({"a": {}}, {"a": {}}, True),
        ({"a": {}}, {"a": {"b": 1}}, False),
        # order
        ({"a": {"$gt": 1}}, {"a": 1}, False),
        ({"a": {"$gt": 1}}, {"a": 1.5}, True),
        ({"a": {"$gte": 1}}, {"a": 1}, True),
        ({"a": {"$lt": 1}}, {"a": 1}, False),
        ({"a": {"$lt": 1}}, {"a": -1}, True),
        ({"a": {"$lte": 1}}, {"a": 1.0}, True),
        ({"a": {"$gte": 1, "$lt": 3}}, {"a": 3}, False),
        ({"a": {"$gte": 1, "$lt": 3}}, {"a": 2}, True),
        ({"a": {"$gt": 0}}, {"a": True}, False),
        ({"a": {"$gt": 0}}, {"a": "1"}, False),
        ({"a": {"$gt": 0}}, {"a": None}, False),
        ({"a": {"$gt": 0}}, {"a": [1]}, False),
        ({"a": {"$gt": "a"}}, {"a": "b"}, True),
        ({"a": {"$lt": b"b"}}, {"a": b"a"}, True),
        ({"a": {"$lt": b"b"}}, {"a": "a"}, False),
        ({"a": {"$gt": 10**400}}, {"a": math.inf}, True),
        # dates
        ({"a": {"$gte": NAIVE}}, {"a": NAIVE}, True),
        ({"a": {"$gt": NAIVE}}, {"a": NAIVE + dt.timedelta(1)}, True),
        ({"a": {"$lte": AWARE}}, {"a": AWARE}, True),
        ({"a": AWARE}, {"a": AWARE.astimezone(dt.timezone(dt.timedelta(hours=3)))}, True),
        ({"a": {"$gte": NAIVE}}, {"a": AWARE}, False),
        ({"a": {"$lte": NAIVE}}, {"a": AWARE}, False),
        ({"a": NAIVE}, {"a": AWARE}, False),
        ({"a": {"$gt": "2024-01-01"}}, {"a": NAIVE}, False),
        ({"a": {"$gt": dt.date(2024, 1, 1)}}, {"a": dt.date(2024, 1, 2)}, True),
        ({"a": {"$gt": dt.date(2024, 1, 1)}}, {"a": NAIVE}, False),
        # NaN
        ({"a": NAN}, {"a": NAN}, False),
        ({"a": {"$ne": NAN}}, {"a": NAN}, True),
        ({"a": {"$in": [NAN]}}, {"a": NAN}, False),
        ({"a": {"$gte": NAN}}, {"a": 1.0}, False),
        ({"a": {"$lte": 1.0}}, {"a": NAN}, False),
        ({"a": [NAN]}, {"a": [NAN]}, False),
        # lists
        ({"a": {"$in": [1, "x"]}}, {"a": "x"}, True),
        ({"a": {"$in": [1, "x"]}}, {"a": "y"}, False),
        ({"a": {"$in": [1]}}, {"a": True}, False),
        ({"a": {"$in": []}}, {"a": 1}, False),
        ({"a": {"$in": ["x", "y"]}}, {"a": ["z", "y"]}, True),
        ({"a": {"$in": ["x", "y"]}}, {"a": ["z"]}, False),
        ({"a": {"$in": [["z"]]}}, {"a": ["z"]}, True),
        ({"a": {"$in": {"x"}}}, {"a": "x"}, True),
        ({"a": {"$nin": [1]}}, {"a": 1}, False),
        ({"a": {"$nin": [1]}}, {"a": 2}, True),
        ({"a": {"$nin": ["x"]}}, {"a": ["x", "z"]}, False),
        ({"a": {"$nin": []}}, {"a": 2}, True),
        ({"a": {"$contains": "b"}}, {"a": ["a", "b"]}, True),
        ({"a": {"$contains": "b"}}, {"a": ["ab"]}, False),
        ({"a": {"$contains": "b"}}, {"a": "abc"}, True),
        ({"a": {"$contains": "B"}}, {"a": "abc"}, False),
        ({"a": {"$contains": 1}}, {"a": "1"}, False),
        ({"a": {"$contains": 1}}, {"a": [True]}, False),
        ({"a": {"$contains": None}}, {"a": [None]}, True),
        ({"a": {"$contains": "k"}}, {"a": {"k": 1}}, False),
        # missing keys
        ({"a": {"$eq": 1}}, {}, False),
        ({"a": {"$ne": 1}}, {}, True),
        ({"a": {"$gt": 1}}, {}, False),
        ({"a": {"$in": [1]}}, {}, False),
        ({"a": {"$nin": [1]}}, {}, True),
        ({"a": {"$contains": 1}}, {}, False),
        ({"a": {"$not": {"$gt": 1}}}, {}, True),
        ({"a": {"$exists": True}}, {}, False),
        ({"a": {"$exists": False}}, {}, True),
        ({"a": {"$exists": True}}, {"a": None}, True),
        ({"a": {"$exists": False}}, {"a": None}, False),
        ({"a": 1}, None, False),
        ({"a": {"$exists": False}}, None, True),
        ({}, None, True),
        ({}, {"a": 1}, True),
        # logic
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1, "b": 3}, False),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"a": 1, "b": 3}, True),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"a": 0, "b": 3}, False),
        ({"$or": [{"a": 1}], "b": 2}, {"a": 1, "b": 3}, False),
        ({"$not": {"a": 1, "b": 2}}, {"a": 1, "b": 3}, True),
        ({"$not": {"a": 1}}, {"a": 1}, False),
        ({"a": {"$not": {"$gt": 1, "$lt": 9}}}, {"a": 5}, False),
        ({"a": {"$not": {"$gt": 1, "$lt": 9}, "$exists": True}}, {"a": 10}, True),
        # paths
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a": {"b": 2}}, False),
        ({"a.b": 1}, {"a.b": 1, "a": {"b": 2}}, True),
        ({"a.b": 2}, {"a.b": 1, "a": {"b": 2}}, False),
        ({"a.b.c": 1}, {"a": {"b": {"c": 1}}}, True),
        ({"a.b.c": 1}, {"a.b": {"c": 1}, "a": {"b": {"c": 2}}}, True),
        ({"a.b.c": 1}, {"a": {"b.c": 1}}, True),
        ({"a.b.c": 2}, {"a.b": {"x": 1}, "a": {"b": {"c": 2}}}, True),
        ({"a.b": 1}, {"a": [{"b": 1}]}, False),
        ({"a.b": {"$exists": False}}, {"a": 1}, True),
        ({"a.b": {"$exists": True}}, {"a": {"b": None}}, True),
    ],
)
def test_table(where, metadata, kept):
    assert keeps(where, metadata) is kept


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ([], "where must be a mapping"),
        ("a", "where must be a mapping"),
        (None, "where must be a mapping"),
        ({1: 2}, "where has the key 1"),
        ({"$gt": 1}, 'where["$gt"]'),
        ({"$foo": 1}, 'where["$foo"]'),
        ({"year": {"$foo": 1}}, 'where["year"]["$foo"]: unknown operator'),
        ({"year": {"$and": []}}, 'where["year"]["$and"]'),
        ({"year": {"$gt": 1, "x": 2}}, 'where["year"] mixes'),
        ({"year": {"$gt": 1, 2: 2}}, 'where["year"] mixes'),
        ({"year": {"$in": "x"}}, 'where["year"]["$in"] must be a list'),
        ({"year": {"$nin": 3}}, 'where["year"]["$nin"] must be a list'),
        ({"year": {"$in": {"a": 1}}}, 'where["year"]["$in"] must be a list'),
        ({"year": {"$in": [1, object()]}}, 'where["year"]["$in"][1]'),
        ({"$and": []}, 'where["$and"] must be a non-empty list'),
        ({"$or": {}}, 'where["$or"] must be a non-empty list'),
        ({"$or": {"a": 1}}, 'where["$or"] must be a non-empty list'),
        ({"$or": [{"a": 1}, 3]}, 'where["$or"][1] must be a mapping'),
        ({"$or": [{"a": {"$gt": None}}]}, 'where["$or"][0]["a"]["$gt"]'),
        ({"$not": [{"a": 1}]}, 'where["$not"] must be a mapping'),
        ({"$not": {"a": {"$lt": True}}}, 'where["$not"]["a"]["$lt"]'),
        ({"a": {"$not": 3}}, 'where["a"]["$not"]'),
        ({"a": {"$not": {"b": 3}}}, 'where["a"]["$not"]'),
        ({"a": {"$not": {"$gt": []}}}, 'where["a"]["$not"]["$gt"]'),
        ({"a": {"$gt": {"b": 1}}}, 'where["a"]["$gt"]'),
        ({"a": {"$gte": [1]}}, 'where["a"]["$gte"]'),
        ({"a": {"$lt": None}}, 'where["a"]["$lt"]'),
        ({"a": {"$lte": np.bool_(True)}}, 'where["a"]["$lte"]'),
        ({"a": {"$exists": 1}}, 'where["a"]["$exists"] must be True or False'),
        ({"a": {"$exists": None}}, 'where["a"]["$exists"]'),
        ({"a": object()}, 'where["a"] cannot be compared'),
        ({"a": {"$eq": 1j}}, 'where["a"]["$eq"] cannot be compared'),
        ({"a": np.datetime64("2024-01-01", "ns")}, 'where["a"] cannot be compared'),
        ({"a": np.timedelta64(1, "ns")}, 'where["a"] cannot be compared'),
        ({"a": [1, {2: 3}]}, 'where["a"][1] holds the key 2'),
        ({"a": {"b": {"$gt": 1}}}, 'where["a"]["b"] holds the key \'$gt\''),
    ],
)
def test_errors_name_the_place(where, place):
    with pytest.raises(FilterError) as caught:
        parse(where)
    assert str(caught.value).startswith(place)
    assert isinstance(caught.value, ValueError)


def test_endless_nesting_is_an_error_not_a_recursion():
    endless: dict = {}
    endless["a"] = endless
    negated: dict = {}
    negated["$not"] = negated
    for where in (endless, negated, {"a": negated}, {"$and": [negated]}):
        with pytest.raises(FilterError, match="nested deeper than 32"):
            parse(where)


def test_an_aware_datetime_is_an_instant_also_in_a_repeated_hour():
    local = dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1)
    stored = dt.datetime(2024, 10, 27, 1, 30, tzinfo=UTC)
    assert local != stored, "to Python"
    assert keeps({"a": local}, {"a": stored})
    assert keeps({"a": {"$in": [local.replace(fold=0)]}}, {"a": stored - dt.timedelta(hours=1)})
    assert not keeps({"a": local.replace(fold=0)}, {"a": stored})


def test_not_a_time_cannot_be_compared():
    class NotATime(dt.datetime):
        """As pandas.NaT, which is a datetime, too."""

        def isoformat(self) -> str:
            return "NaT"

    with pytest.raises(FilterError, match=r'where\["a"\]\["\$gt"\] cannot be compared'):
        parse({"a": {"$gt": NotATime(1970, 1, 1)}})


def test_the_filter_is_a_copy():
    years = [2020]
    where = {"year": {"$in": years}}
    parsed = parse(where)
    years.append(2021)
    where["year"] = {"$exists": False}
    assert parsed.matches({"year": 2020})
    assert not parsed.matches({"year": 2021})


def test_parse_returns_a_filter_unchanged():
    parsed = parse({"a": 1})
    assert parse(parsed) is parsed


def test_keys_are_canonical_and_typed():
    def key(where: dict) -> str:
        return parse(where).key

    assert parse({"a": 1, "b": 2}) == parse({"$and": [{"b": {"$eq": 2}}, {"a": 1}]})
    assert hash(parse({"a": 1, "b": 2})) == hash(parse({"b": 2, "a": 1}))
    assert key({"a": {"$nin": [1, 2]}}) == key({"$not": {"a": {"$in": [2, 1, 1]}}})
    different = [
        {"a": 1},
        {"a": True},
        {"a": "True"},
        {"a": "int:1"},
        {"a": "1"},
        {"a": b"1"},
        {"a": [1]},
        {"a": None},
        {"b": 1},
        {"a": {"$ne": 1}},
        {"a": {"$in": [1]}},
        {"a": {"$in": [[1]]}},
        {"a": {"$contains": 1}},
        {"a": NAIVE},
        {"a": AWARE},
        {"a": str(NAIVE)},
        {"a": 10**5000},
        {"$or": [{"a": 1}, {"b": 1}]},
        {"$and": [{"a": 1}, {"b": 1}]},
        {"a": "1),$eq('b',int:1"},
        {},
    ]
    assert len({key(where) for where in different}) == len(different)


def test_negations_become_not_around_the_positive_operator():
    root = parse({"a": {"$nin": (1,)}, "$or": [{"b": 1}]}).root
    assert isinstance(root, And)
    assert isinstance(root.parts[0], Not)
    assert isinstance(root.parts[0].part, Condition)
    assert (root.parts[0].part.op, root.parts[0].part.operand) == ("$in", [1])
    assert isinstance(root.parts[1], Or)


# Laws, over a small world in which filters often match.

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([-1.0, 0.0, 0.5, 1.0, NAN]),
    st.sampled_from(["", "a", "ab", "b"]),
    st.sampled_from([b"", b"a"]),
    st.sampled_from([NAIVE, AWARE, NAIVE + dt.timedelta(1)]),
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.sampled_from(["x", "y"]), scalars, max_size=2),
)
keys = st.sampled_from(["a", "b", "a.x"])
records = st.one_of(st.none(), st.dictionaries(keys, values, max_size=3))
comparable = scalars.filter(lambda value: value is not None and not isinstance(value, bool))
operators = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$neq", "$contains"]), values),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), comparable),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
)
tests = st.lists(operators, min_size=1, max_size=2).map(dict)
conditions = st.dictionaries(keys, tests, min_size=1, max_size=2)
filters = st.recursive(
    conditions,
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


@given(st.lists(filters, min_size=1, max_size=3), records)
def test_logic_is_pythons(parts, record):
    each = [keeps(part, record) for part in parts]
    assert keeps({"$and": parts}, record) is all(each)
    assert keeps({"$or": parts}, record) is any(each)
    assert keeps({"$not": parts[0]}, record) is not each[0]


@given(st.lists(filters, min_size=1, max_size=3), records)
def test_de_morgan(parts, record):
    negated = [{"$not": part} for part in parts]
    assert keeps({"$not": {"$and": parts}}, record) is keeps({"$or": negated}, record)
    assert keeps({"$not": {"$or": parts}}, record) is keeps({"$and": negated}, record)


@given(keys, st.lists(values, max_size=3), values, records)
def test_negative_operators(key, listed, value, record):
    assert keeps({key: {"$nin": listed}}, record) is not keeps({key: {"$in": listed}}, record)
    assert keeps({key: {"$ne": value}}, record) is not keeps({key: value}, record)
    assert keeps({key: {"$neq": value}}, record) is keeps({key: {"$ne": value}}, record)
    if keeps({key: value}, record):
        assert keeps({key: {"$in": [*listed, value]}}, record)


@given(keys, tests, records)
def test_not_below_a_key_is_not_before_it(key, test, record):
    assert keeps({key: {"$not": test}}, record) is keeps({"$not": {key: test}}, record)


@given(keys, comparable, records)
def test_order_is_consistent(key, bound, record):
    holds = {op: keeps({key: {op: bound}}, record) for op in ("$eq", "$gt", "$gte", "$lt", "$lte")}
    assert holds["$gte"] is (holds["$gt"] or holds["$eq"])
    assert holds["$lte"] is (holds["$lt"] or holds["$eq"])
    assert not (holds["$gt"] and holds["$lt"])


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_order_is_pythons(value, bound):
    record = {"a": value}
    assert keeps({"a": {"$gt": bound}}, record) is (value > bound)
    assert keeps({"a": {"$gte": float(bound)}}, record) is (value >= bound)
    assert keeps({"a": {"$lt": bound}}, record) is (value < bound)
    assert keeps({"a": {"$lte": float(bound)}}, record) is (value <= bound)


@given(filters, filters, records)
def test_equal_keys_keep_the_same_records(left, right, record):
    one, two = parse(left), parse(right)
    if one.key == two.key:
        assert one.matches(record) is two.matches(record)
    assert parse({"$and": [left, right]}).key == parse({"$and": [right, left]}).key
