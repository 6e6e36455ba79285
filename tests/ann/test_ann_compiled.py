"""The compiled walk, scan and scores do what FAISS does without them, and trust no array."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from contextlib import nullcontext
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ann_data import DIM, ROWS, Builder, Case, Mapper, clustered, data, share

import vecindex
from vecindex.ann import codebook, compiled, fast_scan, load, score_rows
from vecindex.ann.fast_scan import flat_scan, lists_scan
from vecindex.ann.hnsw import Hnsw
from vecindex.ann.links import Links
from vecindex.ann.native import faiss
from vecindex.arrays import Float32Array, Int64Array, unit_rows
from vecindex.spec import FlatParams, HnswParams, IvfParams, Params

SOURCES = Path(vecindex.__file__).parent / "ann"
COMPILER = shutil.which("cc")
CODES = ("sq8", "sq4")


@pytest.fixture(params=[f"{codes}-{dim}" for codes in CODES for dim in (DIM, 33)])
def graph(request: pytest.FixtureRequest, built: Builder) -> Case:
    """Give a graph with each of its codes in turn."""
    codes, dim = request.param.split("-")
    return built(f"hnsw/{codes}", int(dim))


@pytest.mark.skipif(COMPILER is None, reason="there is no compiler")
def test_it_was_compiled() -> None:
    assert compiled.walk is not None
    assert compiled.scores is not None
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    assert compiled.scan is not None or not {"avx2", "fma"} <= set(flags)


needs_scan = pytest.mark.skipif(compiled.scan is None, reason="this processor has no AVX2")


@needs_scan
@pytest.mark.parametrize("dim", [DIM, 10, 33])
@pytest.mark.parametrize("name", ["flat/pq4", "ivf/pq4"])
def test_both_scans_find_the_same(
    name: str, dim: int, built: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = built(name, dim)
    monkeypatch.setattr(compiled, "scan", None)
    without = load(case.spec, data(case.structure), case.vectors)
    for slots in (1, 10, 100, 1000):
        ways: tuple[Params, ...] = (FlatParams(),)
        if name == "ivf/pq4":
            ways = (IvfParams(1), IvfParams(5), IvfParams(without.nlist))
        for params in ways:
            mine = case.structure.find(case.queries, slots, params)
            theirs = without.find(case.queries, slots, params)
            assert mine.shape == theirs.shape
            # Centroids are compared in 8 bits: of two that are as near, the other one may be taken.
            assert ((mine < 0).sum(axis=1) == (theirs < 0).sum(axis=1)).mean() >= 0.95
            # Of so few quantizers both round alike: only which of equal sums come last differs.
            both = [set(a) & set(b) for a, b in zip(mine.tolist(), theirs.tolist(), strict=True)]
            sizes = [len(set(row)) for row in theirs.tolist()]
            assert sum(map(len, both)) / sum(sizes) > (0.95 if slots >= 100 else 0.75)


def products(index: Any, query: Float32Array, codes: np.ndarray) -> np.ndarray:
    """Return the product of a query with what the words of each row's code say, in float64."""
    pq = index.pq
    words = faiss.vector_to_array(pq.centroids).reshape(pq.M, 16, pq.dsub).astype(np.float64)
    table = np.einsum("mwd,md->mw", words, query.reshape(pq.M, pq.dsub))
    numbers = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), pq.M)
    return table[np.arange(pq.M), numbers].sum(axis=1)


@needs_scan
@pytest.mark.parametrize("block_rows", [64, 128])
@pytest.mark.parametrize("quantizers", [2, 6, 8, 10, 96, 400, 1200])
@pytest.mark.parametrize("count", [1, 15, 16, 31, 33, 129, 1000])
def test_a_scan_names_the_best_rows(block_rows: int, quantizers: int, count: int) -> None:
    rng = np.random.default_rng(count)
    plain = faiss.IndexPQ(4 * quantizers, quantizers, 4, faiss.METRIC_INNER_PRODUCT)
    words = rng.normal(size=(quantizers, 16, 4)).astype(np.float32)
    queries = rng.normal(size=(3, 4 * quantizers)).astype(np.float32)
    codes = rng.integers(256, size=(count, quantizers // 2), dtype=np.uint8)
    if quantizers == 1200:  # with one and the same best word everywhere, a sum needs all 16 bits
        words[:], queries[:] = words[:1], np.tile(queries[:1, :4], quantizers)
        codes[-1] = 17 * int(np.argmax(words[0] @ queries[0, :4]))
    faiss.copy_array_to_vector(words.ravel(), plain.pq.centroids)
    index = faiss.IndexPQFastScan(codebook.from_codes(plain, codes), block_rows)
    scan = flat_scan(index)
    assert scan is not None
    for slots in (1, 7, 100):
        found = scan.find(queries, slots, 1, 1)
        for query, row in zip(queries, found, strict=True):
            assert (row >= 0).sum() == min(slots, count)
            named = row[row >= 0]
            assert len(set(named.tolist())) == len(named)
            assert (row[len(named) :] == -1).all()
            scores = products(index, query, codes)
            table = np.einsum("mwd,md->mw", words, query.reshape(quantizers, 4))
            spans = np.ptp(table, axis=1)
            steps = min(
                (255 if quantizers < 64 else 63) / spans.max(), (65535 - quantizers) / spans.sum()
            )
            error = quantizers / steps  # half a step for each product, on either side
            left = np.setdiff1d(np.arange(count), named)
            assert (np.diff(scores[named]) < error).all()
            assert not len(left) or scores[left].max() < scores[named].min() + error


@needs_scan
def test_lists_are_visited_from_near_to_far(built: Builder) -> None:
    case = built("ivf/pq4", DIM)
    structure: Any = case.structure
    entries = int(structure.sizes.sum())
    members = {
        number: set(
            faiss.rev_swig_ptr(structure.index.invlists.get_ids(number), int(size)).tolist()
        )
        for number, size in enumerate(structure.sizes)
    }
    centroids = structure.quantizer.reconstruct_n(0, structure.nlist)
    for query in case.queries[:20]:
        order = np.argsort(-(centroids @ query), kind="stable")
        for nprobe in (1, 3, structure.nlist):
            found = structure._fast.find(query[None], entries, nprobe, 1)[0]
            expected = set().union(*(members[number] for number in order[:nprobe].tolist()))
            assert set(found[found >= 0].tolist()) == expected


@needs_scan
def test_an_unknown_packing_is_left_to_faiss(
    built: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    structure: Any = built("ivf/pq4", DIM).structure
    monkeypatch.setattr(codebook, "unpack", lambda _, rows: np.zeros((len(rows), 2), np.uint8))
    fast_scan._packs_as_expected.cache_clear()
    try:
        assert flat_scan(structure.scan.index) is None
        assert lists_scan(structure.index, np.empty(0, np.float32), structure.sizes) is None
    finally:
        fast_scan._packs_as_expected.cache_clear()


@needs_scan
@pytest.mark.parametrize(
    ("changed", "value", "what"),
    [
        (0, np.zeros((4, 3, 16), np.float32), "16 words"),
        (1, np.zeros((2, 16), np.uint8), "centroid for each"),
        (2, np.zeros(15, np.float32), "one scale"),
        (3, np.zeros(2, np.uint64), "other lists"),
        (4, np.zeros(2, np.uint64), "other lists"),
        (5, np.zeros(0, np.int64), "other lists"),
        (5, np.array([-1]), "impossible size"),
        (5, np.array([1 << 32]), "impossible size"),
        (6, 0, "dimension"),
        (6, 1 << 40, "dimension"),
        (7, 3, "pairs"),
        (7, 0, "pairs"),
        (7, 6, "pairs"),
        (8, 32, "64 rows"),
        (8, 0, "64 rows"),
    ],
)
def test_lists_that_do_not_fit_are_refused(changed: int, value: Any, what: str) -> None:
    assert compiled.scan is not None
    words, centroids = np.zeros((4, 4, 16), np.float32), np.zeros((0, 16), np.uint8)
    scales = np.ones(16, np.float32)
    addresses, sizes = np.zeros(1, np.uint64), np.zeros(1, np.int64)
    parts: list[Any] = [words, centroids, scales, addresses, addresses, sizes, 16, 4, 64]
    lists = compiled.scan.Lists(*parts)
    found = np.empty((2, 3), np.int64)
    lists.find(np.zeros((2, 16), np.float32), 1, found)
    assert (found == -1).all()
    for queries, nprobe in (((2, 15), 1), ((4, 16), 1), ((2, 16), 0), ((2, 16), 2)):
        with pytest.raises(ValueError, match="do not fit"):
            lists.find(np.zeros(queries, np.float32), nprobe, np.empty((2, 7), np.int64))
    parts[changed] = value
    if changed == 2:
        parts[1] = np.zeros((1, 16), np.uint8)
    with pytest.raises(ValueError, match=what):
        compiled.scan.Lists(*parts)


def by_faiss(case: Case, monkeypatch: pytest.MonkeyPatch) -> Hnsw:
    """Return the same graph as where nothing was compiled."""
    monkeypatch.setattr(compiled, "walk", None)
    structure = load(case.spec, data(case.structure), case.vectors)
    assert isinstance(structure, Hnsw)
    return structure


def test_both_walks_find_the_same(graph: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    without = by_faiss(graph, monkeypatch)
    for slots, ef in ((10, 10), (10, 40), (50, 20), (300, 100)):
        mine = graph.structure.find(graph.queries, slots, HnswParams(ef))
        theirs = without.find(graph.queries, slots, HnswParams(ef))
        # Of 4-bit codes the query is rounded as well, so the walk may take another turn.
        assert share(mine, theirs) > (0.93 if graph.spec.codes == "sq4" else 0.998)
        truth = graph.truth[:, : min(slots, 100)]
        assert abs(share(mine, truth) - share(theirs, truth)) < 0.02


@pytest.mark.parametrize("threads", [1, 3])
def test_without_a_compiler_searches_are_as_good(
    graph: Case, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = by_faiss(graph, monkeypatch)
    found = without.find(graph.queries, 80, graph.good, threads)
    assert share(found, graph.truth[:, :10]) > 0.98


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModuleType]:
    """Give the modules as they are on a processor whose instructions they do not know."""
    if COMPILER is None:
        pytest.skip("there is no compiler")
    folder = tmp_path_factory.mktemp("plain")
    modules = {}
    for name in ("_walk", "_scores", "_scan"):
        path = folder / f"{name}.so"
        include = sysconfig.get_paths()["include"]
        command = [COMPILER, "-O2", "-DPLAIN", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        command += [f"-I{include}", str(SOURCES / f"{name}.c"), "-o", str(path), "-lm"]
        subprocess.run(command, check=True)
        loader = ExtensionFileLoader(f"vecindex.ann.{name}", str(path))
        spec = spec_from_file_location(f"vecindex.ann.{name}", path, loader=loader)
        assert spec is not None
        with pytest.raises(ImportError, match="FAISS scans") if name == "_scan" else nullcontext():
            modules[name] = module_from_spec(spec)
            loader.exec_module(modules[name])
    return modules


def test_plain_c_walks_alike(
    graph: Case, plain: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "walk", plain["_walk"])
    again = load(graph.spec, data(graph.structure), graph.vectors)
    params = HnswParams(40)
    mine, theirs = (one.find(graph.queries, 40, params) for one in (graph.structure, again))
    if graph.spec.codes in ("sq8", "sq4"):  # integers add up to the same in any order
        np.testing.assert_array_equal(mine, theirs)
    assert share(mine, theirs) > 0.998


@pytest.mark.parametrize("dim", [1, 7, 8, 15, 16, 17, 384])
def test_plain_c_scores_alike(
    dim: int, plain: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, queries = clustered(300, seed=1, dim=dim), clustered(9, seed=2, dim=dim)
    rows = np.random.default_rng(0).integers(-1, 300, size=(9, 100))
    scores = score_rows(matrix, queries, rows)
    monkeypatch.setattr(compiled, "scores", plain["_scores"])
    np.testing.assert_allclose(score_rows(matrix, queries, rows), scores, rtol=0, atol=1e-6)


def parallel_ends(count: int, dim: int) -> Float32Array:
    """Return rows that differ in little but their length, which is in their last dimensions.

    Their squared lengths go from 1 to 1.001, which is as much as is let in.
    """
    rng = np.random.default_rng(dim)
    ends = np.arange(dim) >= dim - 16
    rows = ends + rng.normal(size=(count, dim)) * 1e-4
    rows *= np.sqrt(rng.uniform(1, 1.001, (count, 1))) / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


@pytest.mark.parametrize("asked", [1, 5, 40])
@pytest.mark.parametrize("dim", [1, 33, 127, 128, 135, 384])
@pytest.mark.parametrize("plainly", [False, True])
def test_a_scan_leaves_no_row_too_soon(
    plainly: bool, dim: int, asked: int, plain: dict[str, ModuleType]
) -> None:
    scores = plain["_scores"] if plainly else compiled.scores
    assert scores is not None
    some_alive = np.random.default_rng(0).random(3000) < 0.4
    aside = np.eye(1, dim, dtype=np.float32)
    rising = clustered(3000, seed=1, dim=dim)
    rising = rising[np.argsort(rising @ rising[0])]  # each could be among the best when it comes
    for matrix, moved in ((rising, rising[-asked:]), (parallel_ends(3000, dim), aside)):
        queries = unit_rows(matrix[-asked:][::-1] + 0.7 * moved)
        truth = queries.astype(np.float64) @ matrix.T.astype(np.float64)
        for alive in (np.empty(0, np.bool_), some_alive):
            allowed = np.where(alive, truth, -9) if len(alive) else truth
            for k in (1, 10):
                best, rows = np.empty((asked, k), np.float32), np.empty((asked, k), np.int64)
                scores.nearest(matrix, queries, dim, alive, k, best, rows)
                assert not len(alive) or alive[rows].all()
                wanted = np.minimum(np.sort(allowed)[:, ::-1][:, :k], 1)
                np.testing.assert_allclose(best, wanted, rtol=0, atol=1e-6)
                again = np.empty_like(best)
                scores.score(matrix, queries, rows, dim, again)
                np.testing.assert_array_equal(best, again)


@pytest.mark.parametrize("dim", [1, 2, 63, 64, 65, 127, 129, 191])
@pytest.mark.parametrize("codes", CODES)
def test_odd_dimensions(dim: int, codes: str, mapped: Mapper) -> None:
    rows = clustered(400, seed=1, dim=dim)
    structure = vecindex.ann.build(vecindex.HnswSpec(8, 60, codes), mapped(rows))
    found = structure.find(rows[:50], 40, HnswParams(120))
    scores = score_rows(rows, rows[:50], found)
    truth = np.sort(rows[:50] @ rows.T, axis=1)[:, -1]
    assert (np.abs(scores.max(axis=1) - truth) < 2e-6).mean() > 0.95


def arrays(bits: int = 8, dim: int = 4, rows: int = 20, links: int = 6) -> dict[str, Any]:
    """Return a ring of rows, each linked to the next ones, on one level."""
    rng = np.random.default_rng(0)
    codes = rng.integers(256, size=(rows, (dim * bits + 7) // 8)).astype(np.uint8)
    return {
        "links": (np.arange(rows)[:, None] + np.arange(1, links + 1)).astype(np.int32) % rows,
        "offsets": np.arange(rows + 1, dtype=np.uint64) * np.uint64(links),
        "levels": np.array([0, links, links + 3], np.int32),
        "codes": codes,
        "scales": np.ones(dim, np.float32),
        "bits": bits,
        "dim": dim,
        "entry": 0,
        "top": 0,
    }


def walk(parts: dict[str, Any], queries: Float32Array, ef: int = 20) -> Int64Array:
    """Return what a walk finds."""
    assert compiled.walk is not None
    found = np.full((len(queries), min(ef, 10)), -7, np.int64)
    compiled.walk.Graph(*parts.values()).walk(queries, ef, found)
    return found


@pytest.mark.parametrize("bits", [8, 4])
def test_a_whole_ring_is_found(bits: int) -> None:
    found = walk(arrays(bits), clustered(3, seed=1, dim=4))
    assert [sorted(set(row)) == sorted(row) for row in found.tolist()] == [True] * 3
    assert found.min() >= 0


@pytest.mark.parametrize(
    ("changed", "value", "what"),
    [
        ("bits", 5, "8 or 4 bits"),
        ("dim", 0, "dimension"),
        ("dim", -4, "dimension"),
        ("dim", 1 << 40, "dimension"),
        ("dim", 8, "fewer rows"),
        ("entry", 20, "starts at no row"),
        ("entry", -1, "starts at no row"),
        ("top", 2, "no lists"),
        ("top", -1, "no lists"),
        ("levels", np.array([0, 6], np.int32)[:1], "no lists"),
        ("levels", np.array([0, -6], np.int32), "no length"),
        ("levels", np.array([-3, 6], np.int32), "no length"),
        ("offsets", np.zeros(1, np.uint64), "number of rows"),
        ("offsets", np.zeros(0, np.uint64), "number of rows"),
        ("codes", np.zeros((19, 4), np.uint8), "fewer rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed: str, value: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        walk(arrays() | {changed: value}, clustered(1, seed=1, dim=4))


def test_scales_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one scale"):
        walk(arrays(8) | {"scales": np.ones(3, np.float32)}, clustered(1, seed=1, dim=4))


def test_queries_that_do_not_fit_are_refused() -> None:
    assert compiled.walk is not None
    graph = compiled.walk.Graph(*arrays().values())
    found = np.empty((2, 7), np.int64)
    for queries, ef in (((2, 5), 9), ((3, 4), 9), ((2, 4), 0), ((2, 4), -1)):
        with pytest.raises(ValueError, match="do not fit"):
            graph.walk(np.zeros(queries, np.float32), ef, found)
    with pytest.raises(ValueError, match="not C-contiguous"):
        graph.walk(np.zeros((4, 8), np.float32)[:, ::2], 9, found)
    found.flags.writeable = False
    with pytest.raises(TypeError, match="read-write"):
        graph.walk(np.zeros((2, 4), np.float32), 9, found)


@pytest.mark.parametrize("bits", [8, 4])
def test_no_link_leads_out_of_the_arrays(bits: int) -> None:
    queries = clustered(5, seed=1, dim=4)
    rng = np.random.default_rng(1)
    for _ in range(200):
        parts = arrays(bits)
        for name, kind in (("links", np.int32), ("offsets", np.uint64)):
            array = parts[name].copy()
            places = rng.integers(array.size, size=rng.integers(1, 8))
            wild = rng.integers(0, 256, size=(len(places), array.itemsize), dtype=np.uint8)
            array.reshape(-1)[places] = wild.view(kind)[:, 0]
            parts[name] = array
        parts["top"], parts["entry"] = int(rng.integers(2)), int(rng.integers(20))
        found = walk(parts, queries)
        assert ((found >= -1) & (found < 20)).all()


def test_no_list_of_links_reaches_beyond_their_array() -> None:
    parts = arrays(rows=23)
    ring = arrays()["links"].ravel()
    links = np.concatenate([ring, np.full(6, 21, np.int32)])  # nothing links rows 20 to 22
    parts["links"] = links[: len(ring)]
    parts["offsets"][5] = len(ring) - 2
    parts["offsets"][20:] = len(ring)
    found = walk(parts, clustered(5, seed=1, dim=4))
    assert ((found >= 0) & (found < 20)).all()


@needs_scan
def test_what_the_scan_does_not_know_is_left_to_faiss() -> None:
    plain = faiss.IndexPQ(32, 8, 4, faiss.METRIC_INNER_PRODUCT)
    codes = np.random.default_rng(0).integers(256, size=(200, 4), dtype=np.uint8)
    packed = [
        faiss.IndexPQFastScan(codebook.from_codes(plain, codes), rows) for rows in (32, 64, 96)
    ]
    assert [flat_scan(index) is not None for index in packed] == [False, True, False]
    too_many = np.zeros(1 << 16, np.int64)
    assert lists_scan(packed[1], np.empty((1 << 16, 32), np.float32), too_many) is None


def test_scores_refuse_what_does_not_fit() -> None:
    assert compiled.scores is not None
    matrix, queries = clustered(9, seed=1, dim=4), clustered(2, seed=2, dim=4)
    rows, scores = np.zeros((2, 3), np.int64), np.empty((2, 3), np.float32)
    for dim in (0, -4, 1 << 40, 3):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.scores.score(matrix, queries, rows, dim, scores)
    with pytest.raises(ValueError, match="do not fit"):
        compiled.scores.score(matrix, queries, rows, 4, scores[:1])
    rows[0] = 9, -5, 2**62
    compiled.scores.score(matrix, queries, rows, 4, scores)
    assert np.isneginf(scores[0]).all()
    best, numbers = np.empty((2, 2), np.float32), np.empty((2, 2), np.int64)
    all_alive, dead = np.empty(0, np.bool_), np.zeros(9, np.bool_)
    good: dict[str, Any] = {"matrix": matrix, "queries": queries, "dim": 4, "alive": dead, "k": 2}
    for name, bad in (
        ("matrix", matrix.ravel()[:-1]),
        ("queries", queries.ravel()[:-1]),
        ("queries", queries[:1]),
        *(("dim", dim) for dim in (0, -4, 1 << 40, 3)),
        ("alive", dead[:8]),
        *(("k", k) for k in (0, -1, 1, 3)),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.scores.nearest(*(good | {name: bad}).values(), best, numbers)
    compiled.scores.nearest(*good.values(), best, numbers)
    assert (numbers == -1).all()
    compiled.scores.nearest(*(good | {"alive": all_alive}).values(), best, numbers)
    assert (numbers == np.argsort(-queries @ matrix.T)[:, :2]).all()
    for k in (0, -1, 3, 5):
        with pytest.raises(ValueError, match="do not fit"):
            compiled.scores.top(scores, rows, k, best, numbers)


@needs_scan
def test_endings_that_do_not_fit_are_refused() -> None:
    assert compiled.walk is not None
    assert compiled.scan is not None
    graph = compiled.walk.Graph(*arrays().values())
    words, addresses = np.zeros((4, 4, 16), np.float32), np.zeros(1, np.uint64)
    nothing: Any = np.zeros((0, 16), np.uint8), np.ones(16, np.float32)
    lists = compiled.scan.Lists(
        words, *nothing, addresses, addresses, np.zeros(1, np.int64), 16, 4, 64
    )
    queries, padded = np.zeros((2, 4), np.float32), np.zeros((2, 16), np.float32)
    matrix, scores = np.zeros((20, 4), np.float32), np.empty((2, 3), np.float32)
    rows = np.empty((2, 3), np.int64)

    alive, no_places = np.empty(0, np.bool_), np.empty((2, 0), np.int32)
    counts, places = np.empty((2, 2), np.int32), np.empty((2, 3), np.int32)
    good = {
        "queries": queries, "matrix": matrix, "alive": alive, "scores": scores, "rows": rows,
        "counts": counts, "places": no_places,
    }  # fmt: skip

    def of_graph(slots: int = 5, ef: int = 9, **changed: Any) -> None:
        graph.best(ef, slots, *(good | changed).values())

    def of_lists(slots: int = 5, nprobe: int = 1, asked: Any = padded, **changed: Any) -> None:
        lists.best(asked, nprobe, slots, 4, *(good | changed).values())

    of_graph(places=places)
    assert counts.tolist() == [[5, 5], [5, 5]]
    assert (rows >= 0).all()
    of_graph(alive=np.zeros(3, np.bool_), places=places)  # nothing is known of most
    assert counts.tolist() == [[5, 0], [5, 0]]
    of_lists(places=places)
    assert (rows == -1).all()
    assert (places == -1).all()
    wrongs: list[dict[str, Any]] = [
        {"slots": 0},
        {"slots": -1},
        {"slots": 2**62},
        {"queries": queries[:1]},
        {"queries": np.zeros((2, 5), np.float32)},
        {"matrix": matrix.ravel()[:-1]},
        {"scores": scores[:1]},
        {"rows": rows.ravel()[:5]},
        {"rows": rows[:0]},
        {"counts": counts[:1]},
        {"counts": counts[:0]},
        {"places": places[:1]},
    ]
    for wrong in wrongs:
        if wrong.get("queries", queries) is queries:  # of another number, the others do not fit
            with pytest.raises(ValueError, match="do not fit"):
                of_graph(**wrong)
        with pytest.raises(ValueError, match="do not fit"):
            of_lists(**wrong)
    with pytest.raises(ValueError, match="too small"):
        of_graph(ef=0)
    for nprobe in (0, 2):
        with pytest.raises(ValueError, match="do not fit"):
            of_lists(nprobe=nprobe)
    with pytest.raises(ValueError, match="do not fit"):
        of_lists(asked=np.zeros((2, 15), np.float32))


def test_a_damaged_graph_names_rows_that_exist(built: Builder) -> None:
    case = built("hnsw/sq4", DIM)
    whole = data(case.structure)
    rng = np.random.default_rng(3)
    for _ in range(20):
        damaged = load(case.spec, whole.copy(), case.vectors)
        assert isinstance(damaged, Hnsw)
        links = Links(damaged.index).flat
        places = rng.integers(len(links), size=500)
        links[places] = rng.integers(-(2**31), 2**31, size=500)
        found = damaged.find(case.queries, 20, HnswParams(40))
        assert ((found >= -1) & (found < ROWS)).all()
