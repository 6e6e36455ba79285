"""What cannot be used is refused by a typed error, and nothing of the call is applied."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import re
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from vecindex import FlatSpec, HnswSpec, IvfSpec, VectorIndex
from vecindex.errors import (
    ClosedIndexError,
    DimensionError,
    DuplicateIdError,
    EmbedderError,
    FilterError,
    FormatVersionError,
    IdTypeError,
    IndexLockedError,
    IndexPathError,
    InputError,
    MetadataError,
    ReadOnlyError,
    SpecError,
    UnknownIdError,
    VecindexError,
    VectorValueError,
)
from vecindex.spec import HnswParams

NAN, INF = float("nan"), float("inf")
TWO = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]])
FOUR = [1.0, 2, 3, 4]


def two(position: tuple[int, int], value: float) -> np.ndarray:
    """Return two good rows but for one value."""
    rows = TWO.copy()
    rows[position] = value
    return rows


def deep(levels: int) -> dict[str, Any]:
    """Return nested dicts."""
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"k": found}
    return found


@dataclass(frozen=True)
class Bad:
    """One call that must fail: how, with what error, saying what."""

    name: str
    call: Callable[[VectorIndex], object]
    error: type[VecindexError]
    says: str


def add(name: str, error: type[VecindexError], says: str, **columns: Any) -> Bad:
    """Return a bad `add`; two good vectors unless others are given."""
    columns = {"vectors": TWO} | columns
    columns = {name: column for name, column in columns.items() if column is not ...}
    return Bad(f"add {name}", lambda index: index.add(**columns), error, says)


def metadata(name: str, says: str, value: Any) -> Bad:
    """Return an `add` whose second row's metadata cannot be stored."""
    return add(f"metadata {name}", MetadataError, f"row 1: {says}", metadata=[{"a": 1}, value])


BAD_ROWS = [
    add("wrong dimension", DimensionError, "dimension 3.*dimension 4", vectors=TWO[:, :3]),
    add("1-D vectors", DimensionError, r"shape \(n, dim\), not \(4,\)", vectors=TWO[0]),
    add("1-D list", DimensionError, r"shape \(n, dim\), not \(4,\)", vectors=FOUR),
    add("3-D vectors", DimensionError, r"not \(1, 2, 4\)", vectors=TWO[None]),
    add("0-D vectors", DimensionError, r"not \(\)", vectors=np.array(1.0)),
    add("rows of no dimension", DimensionError, "at least one", vectors=np.empty((2, 0))),
    add("ragged lists", DimensionError, "row 1 has 2, row 0 has 4", vectors=[FOUR, [1, 2]]),
    add("ragged arrays", DimensionError, "row 1 has 2", vectors=[np.ones(4), np.ones(2)]),
    add("str vectors", DimensionError, "numbers, not <U1", vectors=[["a"] * 4] * 2),
    add("object vectors", DimensionError, "numbers, not object", vectors=[[None] * 4] * 2),
    add("bool vectors", DimensionError, "numbers, not bool", vectors=TWO > 2),
    add("complex vectors", DimensionError, "numbers, not complex", vectors=TWO * 1j),
    add("a number as vectors", InputError, "vectors", vectors=5),
    add("NaN", VectorValueError, "NaN or infinity in row 1$", vectors=two((1, 2), NAN)),
    add("infinity", VectorValueError, "infinity in row 0$", vectors=two((0, 0), -INF)),
    add("too large for float32", VectorValueError, "in row 0$", vectors=two((0, 0), 1e300)),
    add("zeros", VectorValueError, "all zeros.*row 1$", vectors=TWO * [[1], [0]]),
    add(
        "many bad rows",
        VectorValueError,
        "rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more",
        vectors=np.full((30, 4), NAN),
    ),
    add("ids twice", DuplicateIdError, "'a' occurs twice.*rows 0 and 1", ids=["a", "a"]),
    add("known id", DuplicateIdError, r"already: 'known' \(row 1\).*upsert", ids=[8, "known"]),
    add("known int id", DuplicateIdError, r"already: 3 \(row 0\)", ids=[3, "new"]),
    add("bool id", IdTypeError, "row 1: .*bool", ids=[8, True]),
    add("float id", IdTypeError, "row 0: .*float", ids=[1.5, 8]),
    add("None id", IdTypeError, "row 1: .*NoneType", ids=["a", None]),
    add("bytes id", IdTypeError, "row 0: .*bytes", ids=[b"a", "b"]),
    add("tuple id", IdTypeError, "row 0: .*tuple", ids=[(1, 2), "b"]),
    add("too large id", IdTypeError, "row 1: .*64 bits", ids=[1, 2**63]),
    add("too small id", IdTypeError, "row 1: .*64 bits", ids=[1, -(2**63) - 1]),
    add("too large NumPy id", IdTypeError, "row 0: .*64 bits", ids=np.array([2**64 - 1, 1], "u8")),
    add("lone surrogate id", IdTypeError, "row 1: .*Unicode", ids=["a", "\ud800"]),
    add("one str as ids", IdTypeError, r"list of ids.*\['ab'\]", ids="ab"),
    add("one int as ids", IdTypeError, r"list of ids.*\[7\]", ids=7),
    add("a number as ids", IdTypeError, "list of ids", ids=5.0),
    add("a number as texts", InputError, "texts must be a list", texts=5),
    add("a number as metadata", InputError, "metadata must be a list", metadata=5),
    add("fewer ids", InputError, "2 vectors, 1 ids", ids=["a"]),
    add("more texts", InputError, "3 texts, 2 vectors", texts=["a", "b", "c"]),
    add("fewer metadata", InputError, "2 vectors, 1 metadata", metadata=[{}]),
    add("no vectors, but ids", InputError, "0 vectors, 1 ids", vectors=[], ids=["a"]),
    add("nothing", InputError, "texts, or vectors, or both", vectors=...),
    add("only ids", InputError, "texts, or vectors", vectors=..., ids=["a", "b"]),
    add("texts without an embedder", EmbedderError, "embedder=", vectors=..., texts=["a"]),
    add("None text, no vector", InputError, "row 1 has neither", vectors=..., texts=["a", None]),
    add("one str as texts", InputError, "texts must be a list", texts="ab"),
    add("int text", InputError, "row 1: texts must hold str or None, not int", texts=["a", 5]),
    add("bytes text", InputError, "row 0: texts .* not bytes", texts=[b"a", "b"]),
    add("lone surrogate text", MetadataError, "row 1: text .*Unicode", texts=["a", "\udfff"]),
    add("one dict as metadata", InputError, "metadata must be a list", metadata={"a": 1}),
    add("str metadata", InputError, "row 1: metadata must hold dict", metadata=[None, "a"]),
    metadata("set", r"metadata\['tags'\] has type set", {"tags": {1}}),
    metadata("object", r"metadata\['x'\] has type object", {"x": object()}),
    metadata("date", r"metadata\['day'\] has type date", {"day": dt.date(2024, 1, 1)}),
    metadata("Decimal", r"metadata\['price'\] has type Decimal", {"price": Decimal(1)}),
    metadata("array", r"metadata\['x'\] has type ndarray", {"x": np.ones(2)}),
    metadata("complex", r"metadata\['x'\] has type complex", {"x": 1j}),
    metadata("int key", "metadata has the key 5; keys must be str", {5: "x"}),
    metadata("nested int key", r"metadata\['a'\] has the key 5", {"a": {5: "x"}}),
    metadata("None key in a list", r"metadata\['a'\]\[1\] has the key None", {"a": [0, {None: 1}]}),
    metadata("nested set", r"metadata\['a'\]\['b'\]\[2\] has type set", {"a": {"b": [1, 2, {3}]}}),
    metadata("too deep", r"metadata\['k'\].* is nested more than 64 deep", deep(70)),
    metadata("huge int", r"metadata\['n'\] is \d+, out of the range", {"n": 2**64}),
    metadata("huge negative int", r"metadata\['n'\] is -\d+, out of", {"n": -(2**63) - 1}),
    metadata("lone surrogate", r"metadata\['s'\] is not valid Unicode", {"s": "\ud800"}),
    metadata("lone surrogate key", r"the key '\\ud800' of metadata", {"\ud800": 1}),
    metadata(
        "msgpack extension", r"metadata\['x'\] has type ExtType", {"x": msgpack.ExtType(5, b"")}
    ),
    metadata(
        "msgpack timestamp", r"metadata\['x'\] has type Timestamp", {"x": msgpack.Timestamp(1)}
    ),
    metadata("bad element", r"metadata\['a'\]\[1\] has type set", {"a": ("x", set())}),
]
BAD_CALLS = [
    Bad(
        "upsert without vectors",
        lambda index: index.upsert(ids=["known"]),
        InputError,
        "texts, or vectors",
    ),
    Bad(
        "upsert with one bad row",
        lambda index: index.upsert(ids=["known", 3], vectors=two((1, 1), NAN)),
        VectorValueError,
        "row 1",
    ),
    Bad(
        "upsert with bad metadata",
        lambda index: index.upsert(ids=["known", 3], vectors=TWO, metadata=[{}, {"a": {1}}]),
        MetadataError,
        "row 1",
    ),
    Bad(
        "upsert ids twice",
        lambda index: index.upsert(ids=["known", "known"], vectors=TWO),
        DuplicateIdError,
        "twice",
    ),
    Bad("remove nothing given", lambda index: index.remove(), InputError, "ids or where"),
    Bad(
        "remove ids and where",
        lambda index: index.remove(["known"], where={"n": 1}),
        InputError,
        "one of them",
    ),
    Bad("remove everything", lambda index: index.remove(where={}), InputError, "empty filter"),
    Bad("remove one str", lambda index: index.remove("known"), IdTypeError, "list of ids"),
    Bad(
        "remove a bool id",
        lambda index: index.remove(["known", True]),
        IdTypeError,
        "row 1: .*bool",
    ),
    Bad(
        "remove unknown operator",
        lambda index: index.remove(where={"n": {"$near": 1}}),
        FilterError,
        r'where\["n"\]\["\$near"\]',
    ),
    Bad("get unknown id", lambda index: index.get(["nobody"]), UnknownIdError, "'nobody'"),
    Bad(
        "get some unknown ids",
        lambda index: index.get(["known", "1", 99]),
        UnknownIdError,
        "'1', 99$",
    ),
    Bad(
        "get many unknown ids",
        lambda index: index.get(range(100, 130)),
        UnknownIdError,
        "109 and 20 more",
    ),
    Bad("get one str", lambda index: index.get("known"), IdTypeError, r"\['known'\]"),
    Bad("get a number", lambda index: index.get(5.0), IdTypeError, "list of ids"),
    Bad("remove a number", lambda index: index.remove(5.0), IdTypeError, "list of ids"),
    Bad("get a bool id", lambda index: index.get([True]), IdTypeError, "row 0"),
    *(
        Bad(
            f"{name} {what}",
            lambda index, name=name, options=options: getattr(index, name)(
                *([] if name == "explain" else [TWO]), **options
            ),
            error,
            says,
        )
        for name in ("search", "search_arrays", "explain")
        for what, options, error, says in [
            ("k = 0", {"k": 0}, InputError, "k must be an int >= 1, not 0"),
            ("k = a vector", {"k": np.zeros(384)}, InputError, "k must be .*, not array.{,30}$"),
            ("k < 0", {"k": -3}, InputError, "not -3"),
            ("bool k", {"k": True}, InputError, "not True"),
            ("float k", {"k": 2.0}, InputError, r"not 2\.0"),
            ("None k", {"k": None}, InputError, "not None"),
            ("recall 0", {"recall": 0}, InputError, "recall .*not 0"),
            ("recall above 1", {"recall": 1.01}, InputError, r"not 1\.01"),
            ("recall NaN", {"recall": NAN}, InputError, "not nan"),
            ("bool recall", {"recall": True}, InputError, "not True"),
            ("str recall", {"recall": "0.9"}, InputError, "not '0.9'"),
            ("params for flat", {"params": {"ef_search": 5}}, SpecError, "flat has no .*ef_search"),
            ("params of another", {"params": HnswParams()}, SpecError, "hnsw.*flat"),
            ("params of a wrong type", {"params": 5}, SpecError, "not 5"),
            ("params and exact", {"params": {}, "exact": True}, InputError, "exact"),
            ("params and where", {"params": {}, "where": {}}, InputError, "where"),
            ("where no mapping", {"where": "n = 1"}, FilterError, "'n = 1'"),
            ("where int", {"where": 1}, FilterError, "not 1"),
            ("where operator", {"where": {"n": {"$about": 1}}}, FilterError, r"\$about"),
            ("where operand", {"where": {"n": {"$gt": None}}}, FilterError, r"\$gt.*None"),
        ]
    ),
    *(
        Bad(
            f"search for {what}",
            lambda index, query=query: index.search(query),
            error,
            says,
        )
        for what, query, error, says in [
            ("another dimension", FOUR[:3], DimensionError, "dimension 3.* 4"),
            ("another dimension, batch", TWO[:, :3], DimensionError, "dimension 3.* 4"),
            ("3-D", TWO[None], DimensionError, r"\(1, 2, 4\)"),
            ("0-D", np.array(1.0), DimensionError, r"\(\)"),
            ("0-D object", np.array(None), InputError, "query"),
            ("NaN", two((1, 1), NAN), VectorValueError, "queries.*row 1"),
            ("zeros", [0.0] * 4, VectorValueError, "queries.*row 0"),
            ("text without an embedder", "a text", EmbedderError, "embedder="),
            ("texts without an embedder", ["a", "b"], EmbedderError, "embedder="),
            ("texts and vectors", ["a", FOUR], InputError, "only texts or only vectors"),
            ("ragged rows", [FOUR, FOUR[:2]], DimensionError, "row 1 has 2"),
            ("None", None, InputError, "not NoneType"),
            ("a number", 5, InputError, "not int"),
            ("bytes", b"abcd", InputError, "not bytes"),
            ("a dict", {"a": 1}, InputError, "not dict"),
            ("bools", [True, False, True, True], DimensionError, "numbers"),
        ]
    ),
    *(
        Bad(
            f"search_arrays for {what}",
            lambda index, query=query: index.search_arrays(query),
            error,
            says,
        )
        for what, query, error, says in [
            ("one vector", FOUR, DimensionError, r"\(4,\)"),
            ("texts", ["abcd"], DimensionError, "numbers"),
            ("0-D", np.array(1.0), DimensionError, r"\(\)"),
            ("a number", 5, InputError, "queries"),
            ("None", None, InputError, "queries"),
        ]
    ),
    *(
        Bad(
            f"optimize {what}",
            lambda index, options=options: index.optimize(**options),
            error,
            says,
        )
        for what, options, error, says in [
            ("unknown structure", {"spec": "annoy"}, SpecError, "'annoy'.*'flat', 'hnsw', 'ivf'"),
            ("a spec of a wrong type", {"spec": 5}, SpecError, "unknown structure 5"),
            ("target 0", {"target_recall": 0.0}, InputError, "target_recall"),
            ("target above 1", {"target_recall": 95}, InputError, "target_recall.*95"),
            ("bool target", {"target_recall": True}, InputError, "target_recall"),
            ("queries of another dimension", {"queries": TWO[:, :3]}, DimensionError, "3"),
            ("queries as texts", {"queries": ["a"]}, EmbedderError, "embedder="),
        ]
    ),
    Bad("count operator", lambda index: index.count({"$n": 1}), FilterError, r"\$n"),
    Bad("scan operator", lambda index: index.scan({"n": {"$in": 3}}), FilterError, r"\$in"),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows and a removed one."""
    path = tmp_path_factory.mktemp("template") / "x.vx"
    with VectorIndex.create(path, maintenance="manual") as index:
        index.add(
            ids=["known", 3, "third"],
            vectors=np.eye(4)[:3],
            texts=["one", None, "three"],
            metadata=[{"n": 1}, None, {"n": 3}],
        )
        index.remove(["third"])
    return path


@pytest.fixture
def index(template: Path, path: Path, reopen: Callable[..., VectorIndex]) -> VectorIndex:
    shutil.copytree(template, path)
    return reopen("r+", durability="os")


def facts(index: VectorIndex) -> list[Any]:
    """Return what anybody can see of an index."""
    records = [(r.id, r.text, r.metadata, r.vector.tolist()) for r in index.scan(vectors=True)]
    hits = [index.search(query, k=10) for query in (FOUR, [1, 0, 0, 0])]
    return [len(index), index.dim, index.info().generation, index.info().removed, records, hits]


@pytest.mark.parametrize("bad", BAD_ROWS + BAD_CALLS, ids=lambda bad: bad.name)
def test_a_bad_call_changes_nothing(
    index: VectorIndex,
    reopen: Callable[..., VectorIndex],
    stored_bytes: Callable[[Path], dict[str, bytes]],
    bad: Bad,
) -> None:
    before, stored = facts(index), stored_bytes(index.path)
    with pytest.raises(bad.error) as caught:
        bad.call(index)
    assert re.search(bad.says, str(caught.value), re.DOTALL), str(caught.value)
    assert "\n" not in str(caught.value)
    assert facts(index) == before
    assert stored_bytes(index.path) == stored
    index.close()
    again = reopen("r+", durability="os")
    assert facts(again) == before
    assert again.add(vectors=TWO) == [4, 5], "int ids go on after the greatest"
    assert again.search(TWO[1], k=1)[0].id == 5


def test_bad_first_calls_leave_an_empty_index_as_it_was(
    create: Callable[..., VectorIndex], stored_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    index = create(durability="os", dim=4)
    stored = stored_bytes(index.path)
    for bad in BAD_ROWS:
        if not bad.name.startswith("add known"):
            with pytest.raises(bad.error):
                bad.call(index)
            assert stored_bytes(index.path) == stored, bad.name
    assert index.add(vectors=TWO) == [0, 1]


def test_refused_rows_do_not_decide_the_dimension(create: Callable[..., VectorIndex]) -> None:
    index = create()
    for bad in ({"vectors": np.full((2, 7), NAN)}, {"vectors": np.ones((2, 7)), "ids": [1, 1]}):
        with pytest.raises(InputError):
            index.add(**bad)
    with pytest.raises(MetadataError):
        index.add(vectors=np.ones((1, 7)), metadata=[{"a": {1}}])
    assert index.dim is None
    index.add(vectors=TWO)
    assert index.dim == 4


def test_errors_are_also_what_python_callers_expect() -> None:
    pairs = {
        DimensionError: ValueError,
        VectorValueError: ValueError,
        DuplicateIdError: ValueError,
        MetadataError: ValueError,
        FilterError: ValueError,
        SpecError: ValueError,
        ClosedIndexError: ValueError,
        IdTypeError: TypeError,
        UnknownIdError: LookupError,
        IndexPathError: OSError,
        IndexLockedError: BlockingIOError,
        ReadOnlyError: PermissionError,
        FormatVersionError: OSError,
        EmbedderError: RuntimeError,
    }
    for error, expected in pairs.items():
        assert issubclass(error, expected)
        assert issubclass(error, VecindexError)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"spec": "annoy"}, SpecError, "'annoy'.*'flat', 'hnsw', 'ivf', 'auto'"),
        ({"spec": None}, SpecError, "None"),
        ({"spec": {"kind": "hnsw"}}, SpecError, "kind"),
        ({"dim": 0}, DimensionError, "dim must be an int >= 1 or None, not 0"),
        ({"dim": -1}, DimensionError, "not -1"),
        ({"dim": True}, DimensionError, "not True"),
        ({"dim": 3.0}, DimensionError, r"not 3\.0"),
        ({"dim": "3"}, DimensionError, "not '3'"),
        ({"target_recall": 0}, InputError, "target_recall.*not 0"),
        ({"target_recall": 1.5}, InputError, r"not 1\.5"),
        ({"target_recall": True}, InputError, "not True"),
        ({"durability": "fsync"}, InputError, "durability .*'fsync'"),
        ({"durability": None}, InputError, "durability .*None"),
        ({"maintenance": "auto"}, InputError, "maintenance .*'auto'"),
        ({"embedder": 5}, EmbedderError, "5"),
        ({"embedder": ""}, EmbedderError, "names no model"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_create_refuses(path: Path, options: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        VectorIndex.create(path, **options)
    assert not path.exists(), "nothing is made before all arguments are known to be good"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: HnswSpec(m=1), "m must be >= 2"),
        (lambda: HnswSpec(m=0), "HnswSpec.m must be an int >= 1, not 0"),
        (lambda: HnswSpec(ef_construction=2.5), r"ef_construction .*2\.5"),
        (lambda: HnswSpec(m=True), "not True"),
        (lambda: IvfSpec(nlist=0), "nlist .*0"),
        (lambda: HnswParams(ef_search=0), "ef_search .*0"),
    ],
    ids=["m=1", "m=0", "float", "bool", "nlist=0", "ef_search=0"],
)
def test_specs_refuse_values(make: Callable[[], object], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        make()


def test_specs_refuse_unknown_parameters() -> None:
    with pytest.raises(TypeError, match="nlist"):
        HnswSpec(nlist=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        FlatSpec(m=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"nprobe": 3}, "hnsw has no parameter 'nprobe'; it has: ef_search"),
        ({"ef_search": 0}, "ef_search must be an int >= 1, not 0"),
        ({"ef_search": "64"}, "not '64'"),
        ({"ef_search": True}, "not True"),
    ],
    ids=["another's", "zero", "str", "bool"],
)
def test_structure_parameters_are_checked(
    create: Callable[..., VectorIndex], rng: np.random.Generator, params: Any, says: str
) -> None:
    index = create(spec="hnsw", durability="os")
    index.add(vectors=rng.normal(size=(60, 4)))
    index.optimize()
    before = index.search(FOUR)
    for call in (lambda: index.search(FOUR, params=params), lambda: index.explain(params=params)):
        with pytest.raises(SpecError, match=says):
            call()
    assert index.search(FOUR) == before


# -- paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("what", ["missing", "a file", "an empty directory", "another directory"])
def test_open_refuses_what_is_no_index(tmp_path: Path, what: str, mode: Any) -> None:
    path = tmp_path / "x"
    if what == "a file":
        path.write_text("hello")
    elif what != "missing":
        path.mkdir()
    if what == "another directory":
        (path / "notes.txt").write_text("hello")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IndexPathError, match=re.escape(str(path)) + " is not a vecindex index"):
        VectorIndex.open(path, mode)
    assert sorted(tmp_path.rglob("*")) == before


def test_create_refuses_an_index(index: VectorIndex, reopen: Callable[..., VectorIndex]) -> None:
    before = facts(index)
    with pytest.raises(IndexPathError, match="is an index already; open it"):
        VectorIndex.create(index.path)
    assert facts(index) == before
    index.close()
    with pytest.raises(IndexPathError, match="is an index already"):
        VectorIndex.create(index.path)
    assert facts(reopen()) == before


@pytest.mark.parametrize("what", ["a file", "a directory with a file", "a dangling link"])
def test_create_refuses_anything_else(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    if what == "a file":
        path.write_text("hello")
    elif what == "a dangling link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
        (path / "notes.txt").write_text("hello")
    with pytest.raises(IndexPathError, match="exists and is not an index"):
        VectorIndex.create(path)
    if what == "a directory with a file":
        assert [file.name for file in path.iterdir()] == ["notes.txt"]


def test_create_takes_an_empty_directory_and_makes_parents(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "a" / "b" / "c.vx"):
        with VectorIndex.create(path) as index:
            index.add(vectors=TWO)
        with VectorIndex.open(path) as index:
            assert len(index) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "w"}, "mode must be .*'w'"),
        ({"mode": "rb"}, "'rb'"),
        ({"mode": None}, "None"),
        ({"durability": "none"}, "durability .*'none'"),
        ({"maintenance": "never"}, "maintenance .*'never'"),
    ],
    ids=str,
)
def test_open_refuses_unknown_modes(index: VectorIndex, arguments: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        VectorIndex.open(index.path, **arguments)


def rewrite_version(data: bytes, version: int) -> bytes:
    """Return the frame with another format version and the checksum that goes with it."""
    header = data[:4] + struct.pack("<H", version) + data[6:60]
    return header + struct.pack("<I", zlib.crc32(header)) + data[64:]


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_newer_format_is_refused_by_name_and_nothing_is_changed(
    index: VectorIndex, mode: Any
) -> None:
    index.close()
    manifest = index.path / "MANIFEST"
    assert rewrite_version(manifest.read_bytes(), 1) == manifest.read_bytes()
    manifest.write_bytes(rewrite_version(manifest.read_bytes(), 7))
    (index.path / "LOCK").unlink()
    (index.path / "rows-99.vxr").write_bytes(b"made by a newer version")
    before = {file.name: file.read_bytes() for file in index.path.iterdir()}
    stamps = {file.name: file.stat().st_mtime_ns for file in index.path.iterdir()}
    with pytest.raises(FormatVersionError, match=r"MANIFEST has format 7.*reads format 1"):
        VectorIndex.open(index.path, mode)
    with pytest.raises(IndexPathError, match="already"):
        VectorIndex.create(index.path)
    assert {file.name: file.read_bytes() for file in index.path.iterdir()} == before
    assert {file.name: file.stat().st_mtime_ns for file in index.path.iterdir()} == stamps


def test_a_log_of_a_newer_format_is_refused(index: VectorIndex) -> None:
    index.close()
    (log,) = index.path.glob("log-*.vxl")
    log.write_bytes(rewrite_version(log.read_bytes(), 2))
    before = log.read_bytes()
    for mode in ("r", "r+"):
        with pytest.raises(FormatVersionError, match=f"{log.name} has format 2"):
            VectorIndex.open(index.path, mode)  # type: ignore[arg-type]
    assert log.read_bytes() == before


# -- handles -------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_holds_the_index(
    index: VectorIndex, reopen: Callable[..., VectorIndex]
) -> None:
    before = facts(index)
    with pytest.raises(IndexLockedError) as caught:
        VectorIndex.open(index.path, "r+")
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(caught.value)
    assert 'mode="r"' in str(caught.value)
    assert facts(index) == before
    assert index.add(vectors=TWO) == [4, 5]
    reader = reopen()
    assert len(reader) == 4
    index.close()
    assert reopen("r+").add(vectors=TWO) == [6, 7]


def test_a_lock_whose_holder_cannot_be_read_still_holds(index: VectorIndex) -> None:
    index.close()
    with (index.path / "LOCK").open("r+") as file:
        file.truncate(0)
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(IndexLockedError, match="another process"):
            VectorIndex.open(index.path, "r+")


WRITES: dict[str, Callable[[VectorIndex], object]] = {
    "add": lambda index: index.add(vectors=TWO),
    "add nothing": lambda index: index.add(vectors=[]),
    "upsert": lambda index: index.upsert(ids=["known", 3], vectors=TWO),
    "remove": lambda index: index.remove(["known"]),
    "remove where": lambda index: index.remove(where={"n": 1}),
    "flush": lambda index: index.flush(),
    "optimize": lambda index: index.optimize(),
    "compact": lambda index: index.compact(),
    "maintain": lambda index: index.maintain(),
}
READS: dict[str, Callable[[VectorIndex], object]] = {
    "len": len,
    "in": lambda index: "known" in index,
    "get": lambda index: index.get(["known"]),
    "scan": lambda index: index.scan(),
    "count": lambda index: index.count(),
    "count where": lambda index: index.count({"n": 1}),
    "search": lambda index: index.search(FOUR),
    "search batch": lambda index: index.search(TWO),
    "search_arrays": lambda index: index.search_arrays(TWO),
    "explain": lambda index: index.explain(),
    "info": lambda index: index.info(),
    "verify": lambda index: index.verify(),
    "refresh": lambda index: index.refresh(),
    "snapshot": lambda index: index.snapshot(index.path.with_suffix(".snapshot")),
    "to_dataset": lambda index: index.to_dataset(),
    "to_parquet": lambda index: index.to_parquet(
        index.path.with_suffix(".parquet"), vectors="only"
    ),
    "to_csv": lambda index: index.to_csv(index.path.with_suffix(".csv")),
    "export_faiss": lambda index: index.export_faiss(index.path.with_suffix(".faiss")),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_reader_writes_nothing(
    index: VectorIndex,
    reopen: Callable[..., VectorIndex],
    stored_bytes: Callable[[Path], dict[str, bytes]],
    write: str,
) -> None:
    index.close()
    reader = reopen()
    before, stored = facts(reader), stored_bytes(index.path)
    with pytest.raises(ReadOnlyError, match=r'open for reading; open it with mode="r\+"'):
        WRITES[write](reader)
    assert facts(reader) == before
    assert stored_bytes(index.path) == stored


def test_reading_leaves_no_trace(index: VectorIndex, reopen: Callable[..., VectorIndex]) -> None:
    index.close()
    (index.path / "LOCK").unlink()
    before = {file.name: file.stat().st_mtime_ns for file in index.path.iterdir()}
    reader = reopen()
    for call in READS.values():
        call(reader)
    reader.close()
    assert {file.name: file.stat().st_mtime_ns for file in index.path.iterdir()} == before


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_a_closed_index_answers_nothing(
    index: VectorIndex, reopen: Callable[..., VectorIndex], name: str, mode: Any
) -> None:
    index.close()
    handle = reopen(mode)
    handle.close()
    handle.close()
    assert handle.closed
    assert "closed" in repr(handle)
    with pytest.raises(ClosedIndexError, match=re.escape(str(index.path)) + " was closed"):
        (READS | WRITES)[name](handle)


def test_public_methods_are_all_among_those_tried() -> None:
    tried = {name.split()[0] for name in [*READS, *WRITES]}
    public = {name for name in dir(VectorIndex) if not name.startswith("_")}
    facts_of_a_closed_one = {"path", "mode", "dim", "closed", "close"}
    makers = {"create", "open", "from_dataset", "from_hub", "import_faiss", "repair"}
    on_the_hub = {"push_to_hub", "push_index_to_hub"}  # tests/io/test_hub.py
    assert public - facts_of_a_closed_one - makers - on_the_hub - tried == set()


def test_unknown_ids_are_passed_over_by_remove(index: VectorIndex) -> None:
    assert index.remove(["nobody", 99, "1"]) == 0
    assert index.remove(["nobody", "known", "known"]) == 1
    assert index.remove([]) == 0
    assert index.remove(where={"n": 77}) == 0
    assert len(index) == 1


@pytest.mark.parametrize(
    "value",
    [True, None, 1.5, b"known", ("known",), [3], 2**70, "\ud800", np.float32(3), object()],
    ids=lambda value: ascii(value) if type(value) is not object else "object",
)
def test_what_can_be_no_id_is_in_no_index(index: VectorIndex, value: object) -> None:
    assert value not in index


def test_k_beyond_the_index_returns_what_there_is(index: VectorIndex) -> None:
    assert [hit.id for hit in index.search([1.0, 0.5, 0, 0], k=1000)] == ["known", 3]
    ids, scores = index.search_arrays(TWO, k=10**9)
    assert ids.shape == scores.shape == (2, 2)
    assert len(index.search(FOUR, k=10**30)) == 2
    assert len(index.search(FOUR, k=np.int64(50))) == 2
    assert len(index.search(FOUR, k=50, where={"n": 1})) == 1


@pytest.mark.parametrize("spec", ["flat", "hnsw", "ivf", "auto"])
@pytest.mark.parametrize("how", ["new", "emptied", "emptied and compacted", "emptied structure"])
def test_an_empty_index_answers_with_nothing(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], spec: str, how: str
) -> None:
    index = create(spec=spec, dim=4, durability="os")
    if how != "new":
        index.add(vectors=np.eye(4))
        if how == "emptied structure":
            index.optimize()
        assert index.remove(range(4)) == 4
    if how == "emptied and compacted":
        index.compact()
    for handle in (index, reopen()):
        assert len(handle) == 0
        assert list(handle.search(FOUR)) == []
        assert handle.search(FOUR).plan.method == "none"
        assert [list(hits) for hits in handle.search(TWO)] == [[], []]
        assert handle.search([]) == []
        assert list(handle.search(FOUR, exact=True)) == []
        assert list(handle.search(FOUR, where={"n": 1})) == []
        ids, scores = handle.search_arrays(TWO, k=3)
        assert (ids.shape, ids.dtype) == ((2, 0), np.int64)
        assert (scores.shape, scores.dtype) == ((2, 0), np.float32)
        assert list(handle.scan()) == list(handle.scan({"n": 1})) == []
        with pytest.raises(UnknownIdError):
            handle.get([0])
        assert handle.get([]) == []
        assert 0 not in handle
        assert handle.count() == handle.count({"n": 1}) == 0
        assert "empty" in str(handle.explain())
        assert handle.info().rows == 0
        assert handle.verify().ok
        with pytest.raises(DimensionError):
            handle.search(FOUR[:2])
    assert index.remove(["a"]) == index.remove(where={"n": 1}) == 0
    index.optimize()
    index.compact()
    index.add(vectors=TWO, ids=["a", "b"])
    assert index.search(TWO[1], k=1)[0].id == "b"
    index.optimize()
    assert index.search(TWO[1], k=1)[0].id == "b"


def test_an_index_whose_directory_is_gone_says_so(
    index: VectorIndex, reopen: Callable[..., VectorIndex]
) -> None:
    reader = reopen()
    index.close()
    before = facts(reader)
    shutil.rmtree(index.path)
    assert facts(reader) == before, "what is open stays usable"
    with pytest.raises(IndexPathError, match="not a vecindex index"):
        VectorIndex.open(index.path)
    with pytest.raises((VecindexError, FileNotFoundError)):
        reader.refresh()
    assert facts(reader) == before
