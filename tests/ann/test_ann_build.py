"""Building: few rows, any number of threads, extension of a structure, interruption."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from ann_data import (
    DIM,
    ROWS,
    SPECS,
    Builder,
    Case,
    Loader,
    Mapper,
    answer,
    clustered,
    data,
    ends,
    recall,
)

from vecindex.ann import (
    BuildInterrupted,
    Structure,
    build,
    flat_codes,
    hnsw,
    ivf_build,
    ivf_pq,
    lost,
    scan,
)
from vecindex.ann.flat_codes import FlatScan
from vecindex.ann.ivf import Ivf, IvfSq
from vecindex.ann.ivf_pq import IvfPq
from vecindex.ann.native import faiss
from vecindex.arrays import MappedRows
from vecindex.spec import HnswSpec, IvfSpec

BASE = 2000  # rows of a structure that is extended to `ROWS`


@pytest.mark.parametrize(
    ("name", "count"),
    [*((name, count) for name in SPECS for count in (1, 2, 15, 33, 100)), ("hnsw", 0), ("ivf", 0)],
)
def test_few_rows(
    name: str,
    count: int,
    mapped: Mapper,
    reloaded: Loader,
    capfd: pytest.CaptureFixture[str],
) -> None:
    vectors = mapped(clustered(count, seed=1, dim=10))
    asked = clustered(3, seed=2, dim=10)
    made = build(SPECS[name], vectors)
    for structure in (made, reloaded(made, SPECS[name], vectors)):
        assert structure.rows == count
        for params in ends(structure):
            wide = structure.widen(params, 120)
            rows = structure.find(asked, 120 * (1 + structure.repeats), wide)
            for row in rows.tolist():  # more are wanted than there are
                found = [number for number in row if number >= 0]
                assert len(found) <= (1 + structure.repeats) * count
                if count < 3 and structure.codes == "pq4":
                    # A fast scan does not find a row whose code is the worst that there can be.
                    assert set(found) <= set(range(count))
                else:
                    assert set(found) == set(range(count))
    assert capfd.readouterr() == ("", "")  # FAISS warns on stderr about little training data


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")
@pytest.mark.parametrize("codes", ["float32", "bf16", "sq8", "sq4"])
def test_building_a_graph_keeps_no_memory(codes: str, mapped: Mapper) -> None:
    vectors = mapped(clustered(300, seed=1, dim=8192))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    for _ in range(2):
        build(HnswSpec(4, 4, codes), vectors)
    before = resident()
    for _ in range(5):
        build(HnswSpec(4, 4, codes), vectors)
    assert resident() - before < 2 * vectors.rows.nbytes


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_same_bytes_for_any_number_of_threads(plain: Case, threads: int) -> None:
    again = build(plain.spec, plain.vectors, threads=threads)
    np.testing.assert_array_equal(data(again), data(plain.structure))


@pytest.mark.parametrize("loaded", [False, True])
def test_extension(plain: Case, loaded: bool, mapped: Mapper, reloaded: Loader) -> None:
    before = mapped(plain.vectors.rows[:BASE].copy())
    base = build(plain.spec, before)
    if loaded:
        base = reloaded(base, plain.spec, before)
    bytes_before = data(base)
    answers = base.find(plain.queries, 30, plain.good)
    extended = build(plain.spec, plain.vectors, base=base)
    assert extended.rows == ROWS
    found = answer(extended, plain.vectors.rows, plain.queries, 10, plain.good)[1]
    assert recall(plain.vectors.rows, plain.queries, found) > 0.97
    new = plain.vectors.rows[BASE:]
    own = answer(extended, plain.vectors.rows, new, 1, plain.good)[1][:, 0]
    assert (own == np.arange(BASE, ROWS)).mean() > 0.98
    # The base is as it was, and the extension does not lean on it.
    assert base.rows == BASE
    np.testing.assert_array_equal(base.find(plain.queries, 30, plain.good), answers)
    np.testing.assert_array_equal(data(base), bytes_before)
    extended_bytes = data(extended)
    del base, before
    np.testing.assert_array_equal(data(extended), extended_bytes)
    again = reloaded(extended, plain.spec, plain.vectors)
    np.testing.assert_array_equal(
        extended.find(plain.queries, 30, plain.good), again.find(plain.queries, 30, plain.good)
    )


@pytest.mark.parametrize("codes", ["float32", "bf16", "sq4"])
def test_extension_of_a_graph_keeps_its_links(
    codes: str, mapped: Mapper, vectors: MappedRows
) -> None:
    seen: list[int] = []
    spec = HnswSpec(6, 40, codes)
    base = build(spec, mapped(vectors.rows[:5000].copy()))
    build(spec, vectors, base=base, progress=lambda done, _: seen.append(done))
    assert seen[0] == 5000  # the first rows were not linked again
    for other in (HnswSpec(7, 40, codes), HnswSpec(6, 41, codes)):
        seen.clear()
        build(other, vectors, base=base, progress=lambda done, _: seen.append(done))
        assert seen[0] == 0


def test_a_graph_of_trained_codes_is_built_anew(mapped: Mapper, vectors: MappedRows) -> None:
    seen: list[int] = []
    spec = HnswSpec(6, 40, "sq8")
    base = build(spec, mapped(vectors.rows[:5000].copy()))
    build(spec, vectors, base=base, progress=lambda done, _: seen.append(done))
    assert seen[0] == 0  # its ranges were those of the first rows


def trained_parts(structure: Structure) -> list[bytes]:
    """Return the centroids and the words of a structure, as bytes."""
    parts = []
    if isinstance(structure, FlatScan):
        parts.append(structure.scan.index.pq)
    elif isinstance(structure, IvfPq):
        parts += [structure.index.pq, structure.scan.index.pq]
    words = [bytes(faiss.vector_to_array(pq.centroids)) for pq in parts]
    if isinstance(structure, Ivf | IvfSq | IvfPq):
        quantizer = structure.quantizer
        words.append(bytes(quantizer.reconstruct_n(0, quantizer.ntotal)))
    return words


@pytest.mark.parametrize("dim", [DIM, 10])
@pytest.mark.parametrize("name", ["flat/pq4", "ivf", "ivf/bf16", "ivf/sq8", "ivf/pq4"])
def test_what_was_trained_stays_until_the_rows_have_doubled(
    name: str, dim: int, mapped: Mapper
) -> None:
    rows = clustered(1601, seed=1, dim=dim)

    def grown(base: Structure | None, count: int) -> Structure:
        return build(SPECS[name], mapped(rows[:count].copy()), base=base)

    base = grown(None, 800)
    once = grown(base, 1200)
    twice = grown(once, 1600)
    anew = grown(twice, 1601)
    assert [each.trained for each in (base, once, twice, anew)] == [800, 800, 800, 1601]
    assert trained_parts(base) == trained_parts(once) == trained_parts(twice)
    for old, new in zip(trained_parts(twice), trained_parts(anew), strict=True):
        assert old != new
    np.testing.assert_array_equal(data(anew), data(grown(None, 1601)))
    if name.startswith("ivf"):
        other = IvfSpec(nlist=20, codes=SPECS[name].codes)
        assert build(other, mapped(rows[:1200].copy()), base=base).nlist == 20


@pytest.fixture(scope="session")
def bases(mapped: Mapper) -> Callable[[str], Structure]:
    """Build structures over the first rows, once each."""
    fewer = mapped(clustered(ROWS, seed=1)[:BASE].copy())
    return lru_cache(lambda name: build(SPECS[name], fewer))


@pytest.mark.parametrize("other", SPECS)
def test_a_base_of_another_kind_is_not_used(
    plain: Case, other: str, bases: Callable[[str], Structure]
) -> None:
    if other != plain.name:
        made = build(plain.spec, plain.vectors, base=bases(other))
        assert type(made) is type(plain.structure)
        np.testing.assert_array_equal(data(made), data(plain.structure))


def test_lists_take_over_the_codes_of_a_scan(built: Builder) -> None:
    flat, lists = built("flat/pq4", DIM), built("ivf/pq4", DIM)
    made = build(lists.spec, flat.vectors, base=flat.structure)
    assert made.scan is flat.structure.scan
    np.testing.assert_array_equal(data(made), data(lists.structure))


def test_a_base_over_more_rows_is_not_used(plain: Case, mapped: Mapper) -> None:
    fewer = mapped(plain.vectors.rows[:100].copy())
    made = build(plain.spec, fewer, base=plain.structure)
    assert made.rows == 100
    np.testing.assert_array_equal(data(made), data(build(plain.spec, fewer)))


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make structures out of small chunks of rows."""
    for module in (flat_codes, hnsw, ivf_build, ivf_pq, lost, scan):
        monkeypatch.setattr(module, "_CHUNK", 700)


@pytest.mark.usefixtures("chunked")
def test_chunks_do_not_show(plain: Case) -> None:
    if plain.spec.kind != "hnsw":  # a graph depends on the order in which its rows come
        again = build(plain.spec, plain.vectors)
        np.testing.assert_array_equal(data(again), data(plain.structure))


@pytest.mark.usefixtures("chunked")
def test_progress(plain: Case) -> None:
    seen: list[tuple[int, int]] = []
    build(plain.spec, plain.vectors, progress=lambda done, total: seen.append((done, total)))
    # Codes, then lists; links, then three times the look for lost rows.
    passes = 4 if plain.spec.kind == "hnsw" else 2 if plain.name == "ivf/pq4" else 1
    once = [(0, ROWS), (700, ROWS), (1400, ROWS), (2100, ROWS), (2800, ROWS), (ROWS, ROWS)]
    assert seen == passes * once


@pytest.mark.usefixtures("chunked")
def test_interruption(plain: Case, mapped: Mapper) -> None:
    """Stop at every look that a build takes: nothing is returned, nothing is changed."""
    looks = 0

    def count() -> bool:
        nonlocal looks
        looks += 1
        return False

    base = build(plain.spec, mapped(plain.vectors.rows[:BASE].copy()))
    before, answers = data(base), base.find(plain.queries, 20, plain.good)
    build(plain.spec, plain.vectors, base=base, should_stop=count)
    assert looks >= 2
    for last in range(looks):
        left = iter([False] * last + [True])
        with pytest.raises(BuildInterrupted):
            build(plain.spec, plain.vectors, base=base, should_stop=lambda: next(left))  # noqa: B023
    np.testing.assert_array_equal(data(base), before)
    np.testing.assert_array_equal(base.find(plain.queries, 20, plain.good), answers)


def test_stopped_before_it_began(plain: Case) -> None:
    seen: list[int] = []
    with pytest.raises(BuildInterrupted):
        build(
            plain.spec,
            plain.vectors,
            progress=lambda done, _: seen.append(done),
            should_stop=lambda: True,
        )
    assert seen == []


def test_a_failing_progress_passes(plain: Case) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(plain.spec, plain.vectors, progress=fail)
