"""What a user of `VectorIndex` relies on, one promise a test."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import gc
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecindex import Hit, Hits, HnswSpec, IvfSpec, VectorIndex
from vecindex.ann import BuildInterrupted
from vecindex.errors import (
    DimensionError,
    EmbedderError,
    EmbedderMismatchError,
    InputError,
    SpecError,
)
from vecindex.index import maintenance, rebase
from vecindex.spec import FlatSpec, HnswParams, IvfParams, Spec
from vecindex.store.manifest import read_manifest

STRUCTURES = {
    "flat": "flat",
    "hnsw": HnswSpec(m=8, ef_construction=40),
    "ivf": IvfSpec(nlist=16),
}


def clustered(rng: np.random.Generator, count: int, dim: int = 24) -> np.ndarray:
    """Return rows around 40 centres, as embeddings lie."""
    centres = rng.normal(size=(40, dim))
    return centres[rng.integers(40, size=count)] + rng.normal(scale=0.35, size=(count, dim))


def lengths(texts: list[str]) -> np.ndarray:
    """Embed a text as counts of some letters."""
    return np.array([[text.count(letter) + 0.1 for letter in "aeiou"] for text in texts])


def others(texts: list[str]) -> np.ndarray:
    """Embed in another way, in the same dimension."""
    return lengths(texts)[:, ::-1] ** 2


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "gave up waiting"
        time.sleep(0.005)


def recall(index: VectorIndex, queries: np.ndarray, k: int = 10, **how: Any) -> float:
    """Return the share of the exact k that a search finds."""
    truth, _ = index.search_arrays(queries, k=k, exact=True)
    found = [index.search(query, k=k, **how) for query in queries]
    assert all(len(hits) == k for hits in found)
    shares = [
        len({hit.id for hit in hits} & set(wanted.tolist())) / k
        for hits, wanted in zip(found, truth, strict=True)
    ]
    return float(np.mean(shares))


# -- records -------------------------------------------------------------------------------

METADATA = [
    None,
    {},
    {"str": "ü\0 \U0001f600", "empty": "", "int": -(2**63), "big": 2**64 - 1, "float": 1e-300},
    {"none": None, "true": True, "false": False, "bytes": b"\0\xff", "zero": 0},
    {"list": [1, "a", None, [2.5, {"x": [True]}]], "dict": {"a": {"b": {"c": []}}}, "": 1},
    {"naive": dt.datetime(2024, 2, 29, 23, 59, 59, 999_999)},
    {"utc": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)},
    {"aware": dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30)))},
    {"dates": [{"at": dt.datetime(9999, 12, 31)}], "a.b": 1, "$x": 2},
    {"infinite": [math.inf, -math.inf], "large": "x" * 70_000},
]


@pytest.mark.parametrize("fold", ["in the log", "folded", "reopened", "reader"])
def test_metadata_comes_back_as_it_was(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    fold: str,
) -> None:
    index = create()
    ids = index.add(vectors=rng.normal(size=(len(METADATA), 4)), metadata=METADATA)
    if fold == "folded":
        index.optimize()
    if fold == "reopened":
        index.close()
        index = reopen("r+")
    if fold == "reader":
        index = reopen()
    assert [record.metadata for record in index.get(ids)] == METADATA
    assert [record.metadata for record in index.scan()] == METADATA
    hits = index.search(np.ones(4), k=len(METADATA))
    assert {hit.id: hit.metadata for hit in hits} == dict(zip(ids, METADATA, strict=True))
    aware = index.get([7])[0].metadata["aware"]
    assert aware.utcoffset() == dt.timedelta(hours=-5, minutes=-30)


class Colour(str, enum.Enum):  # noqa: UP042  # the older way, still common
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("given", "back"),
    [
        ((1, ("a", [2])), [1, ["a", [2]]]),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.float64(1.25), 1.25),
        (bytearray(b"ab"), b"ab"),
        (Name("name"), "name"),
        (Size.LARGE, 3),
        (Colour.RED, "red"),
        ([Colour.RED, {"x": (Size.LARGE,)}], ["red", {"x": [3]}]),
    ],
    ids=lambda value: ascii(value).replace(" ", ""),
)
def test_values_become_plain_python_ones(
    create: Callable[..., VectorIndex], given: object, back: object
) -> None:
    index = create(durability="os")
    index.add(vectors=[[1.0, 2]], metadata=[{"value": given}])
    (record,) = index.scan()
    assert record.metadata == {"value": back}
    assert type(record.metadata["value"]) is type(back)


def test_nan_is_kept(create: Callable[..., VectorIndex]) -> None:
    index = create()
    index.add(vectors=[[1.0, 2]], metadata=[{"value": math.nan}])
    (record,) = index.scan()
    assert math.isnan(record.metadata["value"])
    assert index.count({"value": math.nan}) == 0
    assert index.count({"value": {"$exists": True}}) == 1


def test_given_metadata_is_neither_changed_nor_kept(create: Callable[..., VectorIndex]) -> None:
    given = {"tags": ("a", "b"), "n": np.int64(1)}
    index = create()
    index.add(vectors=[[1.0, 2]], metadata=[given])
    assert given == {"tags": ("a", "b"), "n": 1}
    index.get([0])[0].metadata["tags"].append("c")
    index.search([1.0, 2])[0].metadata["tags"].append("c")
    assert index.get([0])[0].metadata == {"tags": ["a", "b"], "n": 1}


TEXTS = ["", None, "a", "línea\n\0\ttab", "日本語 \U0001f600", "x" * 300_000]


def test_texts_come_back_as_they_were(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create()
    ids = index.add(vectors=np.eye(len(TEXTS)), texts=TEXTS)
    for handle in (index, reopen()):
        assert [record.text for record in handle.get(ids)] == TEXTS
        assert [handle.search(row, k=1)[0].text for row in np.eye(len(TEXTS))] == TEXTS
    index.optimize()
    assert [record.text for record in index.scan()] == TEXTS


def test_vectors_alone(create: Callable[..., VectorIndex], rng: np.random.Generator) -> None:
    rows = rng.normal(size=(20, 6))
    index = create()
    assert index.add(vectors=rows) == list(range(20))
    assert index.add(vectors=rows.astype(np.float16)) == list(range(20, 40))
    assert index.add(vectors=(rows * 50).astype(np.int8).tolist()) == list(range(40, 60))
    assert index.add(vectors=iter(rows.tolist())) == list(range(60, 80))
    assert index.add(vectors=[]) == []
    assert index.add(vectors=np.empty((0, 6)), ids=[], texts=[], metadata=[]) == []
    (record,) = index.get([3], vectors=True)
    assert (record.text, record.metadata) == (None, None)
    np.testing.assert_allclose(record.vector, rows[3] / np.linalg.norm(rows[3]), atol=1e-7)
    assert record.vector.dtype == np.float32
    assert record.vector.flags.writeable
    record.vector[:] = 0
    assert index.search(rows[3], k=1)[0].score == pytest.approx(1)
    assert index.get([3])[0].vector is None


def test_given_vectors_are_not_changed(create: Callable[..., VectorIndex]) -> None:
    rows = np.array([[3.0, 4.0], [6.0, 8.0]], dtype=np.float32)
    before = rows.copy()
    index = create()
    index.add(vectors=rows)
    index.search(rows)
    np.testing.assert_array_equal(rows, before)
    rows[:] = -1
    assert index.search([3.0, 4.0], k=1)[0].score == pytest.approx(1)


# -- ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize("folded", [False, True], ids=["in the log", "folded"])
def test_ids_are_distinct_by_type(create: Callable[..., VectorIndex], folded: bool) -> None:
    index = create()
    ids = [1, "1", -1, "", "é", 2**63 - 1, -(2**63), 0, "0"]
    assert index.add(ids=ids, vectors=np.eye(9), texts=[repr(i) for i in ids]) == ids
    if folded:
        index.optimize()
    assert [record.text for record in index.get(ids)] == [repr(i) for i in ids]
    assert index.remove(["1"]) == 1
    assert 1 in index
    assert "1" not in index
    assert index.upsert(ids=["1"], vectors=np.eye(9)[:1], texts=["again"]) == ["1"]
    assert [record.text for record in index.get([1, "1"])] == ["1", "again"]


def test_ids_are_plain_python_ones(create: Callable[..., VectorIndex]) -> None:
    index = create()
    ids = index.add(ids=np.array([5, 6], dtype=np.uint16), vectors=np.eye(2))
    assert [type(i) for i in ids] == [int, int]
    assert np.int64(5) in index
    assert [record.id for record in index.get(np.array([6, 5]))] == [6, 5]
    assert index.remove(np.array([5])) == 1
    more = index.add(ids=[np.str_("a"), Name("b"), Colour.RED], vectors=np.eye(3)[:, :2] + 1)
    assert more == ["a", "b", "red"]
    assert [record.id for record in index.scan()] == [6, "a", "b", "red"]
    assert [type(record.id) for record in index.scan()] == [int, str, str, str]


def test_made_ids_are_never_made_again(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create()
    assert index.add(vectors=np.eye(3)) == [0, 1, 2]
    index.remove([2])
    assert index.add(vectors=np.eye(3)[:1]) == [3]
    index.add(ids=[10, -5, "z"], vectors=np.eye(3))
    index.remove([record.id for record in index.scan()])
    index.compact()
    index.close()
    index = reopen("r+")
    assert index.add(vectors=np.eye(3)) == [11, 12, 13]
    index.add(ids=[2**63 - 2], vectors=[[1.0, 0, 0]])
    assert index.add(vectors=[[1.0, 0, 0]]) == [2**63 - 1]
    with pytest.raises(ValueError, match="no int ids are left"):
        index.add(vectors=[[1.0, 0, 0]])
    assert index.add(ids=["own"], vectors=[[1.0, 0, 0]]) == ["own"]


def test_scan_is_in_insertion_order_and_upsert_moves_to_the_end(
    create: Callable[..., VectorIndex],
) -> None:
    index = create()
    index.add(ids=["a", "b", "c"], vectors=np.ones((3, 2)))
    index.upsert(ids=["a", "d"], vectors=np.ones((2, 2)))
    for _ in range(2):
        assert [record.id for record in index.scan()] == ["b", "c", "a", "d"]
        assert [hit.id for hit in index.search([1.0, 1])] == ["b", "c", "a", "d"]
        index.compact()


def test_a_scan_shows_one_state(create: Callable[..., VectorIndex]) -> None:
    index = create()
    index.add(ids=["a", "b", "c"], vectors=np.ones((3, 2)))
    scan = index.scan()
    assert next(scan).id == "a"
    index.remove(["b"])
    index.add(ids=["d"], vectors=[[1.0, 1]])
    index.compact()
    assert [record.id for record in scan] == ["b", "c"]


def test_upsert_replaces_whole_rows(create: Callable[..., VectorIndex]) -> None:
    index = create()
    index.add(ids=["a"], vectors=[[1.0, 0]], texts=["old"], metadata=[{"n": 1, "m": 2}])
    index.upsert(ids=["a"], vectors=[[0.0, 1]], metadata=[{"n": 3}])
    (record,) = index.get(["a"], vectors=True)
    assert (record.text, record.metadata, record.vector.tolist()) == (None, {"n": 3}, [0, 1])
    assert len(index) == 1
    assert index.search([1.0, 0], k=5) == [Hit("a", 0.0, None, {"n": 3})]
    assert index.count({"n": 1}) == 0


# -- searching -----------------------------------------------------------------------------


def test_forms_of_queries(create: Callable[..., VectorIndex]) -> None:
    index = create(embedder=lengths)
    texts = ["banana", "eel", "pineapple"]
    index.add(texts=texts, ids=["b", "e", "p"])
    vectors = lengths(texts)
    one = index.search("banana", k=2)
    assert isinstance(one, Hits)
    assert one[0] == Hit("b", one[0].score, "banana", None)
    assert one == index.search(vectors[0], k=2) == index.search(vectors[0].tolist(), k=2)
    assert one == index.search(tuple(vectors[0].tolist()), k=2)
    many = index.search(texts, k=2)
    assert [hits[0].id for hits in many] == ["b", "e", "p"]
    assert many == index.search(vectors, k=2) == index.search(vectors.tolist(), k=2)
    assert many == index.search(list(vectors), k=2)
    assert index.search(["banana"], k=2) == [one]
    assert index.search(vectors[:1], k=2) == [one]
    assert index.search(np.array(texts), k=2) == many
    assert index.search([], k=2) == []


def test_hits_are_a_sequence_best_first(create: Callable[..., VectorIndex]) -> None:
    index = create()
    index.add(
        ids=["far", "near"],
        vectors=[[-3.0, 0], [5, 0]],
        texts=["f", None],
        metadata=[None, {"n": 1}],
    )
    hits = index.search([2.0, 0], k=5)
    assert len(hits) == 2
    assert list(hits) == hits[:] == [Hit("near", 1.0, None, {"n": 1}), Hit("far", -1.0, "f", None)]
    assert hits[-1].id == "far"
    assert "near" in repr(hits)
    assert "2 rows" in str(hits.plan)
    assert hits == index.search([1.0, 0], k=5)
    with pytest.raises(TypeError):
        hash(hits)


def test_search_arrays_types(create: Callable[..., VectorIndex], rng: np.random.Generator) -> None:
    index = create()
    rows = rng.normal(size=(30, 5))
    index.add(vectors=rows)
    ids, scores = index.search_arrays(rows[:4], k=7)
    assert (ids.dtype, ids.shape) == (np.int64, (4, 7))
    assert (scores.dtype, scores.shape) == (np.float32, (4, 7))
    assert (np.diff(scores) <= 0).all()
    hits = index.search(rows[:4], k=7)
    assert ids.tolist() == [[hit.id for hit in one] for one in hits]
    assert scores.tolist() == [[hit.score for hit in one] for one in hits]
    assert index.search_arrays(np.empty((0, 5)), k=7)[0].shape == (0, 7)
    index.add(ids=["x"], vectors=rows[:1])
    ids, _ = index.search_arrays(rows[:4], k=7)
    assert (ids.dtype, ids.shape) == (object, (4, 7))
    assert ids[0].tolist()[:2] == [0, "x"]
    assert {type(i) for i in ids.ravel()} == {int, str}


def test_search_arrays_gives_ints_when_the_last_str_id_is_gone(
    create: Callable[..., VectorIndex],
) -> None:
    index = create()
    index.add(ids=[1, 2, "x"], vectors=np.eye(3))
    index.remove(["x"])
    index.compact()
    assert index.search_arrays(np.eye(3))[0].dtype == np.int64


@pytest.mark.parametrize("spec", STRUCTURES.values(), ids=STRUCTURES)
def test_filters_never_shorten_a_result(
    create: Callable[..., VectorIndex], rng: np.random.Generator, spec: Spec
) -> None:
    index = create(spec=spec)
    rows = clustered(rng, 900)
    index.add(vectors=rows, metadata=[{"n": i, "third": i % 3 == 0} for i in range(900)])
    index.optimize()
    index.add(vectors=rows[:90], metadata=[{"n": 900 + i, "tail": True} for i in range(90)])
    for where, kept in [
        ({"third": True}, range(0, 900, 3)),
        ({"n": {"$lt": 7}}, range(7)),
        ({"n": {"$gte": 895, "$lt": 905}}, range(895, 905)),
        ({"tail": True}, range(900, 990)),
        ({"n": -1}, []),
    ]:
        wanted = set(kept)
        assert index.count(where) == len(wanted)
        hits = index.search(rows[5], k=20, where=where)
        assert len(hits) == min(20, len(wanted))
        assert {hit.id for hit in hits} <= wanted
        assert hits.plan.method == "exact"
        assert hits.plan.searched == len(wanted)
        everything = index.search(rows[5], k=990, exact=True)
        assert list(hits) == [hit for hit in everything if hit.id in wanted][:20]
        ids, _ = index.search_arrays(rows[:2], k=20, where=where)
        assert ids[0].tolist() == [hit.id for hit in index.search(rows[0], k=20, where=where)]


@pytest.mark.parametrize(
    ("spec", "name", "params"),
    [
        (STRUCTURES["hnsw"], "ef_search", HnswParams),
        (STRUCTURES["ivf"], "nprobe", IvfParams),
    ],
    ids=["hnsw", "ivf"],
)
def test_recall_and_params_override_for_one_call(
    create: Callable[..., VectorIndex],
    rng: np.random.Generator,
    spec: Spec,
    name: str,
    params: Any,
) -> None:
    index = create(spec=spec, target_recall=0.8)
    rows = clustered(rng, 3000)
    index.add(vectors=rows)
    index.optimize()
    query = rng.normal(size=24)
    info = index.info()
    assert info.calibration is not None
    curve = {point.params[name]: point for point in info.calibration.points}
    chosen = index.search(query).plan.params[name]
    assert info.params == {name: chosen}
    assert curve[chosen].bound >= 0.8
    assert index.search(query).plan == index.explain()
    assert "recall 0.8" in str(index.explain())
    for target in (0.5, 0.95):
        plan = index.search(query, recall=target).plan
        assert plan == index.explain(recall=target)
        best = info.calibration.cheapest(target)
        assert plan.params == (best.params if best else {})
        assert plan.method == (spec.kind if best else "exact")
    for own in ({name: 7}, params(7)):
        hits = index.search(query, params=own)
        assert hits.plan.params == {name: 7}
        assert hits.plan == index.explain(params=own)
        np.testing.assert_array_equal(
            index.search_arrays(query[None], params=own)[0], [[hit.id for hit in hits]]
        )
    impossible = max(point.bound for point in curve.values()) + 1e-9
    if impossible < 1:
        plan = index.explain(recall=impossible)
        assert plan.method == "exact"
        assert "no measured setting" in plan.reason
    exact = index.search(query, exact=True)
    assert exact.plan == index.explain(exact=True)
    assert exact.plan.method == "exact"
    with pytest.raises(SpecError):
        index.search(query, params={"nlist": 3})


def test_explain_counts_the_tail(
    create: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create(spec="hnsw")
    rows = clustered(rng, 400)
    index.add(vectors=rows)
    assert index.explain().method == "exact"
    assert "no structure yet" in str(index.explain())
    index.optimize()
    index.add(vectors=rows[:30])
    plan = index.search(rows[0]).plan
    assert plan == index.explain()
    assert (plan.method, plan.tail, plan.total) == ("hnsw", 30, 430)
    assert "30 rows outside the structure searched beside it" in str(plan)
    index.remove([0])
    assert index.explain().total == 429


def test_scores_are_equal_to_the_last_bit(
    create: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    rows, queries = clustered(rng, 1500), clustered(rng, 30)
    index = create(spec="flat")
    index.add(vectors=rows[:1000])
    index.optimize()
    index.add(vectors=rows[1000:])
    truth = {}
    for number, query in enumerate(queries):
        for hit in index.search(query, k=1500):
            truth[number, hit.id] = hit.score
    assert len(truth) == 30 * 1500
    unit = rows.astype(np.float32).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    for (number, row), score in truth.items():
        assert score == pytest.approx(
            unit[row] @ queries[number] / np.linalg.norm(queries[number]), abs=2e-7
        )
    for spec in STRUCTURES.values():
        index.optimize(spec)
        for batch in (index.search(queries), [index.search(query) for query in queries]):
            for number, hits in enumerate(batch):
                assert [hit.score for hit in hits] == [truth[number, hit.id] for hit in hits]
        ids, scores = index.search_arrays(queries, k=25, exact=True)
        assert scores.tolist() == [[truth[n, i] for i in row] for n, row in enumerate(ids.tolist())]
        hits = index.search(queries[0], where={"$not": {"x": 1}}, k=25)
        assert [hit.score for hit in hits] == [truth[0, hit.id] for hit in hits]


# -- facts ---------------------------------------------------------------------------------


def test_info(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], path: Path
) -> None:
    index = create(spec=HnswSpec(m=4), target_recall=0.9, durability="os")
    info = index.info()
    assert (info.path, info.mode, info.format) == (str(path), "r+", 1)
    assert (info.rows, info.removed, info.dim, info.structure) == (0, 0, None, None)
    assert info.spec == {"kind": "hnsw", "m": 4, "ef_construction": 150, "codes": "float32"}
    assert (info.durability, info.maintenance, info.notes) == ("os", "manual", ())
    assert (info.params, info.calibration, info.embedder) == (None, None, None)
    index.add(vectors=np.random.default_rng(0).normal(size=(500, 8)))
    index.optimize()
    index.add(vectors=np.eye(8))
    index.remove([0, 1, 505])
    info = index.info()
    assert (info.rows, info.removed, info.dim) == (505, 3, 8)
    assert (info.structure, info.indexed, info.tail) == ("hnsw", 500, 8)
    assert info.target_recall == 0.9
    assert info.calibration is not None
    assert info.calibration.source == "rows"
    assert info.params in [point.params for point in info.calibration.points]
    on_disk = sum(file.stat().st_size for file in path.iterdir())
    assert 0.9 * on_disk < info.size_bytes <= on_disk
    again = reopen().info()
    assert (again.mode, again.rows, again.calibration) == ("r", 505, info.calibration)
    assert again.generation == info.generation
    assert repr(index) == f"VectorIndex({str(path)!r}, mode='r+', 505 rows)"
    assert again.to_dict()["spec"] == info.spec


def test_progress_is_reported(create: Callable[..., VectorIndex], rng: np.random.Generator) -> None:
    said: list[tuple[str, int, int | None]] = []

    def hear(stage: str, done: int, total: int | None) -> None:
        said.append((stage, done, total))

    index = create(embedder=lengths, spec="hnsw")
    index.add(texts=["abc"] * 300, progress=hear)
    assert said[-1] == ("embed", 300, 300)
    index.optimize(progress=hear)
    assert {stage for stage, _, _ in said} == {"embed", "build", "calibrate"}
    index.verify(progress=hear)
    assert said[-1][0] == "verify"
    assert said[-1][1] == said[-1][2]


def test_a_progress_that_raises_leaves_the_state_before(
    create: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create(spec="hnsw")
    index.add(vectors=rng.normal(size=(300, 8)))
    files = sorted(file.name for file in index.path.iterdir())

    def stop(stage: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.optimize(progress=stop)
    assert index.info().indexed == 0
    left = sorted(file.name for file in index.path.iterdir())
    assert not [name for name in left if name.startswith("structure")], (files, left)
    assert index.verify().ok
    index.optimize()
    assert index.info().indexed == 300


def test_import_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'datasets', 'sentence_transformers', 'transformers', 'pyarrow', 'pandas'}"
    code = f"import sys, vecindex; sys.exit(', '.join({heavy} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -- embedders -----------------------------------------------------------------------------


def test_the_embedder_of_an_index_is_kept_and_compared(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create(embedder=lengths)
    assert index.info().embedder is None, "nothing was embedded yet"
    index.add(texts=["banana", "eel"], ids=["b", "e"])
    name = f"function:{__name__}.lengths"
    assert index.info().embedder == name
    stored = read_manifest(index._store.directory).embedder
    assert stored is not None
    assert (stored["name"], stored["dim"]) == (name, 5)
    assert len(stored["canaries"]) == 3 * 5 * 4
    index.close()

    same = reopen("r+", embedder=lambda texts: lengths(texts) * 2)
    assert same.search("banana", k=1)[0].id == "b", "another name, but the same directions"
    same.add(texts=["oo"], ids=["o"])
    same.close()

    wrong = reopen("r+", embedder=others)
    before = len(wrong)
    for call in (
        lambda: wrong.search("banana"),
        lambda: wrong.search(["banana", "eel"]),
        lambda: wrong.add(texts=["oo"]),
        lambda: wrong.upsert(ids=["b"], texts=["oo"]),
        lambda: wrong.optimize(queries=["banana"]),
    ):
        with pytest.raises(EmbedderMismatchError, match=r"lengths.*others"):
            call()
    assert len(wrong) == before
    assert wrong.search(lengths(["banana"])[0], k=1)[0].id == "b", "vectors need no embedder"
    wrong.close()

    narrow = reopen(embedder=lambda texts: lengths(texts)[:, :3])
    with pytest.raises(EmbedderMismatchError, match="dimensions differ"):
        narrow.search("banana")


def test_an_index_answers_without_its_embedder(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create(embedder=lengths)
    index.add(texts=["banana", "eel"], ids=["b", "e"], metadata=[{"n": 1}, None])
    index.close()
    bare = reopen("r+")
    query = lengths(["banana"])[0]
    assert bare.search(query, k=1)[0].text == "banana"
    assert bare.search_arrays(query[None], k=1)[0].tolist() == [["b"]]
    assert bare.get(["e"])[0].text == "eel"
    assert [record.id for record in bare.scan({"n": 1})] == ["b"]
    bare.add(vectors=query[None] * 3, texts=["given"], ids=["g"])
    assert bare.remove(["g"]) == 1
    for call in (lambda: bare.search("banana"), lambda: bare.add(texts=["oo"])):
        with pytest.raises(EmbedderError, match=r"lengths, which cannot be restored.*embedder="):
            call()
    assert len(bare) == 2


def test_texts_and_vectors_together_are_not_embedded(create: Callable[..., VectorIndex]) -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return lengths(texts)

    index = create(embedder=embed)
    index.add(vectors=[[9.0, 0, 0, 0, 0]], texts=["eel"], ids=["given"])
    assert "eel" not in asked
    assert index.get(["given"], vectors=True)[0].vector.tolist() == [1, 0, 0, 0, 0]
    index.add(vectors=[[1.0] * 5], texts=[None])


@pytest.mark.parametrize(
    ("embed", "says"),
    [
        (lambda texts: np.ones((len(texts) + 1, 5)), "returned 4|embeddings"),
        (lambda texts: np.full((len(texts), 5), np.nan), "NaN"),
        (lambda texts: np.zeros((len(texts), 5)), "zeros"),
        (lambda texts: [["a"]] * len(texts), "numbers"),
        (lambda texts: np.ones(5), "shape"),
        (lambda texts: None, "must return"),
    ],
    ids=["too many", "NaN", "zeros", "str", "1-D", "None"],
)
def test_unusable_embeddings_are_the_embedders_fault(
    create: Callable[..., VectorIndex], embed: Callable[..., Any], says: str
) -> None:
    index = create(embedder=embed)
    with pytest.raises(EmbedderError, match=says):
        index.add(texts=["a", "b"])
    assert len(index) == 0
    assert index.dim is None
    assert index.info().embedder is None


def test_an_error_of_the_embedder_passes_and_adds_nothing(
    create: Callable[..., VectorIndex],
) -> None:
    def embed(texts: list[str]) -> np.ndarray:
        if "bad" in texts:
            raise RuntimeError("the model is out of order")
        return lengths(texts)

    index = create(embedder=embed)
    index.add(texts=["good"])
    with pytest.raises(RuntimeError, match="out of order"):
        index.add(texts=["good", "bad"])
    with pytest.raises(RuntimeError, match="out of order"):
        index.search("bad")
    assert len(index) == 1
    assert index.search("good", k=1)[0].text == "good"


def test_embeddings_of_another_dimension_than_the_index(
    create: Callable[..., VectorIndex],
) -> None:
    index = create(dim=3, embedder=lengths)
    with pytest.raises(DimensionError, match=r"embedder .*lengths.*dimension 5.*3"):
        index.add(texts=["a"])
    assert index.info().embedder is None
    assert len(index) == 0


@pytest.mark.parametrize("dim", [None, 3])
def test_an_embedder_of_another_dimension_is_never_bound(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], dim: int | None
) -> None:
    """Or else the right one would be refused for ever."""
    index = create(dim=dim, embedder=lengths)
    with contextlib.suppress(DimensionError):  # or the rows are taken, and no embedder is bound
        index.add(vectors=np.eye(3))
    stored = read_manifest(index._store.directory).embedder
    assert stored is None or stored["dim"] == index.dim
    index.close()
    again = reopen("r+", embedder=lambda texts: lengths(texts)[:, :3])
    again.add(texts=["banana"], ids=["b"])
    assert again.search("banana", k=1)[0].id == "b"


def test_a_given_embedder_is_bound_by_the_first_vectors(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create(embedder=lengths)
    index.add(vectors=lengths(["banana", "eel"]), ids=["b", "e"])
    assert index.search("banana", k=1)[0].id == "b"
    index.close()
    with pytest.raises(EmbedderMismatchError):
        reopen(embedder=others).search("banana")


# -- deletes, the tail, folding --------------------------------------------------------------


@pytest.mark.parametrize("spec", [STRUCTURES["hnsw"], IvfSpec()], ids=["hnsw", "ivf"])
def test_recall_survives_the_removal_of_the_nearest(
    create: Callable[..., VectorIndex], rng: np.random.Generator, spec: Spec
) -> None:
    index = create(spec=spec, target_recall=0.9)
    rows = clustered(rng, 5000)
    index.add(vectors=rows)
    index.optimize()
    queries = rows[rng.choice(5000, 20, replace=False)] + rng.normal(scale=0.1, size=(20, 24))
    assert index.explain().method == spec.kind
    removed = {hit.id for hit in index.search(queries[0], k=200, exact=True)}
    assert index.remove(list(removed)) == 200
    near = queries[0] + rng.normal(scale=0.05, size=(20, 24))
    for asked in (near, queries):
        assert recall(index, asked) >= 0.9
        for hits in index.search(asked):
            assert not {hit.id for hit in hits} & removed
    assert index.search(near[0], k=1).plan.method == spec.kind
    index.optimize()
    assert index.info().removed in (0, 200)
    for asked in (near, queries):
        assert recall(index, asked) >= 0.9
    index.remove([record.id for record in index.scan() if record.id % 10])
    assert recall(index, queries) >= 0.9
    assert len(index.search(queries[0], k=len(index) + 5)) == len(index)


@pytest.mark.parametrize("spec", STRUCTURES.values(), ids=STRUCTURES)
def test_new_rows_are_found_at_once(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    spec: Spec,
) -> None:
    index = create(spec=spec)
    index.add(vectors=clustered(rng, 600))
    index.optimize()
    reader = reopen()
    fresh = clustered(rng, 25)
    for number, row in enumerate(fresh):
        index.add(ids=[f"new {number}"], vectors=row[None])
        assert index.search(row, k=1)[0].id == f"new {number}"
    assert "new 0" not in reader
    assert reader.search(fresh[0], k=1)[0].id != "new 0"
    assert reader.refresh() is True
    assert reader.refresh() is False
    for number, row in enumerate(fresh):
        assert reader.search(row, k=1)[0].id == f"new {number}"
    index.remove(["new 3"])
    index.upsert(ids=["new 4"], vectors=-fresh[4][None])
    assert reader.search(fresh[3], k=1)[0].id == "new 3"
    assert reader.refresh()
    for handle in (index, reader):
        assert handle.search(fresh[3], k=1)[0].id != "new 3"
        assert handle.search(fresh[4], k=1)[0].id != "new 4"
        assert handle.search(-fresh[4], k=1)[0].id == "new 4"
    assert index.refresh() is False


@pytest.mark.parametrize("spec", ["hnsw", "ivf"])
def test_folding_in_the_background_disturbs_nobody(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    spec: str,
) -> None:
    monkeypatch.setattr(maintenance, "_FIRST_ROWS", 1500)
    monkeypatch.setattr(maintenance, "_fold_rows", lambda *_: 600)  # else as the timings say
    monkeypatch.setattr(maintenance, "_SEAL_BYTES", 100_000)
    build = rebase.ann.build
    building, go_on = threading.Event(), threading.Event()

    def held(*args: Any, **kwargs: Any) -> Any:
        building.set()
        assert go_on.wait(60)
        return build(*args, **kwargs)

    monkeypatch.setattr(rebase.ann, "build", held)
    index = create(spec=spec, maintenance="background", durability="os")
    rows = clustered(rng, 4000)
    model = dict(zip(index.add(vectors=rows[:1600]), rows, strict=False))
    assert building.wait(60)
    # The fold has read its rows and waits; meanwhile everything else goes on.
    for start in range(1600, 3000, 100):
        ids = index.add(vectors=rows[start : start + 100])
        model.update(zip(ids, rows[start : start + 100], strict=True))
    assert index.remove(range(0, 200)) == 200
    index.upsert(ids=range(200, 260), vectors=-rows[200:260])
    for record_id in range(200):
        del model[record_id]
    for record_id in range(200, 260):
        del model[record_id]
        model[record_id] = -rows[record_id]
    reader = reopen()

    def check(handle: VectorIndex) -> None:
        assert [record.id for record in handle.scan()] == list(model)
        for record_id in [*range(200, 210), *list(model)[::97]]:
            assert handle.search(model[record_id], k=1, exact=True)[0].id == record_id
        sample = np.array([model[i] for i in list(model)[::60]])
        assert recall(handle, sample) >= 0.9
        for hits in handle.search(rows[:200:11], k=10):
            assert not {hit.id for hit in hits} & set(range(200))

    assert index.info().indexed == 0
    check(index)
    check(reader)
    go_on.set()
    wait_until(lambda: index.info().indexed > 0)
    check(index)
    reader.refresh()
    check(reader)
    wait_until(
        lambda: index._maintenance._thread is None or not index._maintenance._thread.is_alive()
    )
    assert index.info().notes == ()
    assert index.info().tail < 700
    check(index)
    index.close()
    check(reopen())


def test_closing_gives_a_fold_up(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maintenance, "_FIRST_ROWS", 100)
    started = threading.Event()

    def endless(*args: Any, should_stop: Callable[[], bool], **kwargs: Any) -> Any:
        started.set()
        wait_until(should_stop)
        raise BuildInterrupted("stopped")

    monkeypatch.setattr(rebase.ann, "build", endless)
    index = create(spec="hnsw", maintenance="background")
    index.add(vectors=rng.normal(size=(150, 4)))
    assert started.wait(60)
    index.close()
    again = reopen("r+")
    assert len(again) == 150
    assert again.info().indexed == 0
    assert not list(again.path.glob("structure-*"))
    assert again.verify().ok


FORGETS = """
import sys
import numpy as np
from vecindex import VectorIndex
from vecindex.index import maintenance
maintenance._FIRST_ROWS = 5000
index = VectorIndex.create(sys.argv[1], spec="hnsw")
index.add(vectors=np.random.default_rng(0).normal(size=(20_000, 32)))
assert index._maintenance._thread.is_alive()
"""


def test_a_process_that_forgets_to_close_ends_cleanly(
    path: Path, reopen: Callable[..., VectorIndex]
) -> None:
    """Though a fold is going on in the background."""
    command = [sys.executable, "-c", FORGETS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    index = reopen("r+")
    assert len(index) == 20_000
    assert index.verify().ok


def test_a_failing_fold_is_noted_and_tried_again_on_demand(
    create: Callable[..., VectorIndex], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_FIRST_ROWS", 100)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no graph today")

    with monkeypatch.context() as patch:
        patch.setattr(rebase.ann, "build", fail)
        index = create(spec="hnsw", maintenance="background")
        rows = rng.normal(size=(150, 4))
        index.add(vectors=rows)
        wait_until(lambda: bool(index.info().notes))
        assert "no graph today" in index.info().notes[0]
        index.add(vectors=rows)
        assert len(index) == 300
        assert index.search(rows[3], k=1)[0].id == 3
    index.optimize()
    assert index.info().indexed == 300
    assert index.verify().ok


def test_threads_may_search_while_others_write(
    create: Callable[..., VectorIndex], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_SEAL_OPERATIONS", 10)
    monkeypatch.setattr(maintenance, "_FIRST_ROWS", 200)
    monkeypatch.setattr(maintenance, "_LEAST_ROWS", 100)
    index = create(spec="hnsw", maintenance="background", durability="os", dim=16)
    rows = clustered(rng, 1200, dim=16)
    failures: list[BaseException] = []
    done = threading.Event()

    def write(first: int) -> None:
        for start in range(first, 1200, 40):
            index.add(ids=range(start, start + 10), vectors=rows[start : start + 10])
            index.remove([start])

    def read() -> None:
        while not done.is_set():
            hits = index.search(rows[7], k=5)
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
            seen = Counter(record.id // 10 for record in index.scan())
            assert set(seen.values()) <= {9, 10}, "an add of ten was seen in part"

    def guarded(work: Callable[..., None], *arguments: int) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=guarded, args=(write, 10 * i)) for i in range(4)]
    readers = [threading.Thread(target=guarded, args=(read,)) for _ in range(2)]
    for thread in [*writers, *readers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not failures, failures
    assert {record.id for record in index.scan()} == set(range(1200)) - set(range(0, 1200, 10))
    index.optimize()
    assert len(index) == 1080
    assert index.verify().ok


# -- damage, optimize, compact ---------------------------------------------------------------


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("spec", [STRUCTURES["hnsw"], STRUCTURES["ivf"]], ids=["hnsw", "ivf"])
@pytest.mark.parametrize("damage", ["flipped", "missing", "too short"])
def test_a_damaged_structure_costs_speed_not_answers(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    spec: Spec,
    damage: str,
) -> None:
    index = create(spec=spec)
    rows = clustered(rng, 800)
    index.add(vectors=rows)
    index.optimize()
    truth = index.search(rows[:9], k=10, exact=True)
    index.close()
    (file,) = index.path.glob("structure-*.faiss")
    if damage == "flipped":
        flip(file, file.stat().st_size // 2)
    elif damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])

    reader = reopen()
    assert reader.search(rows[:9], k=10) == truth
    plan = reader.search(rows[0]).plan
    assert plan.method == "exact"
    assert "damaged" in plan.reason
    report = reader.verify()
    assert [problem.file for problem in report.problems] == [file.name]
    assert all(problem.rebuildable for problem in report.problems)
    if damage == "flipped":
        assert any(file.name in note for note in reader.info().notes)
    with pytest.raises(ValueError, match="no parameter"):
        reader.search(rows[0], params={"nlist": 5})

    writer = reopen("r+")
    assert writer.search(rows[:9], k=10) == truth
    writer.optimize()
    assert writer.verify().ok
    assert writer.explain().method == spec.kind
    assert reader.refresh()
    assert reader.explain().method == spec.kind
    assert recall(reader, rows[:50]) >= 0.9


def test_a_background_writer_rebuilds_a_damaged_structure(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create(spec="hnsw")
    rows = clustered(rng, 500)
    index.add(vectors=rows)
    index.optimize()
    index.close()
    (file,) = index.path.glob("structure-*.faiss")
    flip(file, 5000)
    writer = reopen("r+", maintenance="background")
    assert writer.search(rows[3], k=1)[0].id == 3
    wait_until(lambda: writer.explain().method == "hnsw")
    assert writer.search(rows[3], k=1)[0].id == 3
    assert writer.verify().ok
    wait_until(lambda: not file.exists())  # the thread that wrote the new one removes it last


def test_optimize_changes_structure_and_promise(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create()
    rows = clustered(rng, 2000)
    index.add(vectors=rows)
    assert index.info().spec == {"kind": "auto"}
    assert index.info().structure == "flat"
    index.optimize("ivf", 0.8)
    assert (index.info().structure, index.info().target_recall) == ("ivf", 0.8)
    index.optimize(target_recall=0.97)
    info = index.info()
    assert (info.structure, info.target_recall) == ("ivf", 0.97)
    assert info.calibration is not None
    (point,) = [point for point in info.calibration.points if point.params == info.params]
    assert point.bound >= 0.97
    index.optimize(HnswSpec(m=5))
    assert index.info().spec == {"kind": "hnsw", "m": 5, "ef_construction": 150, "codes": "float32"}
    assert index.info().structure == "hnsw"
    assert len(list(index.path.glob("structure-*"))) == 1
    index.optimize(queries=rows[:40] + 0.1)
    calibration = index.info().calibration
    assert (calibration.source, calibration.queries) == ("queries", 40)
    index.close()
    again = reopen("r+")
    assert again.info().calibration == calibration
    again.optimize(FlatSpec())
    assert again.info().structure == "flat"
    assert not list(again.path.glob("structure-*"))
    assert again.search(rows[5], k=1)[0].id == 5


def test_given_queries_are_kept_for_later_folds(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create(spec="hnsw", target_recall=0.8)
    rows = clustered(rng, 2000)
    index.add(vectors=rows[:1000])
    with pytest.raises(InputError, match="queries holds none"):
        index.optimize(queries=[])
    index.optimize(queries=rows[:40] + 0.1)
    index.close()
    again = reopen("r+")
    again.add(vectors=rows[1000:])
    again.optimize()
    info = again.info()
    assert info.calibration is not None
    assert (info.indexed, info.calibration.source, info.calibration.queries) == (
        2000,
        "queries",
        40,
    )
    (file,) = again.path.glob("queries-*")
    again.optimize(queries=rows[:30] + 0.1)
    assert again.info().calibration.queries == 30
    assert not file.exists()
    (file,) = again.path.glob("queries-*")
    assert again.verify().ok
    again.close()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    again = reopen("r+")
    assert [problem.file for problem in again.verify().problems] == [file.name]
    again.optimize()
    assert again.info().calibration.source == "rows"
    assert any("queries given before are damaged" in note for note in again.info().notes)
    assert again.verify().ok


def test_optimize_extends_a_structure_with_new_rows(
    create: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create(spec=STRUCTURES["hnsw"], target_recall=0.9)
    rows = clustered(rng, 2000)
    index.add(vectors=rows[:1000])
    index.optimize()
    index.remove(range(50))
    for start in range(1000, 2000, 250):
        index.add(vectors=rows[start : start + 250])
        index.optimize()
        assert index.info().tail == 0
        assert index.info().removed == 50, "few removed rows stay in place"
        assert recall(index, rows[60:start:50]) >= 0.9
    assert [record.id for record in index.scan()] == list(range(50, 2000))
    index.compact()
    assert index.info().removed == 0
    assert index.info().indexed == 1950
    assert recall(index, rows[60::50]) >= 0.9


@pytest.mark.parametrize("spec", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("stage", ["in the log", "folded", "removed and folded"])
def test_compact_wipes_removed_rows_from_every_file(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    spec: Spec,
    stage: str,
) -> None:
    index = create(spec=spec)
    rows = rng.normal(size=(300, 32)).astype(np.float32)
    ids = [f"user-{i:03d}" for i in range(300)]
    index.add(
        ids=ids,
        vectors=rows,
        texts=[f"secret-text-{i:03d} " * 20 for i in range(300)],
        metadata=[{"note": f"secret-note-{i:03d}"} for i in range(300)],
    )
    vectors = {record.id: record.vector.tobytes() for record in index.scan(vectors=True)}
    if stage != "in the log":
        index.optimize()

    def everything() -> bytes:
        return b"".join(file.read_bytes() for file in index.path.iterdir())

    gone = ids[::10]
    for record_id in gone:
        assert record_id.encode() in everything()
        assert vectors[record_id] in everything()
    index.remove(gone)
    index.upsert(ids=[ids[1]], vectors=-rows[1:2], texts=["replaced"])
    if stage == "removed and folded":
        index.optimize()
        assert b"secret-text-000" not in everything(), "texts go with the first fold"
        assert (vectors[ids[0]] in everything()) == (spec != "flat"), "the structure keeps its rows"
    index.compact()
    stored = everything()
    for record_id in gone:
        assert record_id.encode() not in stored
        assert f"secret-text-{record_id[-3:]}".encode() not in stored
        assert f"secret-note-{record_id[-3:]}".encode() not in stored
        assert vectors[record_id] not in stored
    assert b"secret-text-001" not in stored, "what an upsert replaced is gone, too"
    assert vectors[ids[1]] not in stored
    assert b"secret-text-003" in stored
    assert vectors[ids[3]] in stored
    assert index.info().removed == 0
    kept = [record_id for record_id in ids if record_id not in (*gone, ids[1])]
    for handle in (index, reopen()):
        assert [record.id for record in handle.scan()] == [*kept, ids[1]]
        assert handle.verify().ok
        assert handle.search(rows[3], k=1)[0].id == ids[3]


@pytest.mark.parametrize("spec", STRUCTURES.values(), ids=STRUCTURES)
def test_compact_gives_space_back(
    create: Callable[..., VectorIndex], rng: np.random.Generator, spec: Spec
) -> None:
    index = create(spec=spec)
    index.add(vectors=rng.normal(size=(1000, 32)), texts=["a text " * 20] * 1000)
    index.optimize()
    before = sum(file.stat().st_size for file in index.path.iterdir())
    index.remove(range(0, 900))
    index.compact()
    assert sum(file.stat().st_size for file in index.path.iterdir()) < 0.2 * before
    index.remove(range(900, 1000))
    index.compact()
    assert sum(file.stat().st_size for file in index.path.iterdir()) < 1000


def test_a_stale_reader_verifies_what_is_there(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create()
    index.add(vectors=rng.normal(size=(50, 4)))
    reader = reopen()
    index.remove([3])
    index.compact()
    report = reader.verify()
    assert report.ok, report.problems


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_commit_during_verify_is_no_damage(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    mode: str,
) -> None:
    """A fold may replace the files that are being read."""
    index = create(spec="hnsw")
    index.add(vectors=rng.normal(size=(50, 4)))
    index.optimize()
    index.add(vectors=rng.normal(size=(5, 4)))
    handle = reopen() if mode == "r" else index
    folded = False

    def fold(stage: str, done: int, total: int | None) -> None:
        nonlocal folded
        if not folded:
            folded = True
            index.remove([3])
            index.compact()

    report = handle.verify(progress=fold)
    assert folded
    assert report.ok, report.problems
    assert report.rows == 54


@pytest.mark.parametrize("durability", ["sync", "os"])
@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("pattern", ["rows-*", "vectors-*", "ids-*", "log-*"])
def test_verify_names_damage(
    create: Callable[..., VectorIndex],
    rng: np.random.Generator,
    pattern: str,
    where: str,
    durability: str,
) -> None:
    index = create(durability=durability)
    index.add(vectors=rng.normal(size=(50, 4)), texts=["text"] * 50)
    index.compact()
    index.add(vectors=rng.normal(size=(5, 4)))
    index.add(vectors=rng.normal(size=(5, 4)))
    assert index.verify().ok
    assert index.verify().rows == 60
    (file,) = index.path.glob(pattern)
    good = file.read_bytes()
    flip(file, 100 if where == "first" else len(good) - 10)
    report = index.verify()
    assert not report.ok, "this handle shows rows that the file no longer holds"
    assert report.to_dict()["ok"] is False
    (problem,) = report.problems
    assert (problem.file, problem.rebuildable) == (file.name, False)
    assert problem.offset == (len(good) // 2 if (pattern, where) == ("log-*", "last") else 0)
    file.write_bytes(good)
    assert index.verify().ok


@pytest.mark.parametrize("pattern", ["rows-*", "vectors-*", "ids-*"])
def test_damaged_data_is_an_error_never_a_wrong_answer(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    rng: np.random.Generator,
    pattern: str,
) -> None:
    index = create()
    rows = rng.normal(size=(64, 4))
    index.add(ids=[f"id {i}" for i in range(64)], vectors=rows, texts=["text"] * 64)
    index.compact()
    right = {record.id: record for record in index.scan()}
    hits = index.search(rows[0], k=64)
    index.close()
    (file,) = index.path.glob(pattern)
    good = file.read_bytes()
    errors = 0
    for offset in range(0, len(good), max(1, len(good) // 60)):
        flip(file, offset)
        try:
            reader = reopen()
            assert {record.id: record for record in reader.scan()} == right
            assert reader.get(list(right)) == list(right.values())
            assert reader.search(rows[0], k=64) == hits
        except OSError as error:
            assert type(error).__name__ == "CorruptIndexError"
            assert file.name in str(error)
            assert "offset" in str(error)
            errors += 1
        file.write_bytes(good)
    assert errors > 40


def test_a_closed_index_leaves_no_file_open(
    create: Callable[..., VectorIndex], rng: np.random.Generator
) -> None:
    index = create()
    index.add(vectors=rng.standard_normal((100, 8)))
    index.compact()
    index.close()
    path = index.path
    del index
    gc.collect()
    gc.disable()
    try:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            with VectorIndex.open(path) as reader:
                assert len(reader.search(rng.standard_normal(8), k=3)) == 3
            del reader
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    finally:
        gc.enable()
