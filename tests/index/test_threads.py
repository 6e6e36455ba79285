"""Many threads at once on one index: whatever the others do, each answer is right."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.ann import CORES, exact_search
from vecindex.ann.native import faiss
from vecindex.ann.threads import use_threads
from vecindex.index import carry_out, maintenance, rebase
from vecindex.index.tails import LEAST
from vecindex.store.lending import lending

DIM = 16
SECONDS = 2.5


def vector(row: int, version: int) -> np.ndarray:
    """Return the unit vector that a version of a row has."""
    raw = np.random.default_rng((row, version)).standard_normal(DIM).astype(np.float32)
    unit: np.ndarray = raw / np.linalg.norm(raw)
    return unit


class Oracle:
    """What has been acknowledged; a row that was removed never comes back."""

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}
        self.gone: set[int] = set()
        self.changing: frozenset[int] = frozenset()

    def change(self, call: Callable[[], object], versions: dict[int, int | None]) -> None:
        """Make a call that gives rows new versions, or removes them."""
        self.changing = frozenset(versions)
        call()
        for row, version in versions.items():
            if version is None:
                del self.versions[row]
                self.gone.add(row)
            else:
                self.versions[row] = version
        self.changing = frozenset()

    def look(self) -> tuple[dict[int, int], set[int]]:
        """Return the versions, and the rows that are gone, by now."""
        return self.versions.copy(), self.gone.copy()


class Crowd:
    """Threads on one index, and what they found wrong."""

    def __init__(self, index: VectorIndex, oracle: Oracle) -> None:
        self.index, self.oracle = index, oracle
        self.wrong: list[str] = []
        self.done: dict[str, int] = {}
        self._end = time.monotonic() + SECONDS

    def run(self, *works: Callable[[random.Random], None]) -> None:
        """Do all works again and again, each on a thread of its own, until time is up."""
        threads = [
            threading.Thread(target=self._repeat, args=(work, number))
            for number, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not self.wrong, self.wrong[:5]

    def _repeat(self, work: Callable[[random.Random], None], seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self._end and not self.wrong:
            try:
                work(rng)
            except Exception as error:
                self.wrong.append(f"{work.__name__}: {error!r}")
            self.done[work.__name__] = self.done.get(work.__name__, 0) + 1

    def write(self, rng: random.Random) -> None:
        oracle, index = self.oracle, self.index
        kind = rng.choice(["add", "add", "upsert", "remove", "remove where"])
        known = rng.sample(sorted(oracle.versions), 40)
        if kind.startswith("remove"):
            by = {"where": {"n": {"$in": known}}} if kind.endswith("where") else {"ids": known}
            oracle.change(lambda: index.remove(**by), dict.fromkeys(known))
            return
        first = max([*oracle.versions, *oracle.gone]) + 1
        fresh = dict.fromkeys(range(first, first + 150), 0)
        new = fresh if kind == "add" else {row: oracle.versions[row] + 1 for row in known}
        call = index.add if kind == "add" else index.upsert
        columns = rows_of(new)
        oracle.change(lambda: call(**columns), dict(new))

    def fold(self, rng: random.Random) -> None:
        rng.choice([self.index.optimize, self.index.compact, self.index._maintenance.seal])()
        time.sleep(0.01)

    def search(self, rng: random.Random) -> None:
        oracle = self.oracle
        before, changing = oracle.look(), oracle.changing
        target = rng.choice(list(before[0]))
        query = vector(target, before[0][target])
        exact = rng.random() < 0.5
        where: Any = rng.choice([None, {"n": {"$gte": target - 500, "$lte": target + 500}}])
        hits = self.index.search(query, 5, exact=exact, where=where)
        self.check(hits, query, before)
        still = target not in changing and target not in oracle.changing
        if exact and still and oracle.versions.get(target) == before[0][target]:
            assert hits[0].id == target, f"{target} is missing"

    def check(self, hits: Any, query: np.ndarray, before: tuple[dict[int, int], set[int]]) -> None:
        assert len(hits) == 5
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            row, version = map(int, hit.text.split())
            assert row == hit.id == hit.metadata["n"]
            assert row not in before[1], f"{row} was removed before"
            assert version >= before[0].get(row, 0), f"{row} was replaced before"
            assert abs(hit.score - float(vector(row, version) @ query)) < 1e-5

    def read(self, rng: random.Random) -> None:
        """Read with a handle of its own, which is refreshed."""
        with VectorIndex.open(self.index.path) as reader:
            for _ in range(20):
                before = self.oracle.look()
                reader.refresh()
                target = rng.choice(list(before[0]))
                query = vector(target, before[0][target])
                self.check(reader.search(query, 5), query, before)


def rows_of(versions: dict[int, int]) -> dict[str, Any]:
    return {
        "ids": list(versions),
        "vectors": np.stack([vector(row, version) for row, version in versions.items()]),
        "texts": [f"{row} {version}" for row, version in versions.items()],
        "metadata": [{"n": row} for row in versions],
    }


@pytest.mark.parametrize("background", [False, True], ids=["by hand", "in the background"])
def test_answers_are_right_whatever_the_others_do(
    path: Path, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    monkeypatch.setattr(maintenance, "_SEAL_OPERATIONS", 5)
    monkeypatch.setattr(maintenance, "_LEAST_ROWS", 100)
    oracle = Oracle()
    mode = "background" if background else "manual"
    with VectorIndex.create(path, spec="ivf/pq4", durability="os", maintenance=mode) as index:
        first = dict.fromkeys(range(1500), 0)
        oracle.change(lambda: index.add(**rows_of(first)), dict(first))
        index.optimize()
        generation = index.info().generation
        crowd = Crowd(index, oracle)
        works = [crowd.write, crowd.search, crowd.search, crowd.read]
        crowd.run(*works, *([] if background else [crowd.fold]))
        assert min(crowd.done[name] for name in ("write", "search", "read")) > 0
        assert index.info().generation > generation
        assert {r.id: int((r.text or "").split()[1]) for r in index.scan()} == oracle.versions
        assert index.verify().ok


def test_nothing_is_left_for_the_first_search_after_a_fold(
    path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sealed while a structure is built has codes in its words when it is published."""
    loads: list[str] = []
    built, sealed = threading.Event(), threading.Event()
    prepare, load = rebase.Rebase.prepare, rebase.ann.load

    def slow_prepare(self: rebase.Rebase, damaged: set[str]) -> None:
        prepare(self, damaged)
        built.set()
        assert sealed.wait(30)

    def noted_load(*arguments: Any) -> Any:
        loads.append(threading.current_thread().name)
        return load(*arguments)

    rows = rng.standard_normal((4000 + 3 * LEAST, DIM))
    with VectorIndex.create(path, spec="flat/pq4", maintenance="manual") as index:
        index.add(vectors=rows[:4000])
        index.optimize()
        index.search_arrays(rows[:1], 5)
        index.add(vectors=rows[4000 : 4000 + LEAST])
        monkeypatch.setattr(rebase.Rebase, "prepare", slow_prepare)
        monkeypatch.setattr(rebase.ann, "load", noted_load)
        fold = threading.Thread(target=index.optimize, name="fold")
        fold.start()
        assert built.wait(30)
        index.add(vectors=rows[4000 + LEAST :])
        index._maintenance.seal()
        sealed.set()
        fold.join()
        view = index._view()
        for segment in view.state.segments:
            assert segment._vectors.file.all_checked
        view.structure(pytest.fail)
        scan = view.codes(1)
        assert scan is not None
        assert scan.count == view.parts[1].count == 2 * LEAST
        assert set(loads) == {"fold"}


def test_a_sealed_segment_takes_codes_over(
    path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rng.standard_normal((15_000, DIM)).astype(np.float32)
    with VectorIndex.create(path, spec="flat/pq4", maintenance="manual") as index:
        index.add(vectors=rows[:3000])
        index.optimize()
        for start in range(3000, 15_000, 1500):  # the eighth time the segments are merged
            index.add(vectors=rows[start : start + 1500])
            for query in rows[:15]:
                index.search_arrays(query[None], 5)
            index.remove(range(start, start + 1500, 7))
            index._maintenance.seal()
            view = index._view()
            index.search_arrays(rows[:1], 5)
            for number, part in enumerate(view.parts[1:-1], start=1):
                scan = view.codes(number)
                assert scan is not None
                every = np.arange(part.count)
                fresh = view.structure(print).scan  # type: ignore[union-attr]
                expected = rebase.ann.Encoder(fresh)  # type: ignore[arg-type]
                expected.add(part.vectors)
                assert np.array_equal(scan.codes(every), expected.scan().codes(every))
        assert len(view.parts) == 3, "merged"
        left = [number for number in range(3001, 15_000, 7) if number in index]
        ids, _ = index.search_arrays(rows[left], 1)
        assert (ids[:, 0] == left).mean() > 0.9


def test_work_in_the_background_leaves_a_core(
    path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_FIRST_ROWS", 1000)
    seen: list[int] = []
    real = rebase.ann.calibrate

    def noted(*arguments: Any, **options: Any) -> Any:
        use_threads(None)
        seen.append(faiss.omp_get_max_threads())
        return real(*arguments, **options)

    monkeypatch.setattr(rebase.ann, "calibrate", noted)
    with VectorIndex.create(path, spec="flat/pq4") as index:
        index.add(vectors=rng.standard_normal((1500, DIM)))
        index._maintenance._join()
        index.optimize(target_recall=0.9)
    assert seen == [max(1, CORES // 2), CORES]


def test_the_interpreter_is_lent_only_meanwhile() -> None:
    before = sys.getswitchinterval()
    with lending():
        shorter = sys.getswitchinterval()
        with lending():
            assert sys.getswitchinterval() == shorter < before
        assert sys.getswitchinterval() == shorter
    assert sys.getswitchinterval() == before
    sys.setswitchinterval(1e-5)
    try:
        with lending():
            assert sys.getswitchinterval() == pytest.approx(1e-5)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("spec", ["flat/pq4", "ivf/pq4"])
def test_parts_behind_the_structure_are_one_scan(
    path: Path, rng: np.random.Generator, spec: str
) -> None:
    """Who adds makes the codes, so that searches find them; removed rows stay away."""
    rows = rng.standard_normal((3000 + 4 * LEAST, DIM)).astype(np.float32)
    with VectorIndex.create(path, spec=spec, maintenance="manual") as index:
        index.add(vectors=rows[:3000])
        index.optimize()
        index.add(vectors=rows[3000 : 3000 + LEAST])
        index.search_arrays(rows[:1], 5)
        for start in range(3000 + LEAST, len(rows), LEAST):
            index._maintenance.seal()
            index.add(vectors=rows[start : start + LEAST])
            scan = index._view().together()
            assert scan is not None
            assert scan.count == index._view().behind.count == start + LEAST - 3000
        removed = np.arange(2999, len(rows), 5)
        index.remove(removed.tolist())
        index.add(vectors=rows[:100])  # too few for codes
        assert len(index._view().behind.parts) == 4
        live = np.ones(len(rows) + 100, np.bool_)
        live[removed] = False
        everything = np.concatenate([rows, rows[:100]])
        everything /= np.linalg.norm(everything, axis=1, keepdims=True)
        asked = np.concatenate([everything[3001::97], everything[-100::7]])
        truth, best = exact_search(everything, asked, 5, live)
        for ids, scores in (
            index.search_arrays(asked, 5),
            [
                np.concatenate(a)
                for a in zip(*(index.search_arrays(q[None], 5) for q in asked), strict=True)
            ],
        ):
            assert live[ids].all()
            np.testing.assert_allclose(
                scores, np.take_along_axis(asked @ everything.T, ids, 1), atol=1e-5
            )
            assert (scores >= truth[:, -1:] - 1e-6).mean() > 0.95
            assert (ids[:, 0] == best[:, 0]).mean() > 0.98


@pytest.mark.parametrize("new", [1, 900, 3 * LEAST])
@pytest.mark.parametrize("removed", [0, 7, 3])
@pytest.mark.parametrize("spec", ["flat/pq4", "ivf/pq4", "hnsw/sq4"])
def test_searching_at_once_finds_what_a_closer_look_finds(
    path: Path, rng: np.random.Generator, spec: str, removed: int, new: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A list of candidates of everything together answers as its parts do one after another."""
    rows = rng.standard_normal((3000 + new, DIM)).astype(np.float32)
    with VectorIndex.create(path, spec=spec, maintenance="manual") as index:
        index.add(vectors=rows[:3000])
        index.optimize()
        half = 3000 + (new + 1) // 2
        index.add(vectors=rows[3000:half])
        if new > LEAST:
            index._maintenance.seal()
        index.search_arrays(rows[:1], 5)  # from here on who adds makes codes
        if new > 1:
            index.add(vectors=rows[half:])
        if removed:
            index.remove(range(removed - 1, len(rows), removed))
        asked = rows[::61] + 0.1 * rng.standard_normal(rows[::61].shape).astype(np.float32)
        answered: list[bool] = []
        at_once = carry_out._search_at_once

        def noted(*args: Any) -> Any:
            found = at_once(*args)
            answered.append(found is not None)
            return found

        monkeypatch.setattr(carry_out, "_search_at_once", noted)
        quick = [index.search_arrays(query[None], 10) for query in asked]
        monkeypatch.setattr(carry_out, "_search_at_once", lambda *_: None)
        slow = [index.search_arrays(query[None], 10) for query in asked]
        assert len(answered) == len(asked)
        if (
            new > LEAST and spec == "hnsw/sq4"
        ):  # without codes, many are better searched than listed
            assert not any(answered)
        else:
            assert np.mean(answered) > 0.8
        same = [a.tolist() == b.tolist() for (a, _), (b, _) in zip(quick, slow, strict=True)]
        assert np.mean(same) > (0.97 if new < LEAST else 0.9)  # a scan's last candidates may differ
        live = index.search_arrays(asked, 10, exact=True)[0]
        for found in (quick, slow):
            pairs = zip(found, live.tolist(), strict=True)
            assert np.mean([len(set(a[0].tolist()) & set(b)) for (a, _), b in pairs]) > 9.3


def test_what_was_added_counts_even_if_its_codes_cannot_be_made(
    path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rng.standard_normal((3000 + 2 * LEAST, DIM)).astype(np.float32)
    with VectorIndex.create(path, spec="flat/pq4", maintenance="manual") as index:
        index.add(vectors=rows[:3000])
        index.optimize()
        index.add(vectors=rows[3000 : 3000 + LEAST])
        index.search_arrays(rows[:1], 5)

        def no_room(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(rebase.ann.Encoder, "add", no_room)
        assert len(index.add(vectors=rows[3000 + LEAST :])) == LEAST
        monkeypatch.undo()
        assert len(index) == len(rows)
        ids, _ = index.search_arrays(rows[-3:], 1)
        assert ids[:, 0].tolist() == [len(rows) - 3, len(rows) - 2, len(rows) - 1]


@pytest.mark.parametrize(("mode", "loaded"), [("r", "False"), ("r+", "True")])
def test_what_a_fold_imports_is_there_before_searches(path: Path, mode: str, loaded: str) -> None:
    pytest.importorskip("pyarrow")
    with VectorIndex.create(path, maintenance="manual") as index:
        index.add(vectors=np.eye(3), metadata=[{"n": n} for n in range(3)])
        index._maintenance.seal()
    code = (
        "import sys; from vecindex import VectorIndex\n"
        f"with VectorIndex.open(sys.argv[1], {mode!r}): print('pyarrow.compute' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == loaded


def test_what_sealing_imports_is_imported_beside_the_adds_before_it(path: Path) -> None:
    pytest.importorskip("pyarrow")
    code = """
import sys, threading
import numpy as np
from vecindex import VectorIndex

rows = np.random.default_rng(0).standard_normal((6000, 384)).astype(np.float32)
with VectorIndex.create(sys.argv[1], maintenance="manual") as index:
    for with_metadata in (False, True):
        maintained = index._maintenance
        maintained._imported = False
        index.add(vectors=rows, metadata=[{"n": n} for n in range(6000)] if with_metadata else None)
        for thread in threading.enumerate():
            if thread.name == "vecindex-import":
                thread.join()
        print("pyarrow.compute" in sys.modules, maintained._imported)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", "True", "True", "True"]
