"""HNSW and IVF: recall against numpy, extension, and what ends a build."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import SPECS, Loader, Mapper, answer, assert_exact, clustered, recall

from vecindex.ann import BuildInterrupted, Structure, build, lists_for, search_flat
from vecindex.ann.hnsw import Hnsw
from vecindex.ann.ivf import Ivf
from vecindex.arrays import Float32Array, MappedRows
from vecindex.errors import SpecError
from vecindex.spec import FlatParams, HnswParams, HnswSpec, IvfParams, IvfSpec

GOOD = {"hnsw": HnswParams(64), "ivf": IvfParams(32)}


def test_recall(structure: Structure, vectors: MappedRows, queries: Float32Array) -> None:
    _, rows = answer(structure, vectors.rows, queries, 10, GOOD[structure.kind])
    assert recall(vectors.rows, queries, rows) > 0.97
    assert structure.rows == 6000
    assert 6000 < structure.size_bytes < 6000 * 32 * 4 * 2


def test_more_cost_gives_more_recall(
    structure: Structure, vectors: MappedRows, queries: Float32Array
) -> None:
    grid = structure.grid()
    first, last = (answer(structure, vectors.rows, queries, 10, grid[i])[1] for i in (0, -1))
    cheap, dear = (recall(vectors.rows, queries, rows) for rows in (first, last))
    assert 0.2 < cheap < dear - 0.1
    assert dear > 0.999


def test_every_list_is_exact(
    structures: dict[str, Structure], vectors: MappedRows, queries: Float32Array
) -> None:
    ivf = structures["ivf"]
    assert [ivf.exhaustive(params) for params in ivf.grid()] == [False] * (len(ivf.grid()) - 1) + [
        True
    ]
    assert isinstance(ivf, Ivf)
    assert not ivf.exhaustive(IvfParams(ivf.nlist - 1))
    found = answer(ivf, vectors.rows, queries, 10, ivf.grid()[-1])
    assert_exact(found, vectors.rows, queries, 10)
    hnsw = structures["hnsw"]
    assert not any(map(hnsw.exhaustive, hnsw.grid()))


@pytest.mark.parametrize("k", [10, 25, 100, 1000])
def test_wider_parameters_keep_recall(
    structure: Structure, vectors: MappedRows, queries: Float32Array, k: int
) -> None:
    grid = structure.grid()
    for params in grid[1:6:2]:
        wide = structure.widen(params, k)
        if k == 10:
            assert wide == params
        ten = recall(vectors.rows, queries, structure.propose(queries, 10, params))
        many = structure.propose(queries, k, wide)
        assert (many >= 0).all()
        assert recall(vectors.rows, queries, many) > ten - 0.02


def test_a_single_query_is_as_a_batch(structure: Structure, queries: Float32Array) -> None:
    params = GOOD[structure.kind]
    batch = structure.propose(queries, 10, params)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(structure.propose(queries, 10, params, threads), batch)
    for i in range(20):
        np.testing.assert_array_equal(
            structure.propose(queries[i : i + 1], 10, params)[0], batch[i]
        )


def test_parameters_of_another_structure(structure: Structure, queries: Float32Array) -> None:
    for call in (
        lambda params: structure.propose(queries, 10, params),
        lambda params: structure.widen(params, 50),
    ):
        with pytest.raises(SpecError, match=f"{structure.kind} takes no FlatParams"):
            call(FlatParams())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("count", [0, 1, 2, 13, 39, 100])
def test_tiny(
    spec: HnswSpec | IvfSpec,
    count: int,
    mapped: Mapper,
    reloaded: Loader,
    capfd: pytest.CaptureFixture[str],
) -> None:
    vectors = mapped(clustered(count, seed=1))
    asked = clustered(3, seed=2)
    built = build(spec, vectors)
    for structure in (built, reloaded(built, vectors)):
        for params in structure.grid():
            rows = structure.propose(asked, 20, structure.widen(params, 20))
            found = rows[0][rows[0] >= 0]
            assert len(found) == len(set(found.tolist())) == min(count, 20)
            if count <= 20:
                assert sorted(found.tolist()) == list(range(count))
    assert capfd.readouterr() == ("", "")  # FAISS warns on stderr about little training data


@pytest.mark.parametrize("spec", [IvfSpec(), IvfSpec(nlist=7), IvfSpec(nlist=5000)])
def test_number_of_lists(spec: IvfSpec) -> None:
    for rows in (0, 1, 13, 38, 39, 80, 1000, 10**6):
        lists = lists_for(spec, rows)
        assert 1 <= lists <= max(rows, 1)
        if spec.nlist is None:
            assert lists == 1 or rows / lists >= 39
    assert lists_for(IvfSpec(), 13) == 1
    assert lists_for(IvfSpec(), 10**6) == 2000
    assert lists_for(IvfSpec(nlist=5000), 10**6) == 5000


def test_as_many_lists_as_rows(mapped: Mapper, capfd: pytest.CaptureFixture[str]) -> None:
    vectors = mapped(np.repeat(clustered(20, seed=1), 3, axis=0))
    ivf = build(IvfSpec(nlist=60), vectors)
    assert (ivf.propose(vectors.rows, 3, ivf.grid()[-1]) >= 0).all()
    assert capfd.readouterr() == ("", "")


def test_builds_are_repeatable(structure: Structure, vectors: MappedRows) -> None:
    def data(one: Structure) -> bytes:
        pieces: list[bytes] = []
        one.write(lambda view: pieces.append(bytes(view)))
        return b"".join(pieces)

    again = build(SPECS[structure.kind], vectors, threads=1)
    assert data(again) == data(structure)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("loaded", [False, True])
def test_extension(
    kind: str,
    loaded: bool,
    mapped: Mapper,
    reloaded: Loader,
    vectors: MappedRows,
    queries: Float32Array,
) -> None:
    before = mapped(vectors.rows[:4000].copy())
    base = build(SPECS[kind], before)
    if loaded:
        base = reloaded(base, before)
    answers = base.propose(queries, 10, GOOD[kind])
    extended = build(SPECS[kind], vectors, base=base)
    assert extended.rows == 6000
    _, rows = answer(extended, vectors.rows, queries, 10, GOOD[kind])
    assert recall(vectors.rows, queries, rows) > 0.97
    assert (rows >= 4000).any()
    new = np.arange(4000, 6000)
    own = extended.propose(vectors.rows[new], 1, GOOD[kind])[:, 0]
    assert (own == new).mean() > 0.98
    # The base is as it was, and the extension does not lean on it.
    assert base.rows == 4000
    np.testing.assert_array_equal(base.propose(queries, 10, GOOD[kind]), answers)
    del base, before
    np.testing.assert_array_equal(
        extended.propose(queries, 10, GOOD[kind]),
        reloaded(extended, vectors).propose(queries, 10, GOOD[kind]),
    )


def test_extension_of_a_graph_keeps_its_links(mapped: Mapper, vectors: MappedRows) -> None:
    seen: list[int] = []
    base = build(SPECS["hnsw"], mapped(vectors.rows[:5000].copy()))
    build(SPECS["hnsw"], vectors, base=base, progress=lambda done, _: seen.append(done))
    assert seen[0] == 5000  # the first rows were not linked again
    build(HnswSpec(m=6), vectors, base=base, progress=lambda done, _: seen.append(done))
    assert seen[2] == 0  # another spec


def test_lists_are_trained_again_when_the_rows_have_doubled(
    mapped: Mapper, vectors: MappedRows
) -> None:
    def grown(base: Structure, rows: int, spec: IvfSpec = SPECS["ivf"]) -> Ivf:
        ivf = build(spec, mapped(vectors.rows[:rows].copy()), base=base)
        assert isinstance(ivf, Ivf)
        return ivf

    base = build(SPECS["ivf"], mapped(vectors.rows[:2000].copy()))
    once = grown(base, 3000)
    twice = grown(once, 4000)
    assert (once.trained, twice.trained) == (2000, 2000)
    assert grown(twice, 4001).trained == 4001
    assert grown(base, 3000, IvfSpec(nlist=20)).nlist == 20


def test_a_base_of_another_kind_is_not_used(
    structures: dict[str, Structure], vectors: MappedRows
) -> None:
    assert isinstance(build(SPECS["hnsw"], vectors, base=structures["ivf"]), Hnsw)
    assert isinstance(build(SPECS["ivf"], vectors, base=structures["hnsw"]), Ivf)


def test_a_base_over_more_rows_is_not_used(
    structure: Structure, vectors: MappedRows, mapped: Mapper
) -> None:
    fewer = mapped(vectors.rows[:100].copy())
    assert build(SPECS[structure.kind], fewer, base=structure).rows == 100


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_progress_and_stop(spec: HnswSpec | IvfSpec, mapped: Mapper) -> None:
    vectors = mapped(clustered(40_000, seed=1, dim=4))
    spec = HnswSpec(2, 2) if isinstance(spec, HnswSpec) else spec
    seen: list[tuple[int, int]] = []
    build(spec, vectors, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 40_000)
    assert seen[-1] == (40_000, 40_000)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 3

    done_rows = [0]
    with pytest.raises(BuildInterrupted):
        build(
            spec,
            vectors,
            progress=lambda done, _: done_rows.append(done),
            should_stop=lambda: done_rows[-1] > 0,
        )
    assert 0 < done_rows[-1] < 40_000
    seen.clear()
    with pytest.raises(BuildInterrupted):
        build(spec, vectors, progress=lambda *done: seen.append(done), should_stop=lambda: True)
    assert seen == []


def test_a_failing_progress_passes(vectors: MappedRows) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for spec in SPECS.values():
        with pytest.raises(KeyboardInterrupt):
            build(spec, vectors, progress=fail)


def test_duplicates_are_all_found(mapped: Mapper) -> None:
    distinct = clustered(200, seed=1)
    rows = np.repeat(distinct, 5, axis=0)
    vectors = mapped(rows)
    _, truth = search_flat(rows, distinct, 5)
    for kind, spec in SPECS.items():
        structure = build(spec, vectors)
        _, found = answer(structure, rows, distinct, 5, structure.grid()[-1])
        share = (found == truth).mean()
        assert share == 1.0 if kind == "ivf" else share > 0.95
