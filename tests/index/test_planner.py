"""The ways of the planner against exact answers: filters, removed rows, tails, large k, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_api import clustered

from vecindex import VectorIndex
from vecindex.ann import exact_search
from vecindex.errors import InputError
from vecindex.filters import parse
from vecindex.index import behind, carry_out, planner
from vecindex.results import Calibration
from vecindex.store.manifest import read_manifest

ROWS, DIM = 6000, 32
SPECS = ("flat/pq4", "flat/sq8", "ivf/pq4", "ivf", "hnsw", "hnsw/bf16", "hnsw/sq4")
TARGET = 0.9


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    made = clustered(np.random.default_rng(5), ROWS + 400, DIM)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module", params=SPECS)
def built(request: pytest.FixtureRequest, rows: np.ndarray, tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("planner") / "x.vx"
    rng = np.random.default_rng(6)
    share = rng.random(ROWS)
    side = rows[:ROWS, 0] > np.quantile(rows[:ROWS, 0], 0.7)  # goes with the query
    with VectorIndex.create(
        path, spec=request.param, target_recall=TARGET, maintenance="manual"
    ) as index:
        metadata = [{"u": float(u), "side": bool(s)} for u, s in zip(share, side, strict=True)]
        index.add(vectors=rows[:ROWS], ids=range(ROWS), metadata=metadata)
        index.optimize()
    return path


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Any:
    import shutil

    copy = tmp_path / "copy.vx"
    shutil.copytree(built, copy)
    with VectorIndex.open(copy, "r+", maintenance="manual") as opened:
        yield opened


def check(index: VectorIndex, rows: np.ndarray, queries: np.ndarray, k: int = 10,
          where: dict[str, Any] | None = None, *, least: float = TARGET) -> float:  # fmt: skip
    """Compare with numpy: right scores, never short, none twice, only allowed ones; recall."""
    allowed = np.zeros(len(rows), np.bool_)
    allowed[[record.id for record in index.scan(where)]] = True
    ids, scores = index.search_arrays(queries, k, where=where)
    wanted = min(k, int(allowed.sum()))
    assert ids.shape == scores.shape == (len(queries), wanted)
    if not wanted:
        return 1.0
    assert allowed[ids].all()
    assert all(len(set(line)) == wanted for line in ids.tolist())
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores, np.einsum("qkd,qd->qk", rows[ids], queries), atol=1e-6)
    truth, _ = exact_search(rows, queries, wanted, allowed)
    found = float((scores >= truth[:, -1:] - 1e-6).mean())
    assert found >= least, index.explain(k, where=where)
    for number in (0, 1):  # one at a time as in a batch
        alone, _ = index.search_arrays(queries[[number]], k, where=where)
        np.testing.assert_array_equal(alone[0], ids[number])
    return found


FILTERS: list[dict[str, Any]] = [
    {"u": {"$lt": 0.5}}, {"u": {"$lt": 0.1}}, {"u": {"$lt": 0.01}}, {"u": {"$lt": 0.0005}},
    {"u": {"$lt": -1}}, {"side": True}, {"side": False}, {},
]  # fmt: skip


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_filters_are_never_short_and_keep_the_promise(
    index: VectorIndex, rows: np.ndarray, where: dict[str, Any]
) -> None:
    queries = rows[ROWS:]
    for k in (1, 10, 100):
        check(index, rows[:ROWS], queries, k, where)
        check(index, rows[:ROWS], queries, k, where)  # from the second use on in another way


def test_a_filter_gets_a_scan_of_its_own_when_it_comes_back(
    built: Path, index: VectorIndex, rows: np.ndarray
) -> None:
    where = {"u": {"$lt": 0.5}}
    if index.explain().method not in ("flat/pq4", "ivf/pq4"):
        pytest.skip("this structure has no scan")
    assert "own" not in index.explain(where=where).costs_us
    assert "own" not in index.explain(where=where).costs_us  # asking how is no use
    first = index.search(rows[ROWS], where=where).plan
    assert "own" not in first.costs_us
    second = index.search(rows[ROWS], where=where).plan
    assert second.costs_us["own"] < second.costs_us["all"]
    view = index._view()
    allowed = view.allowed(parse(where))
    if second.reason.endswith("scanning their codes"):
        scan = view.scans.get(parse(where), allowed)
        assert scan is not None
        assert scan.count == allowed.count
    # Rows that are removed afterwards are not returned, and the scan is made anew when many are.
    gone = [hit.id for hit in index.search(rows[ROWS], 20, where=where)]
    index.remove(gone)
    assert not set(gone) & {hit.id for hit in index.search(rows[ROWS], 20, where=where)}
    live = [record.id for record in index.scan(where)]
    index.remove(live[::2])
    check(index, rows[:ROWS], rows[ROWS:], 10, where)


def test_every_way_gives_the_promised_recall(
    index: VectorIndex, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"side": True}
    index.search(rows[ROWS], where=where)
    ways = set(index.search(rows[ROWS], where=where).plan.costs_us)
    assert {"exact", "structure"} <= ways
    for way in sorted(ways):
        index._view().routes.clear()
        monkeypatch.setattr(
            planner, "_cheapest", lambda ways, way=way: way if way in ways else "exact"
        )
        check(index, rows[:ROWS], rows[ROWS:], 10, where)


def test_removed_neighbours_do_not_hide_those_behind(index: VectorIndex, rows: np.ndarray) -> None:
    queries = rows[ROWS : ROWS + 3]
    for query in queries:
        index.remove(np.argsort(-(rows[:ROWS] @ query))[:600].tolist())
    check(index, rows[:ROWS], queries)
    index.remove(np.random.default_rng(1).choice(ROWS, ROWS // 3, replace=False).tolist())
    check(index, rows[:ROWS], queries)
    check(index, rows[:ROWS], rows[ROWS:])
    check(index, rows[:ROWS], rows[ROWS:], where={"u": {"$lt": 0.3}})


def test_a_tail_is_part_of_every_answer(index: VectorIndex, rows: np.ndarray) -> None:
    index.add(
        vectors=rows[ROWS:], ids=range(ROWS, len(rows)), metadata=[{"u": 0.05, "side": True}] * 400
    )
    queries = rows[ROWS:] + np.float32(0.02)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    ids, _ = index.search_arrays(queries, 1)
    assert (ids[:, 0] >= ROWS).mean() > 0.9
    for where in (None, {"u": {"$lt": 0.1}}, {"side": True}):
        check(index, rows, queries, where=where)


@pytest.mark.parametrize("built", ["flat/pq4", "ivf/pq4", "hnsw"], indirect=True)
def test_a_large_tail_gets_codes_while_it_is_searched(
    index: VectorIndex, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(10)
    near = rows[:3000] + 0.05 * rng.standard_normal((3000, DIM))
    far = clustered(np.random.default_rng(11), 1500, DIM)  # of clusters that codes do not know
    new = np.concatenate([near, far])
    new = (new / np.linalg.norm(new, axis=1, keepdims=True)).astype(np.float32)
    known = np.concatenate([rows[:ROWS], new])
    queries = np.concatenate([rows[ROWS : ROWS + 40], new[::75]])
    index.add(vectors=new[:4000], ids=range(ROWS, ROWS + 4000))
    exactly = _rows_searched_exactly(monkeypatch)

    def settled(total: int) -> int:
        for query in queries:
            index.search_arrays(query[None])
        exactly.clear()
        check(index, known[:total], queries)
        return max(exactly, default=0)

    coded = index.info().codes == "pq4"
    assert (settled(ROWS + 4000) < 1024) == coded
    index.remove(range(ROWS, ROWS + 4000, 3))  # some of the tail
    assert (settled(ROWS + 4000) < 1024) == coded
    index.add(vectors=new[4000:], ids=range(ROWS + 4000, ROWS + 4500))
    assert (settled(ROWS + 4500) < 1024) == coded  # the new ones only
    index._maintenance.seal()
    assert (settled(ROWS + 4500) < 1024) == coded


def _rows_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which every exact search adds the number of its rows."""
    found: list[int] = []
    real = carry_out.search_flat

    def noted(matrix: Any, queries: Any, k: int, live: Any = None) -> Any:
        found.append(len(matrix))
        return real(matrix, queries, k, live)

    monkeypatch.setattr(carry_out, "search_flat", noted)
    monkeypatch.setattr(behind, "search_flat", noted)
    return found


def test_so_large_a_k_is_searched_exactly(index: VectorIndex, rows: np.ndarray) -> None:
    assert index.explain(ROWS).method == "exact"
    check(index, rows[:ROWS], rows[ROWS : ROWS + 5], ROWS, least=1.0)
    check(index, rows[:ROWS], rows[ROWS : ROWS + 5], 2 * ROWS, least=1.0)


def test_batches_are_cut_where_candidates_are_many(
    index: VectorIndex, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = rows[ROWS:]
    index.remove(range(0, ROWS, 5))
    asked = [{"k": 10}, {"k": 30, "where": {"u": {"$lt": 0.6}}}, {"k": 10, "where": {"side": True}}]
    for options in asked:  # a filter's second search may go another way than its first
        index.search_arrays(queries[:1], **options)
    whole = [index.search_arrays(queries, **options) for options in asked]
    for limit, value in (("_CANDIDATES", 3000), ("_PIECE", 7)):
        monkeypatch.setattr(carry_out, limit, value)
        for options, (ids, scores) in zip(asked, whole, strict=True):
            cut = index.search_arrays(queries, **options)
            np.testing.assert_array_equal(cut[0], ids)
            np.testing.assert_array_equal(cut[1], scores)


def test_routes_are_cleared_while_others_look_at_them(
    index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "_KEPT_ROUTES", 3)
    failures: list[BaseException] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for k in rng.integers(1, 40, 1500).tolist():
                index.explain(k, where={"u": {"$lt": 0.4}})
                index.explain(k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_calibration_of_another_form_is_made_anew(
    built: Path, index: VectorIndex, rows: np.ndarray
) -> None:
    entry = index._store.state.manifest.structure
    assert entry is not None
    old = {
        "kind": entry.kind,
        "k": 10,
        "queries": 9,
        "source": "rows",
        "exact_ms": 1.0,
        "points": [],
    }
    index._store.update(structure=replace(entry, calibration=old))
    path = index.path
    index.close()
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        assert again.info().calibration is None
        assert again.explain().method == "exact"
        check(again, rows[:ROWS], rows[ROWS : ROWS + 5], least=1.0)
        assert planner_is_due(again)
        again.optimize()
        assert again.info().calibration is not None
    assert Calibration.from_dict(read_manifest_calibration(path)) is not None


def planner_is_due(index: VectorIndex) -> bool:
    from vecindex.index.maintenance import due

    return due(index._store.state, set()) is not None


def read_manifest_calibration(path: Path) -> dict[str, Any] | None:
    from vecindex.store.files import Directory

    structure = read_manifest(Directory(path)).structure
    assert structure is not None
    return structure.calibration


def test_damaged_columns_are_mended(index: VectorIndex, rows: np.ndarray) -> None:
    (file,) = index.path.glob("columns-*")
    path = index.path
    index.close()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        assert [p.rebuildable for p in again.verify().problems] == [True]
        check(again, rows[:ROWS], rows[ROWS:], where={"u": {"$lt": 0.1}})
        again.optimize()
        assert again.verify().ok
        check(again, rows[:ROWS], rows[ROWS:], where={"u": {"$lt": 0.1}})


def test_queries_need_a_dimension(create: Callable[..., VectorIndex]) -> None:
    index = create(spec="flat/pq4")
    with pytest.raises(InputError, match="before the index has rows"):
        index.optimize(queries=np.ones((3, 5)))
