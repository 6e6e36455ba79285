"""A row asked for its own neighbours is as hard to serve as a query that is no row."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import DIM, SPECS, Builder, Mapper, clustered, recall

from vecindex.ann import build, exact_search
from vecindex.ann.holdout import Holdout
from vecindex.arrays import Int64Array
from vecindex.spec import HnswParams, HnswSpec

GRAPHS = [name for name in SPECS if name.startswith("hnsw")]


@pytest.mark.parametrize("codes", ["float32", "bf16", "sq8", "sq4"])
def test_a_held_out_row_is_as_hard_as_a_new_query(codes: str, mapped: Mapper) -> None:
    every = clustered(6000, seed=1)
    new, old = every[:500], every[500:]
    spec, params = HnswSpec(6, 40, codes), HnswParams(16)
    without = build(spec, mapped(old))
    truly = recall(old, new, without.find(new, 10, params))

    vectors = mapped(every)
    structure = build(spec, vectors)
    own = np.arange(500)
    others = np.stack([r[r != i][:10] for i, r in enumerate(exact_search(every, new, 11)[1])])

    def hits(rows: Int64Array, number: int) -> float:
        return len(set(rows[rows != number][:10].tolist()) & set(others[number].tolist())) / 10

    holdout = Holdout(structure, own)
    assert holdout.rewires
    held, naive = [], []
    before = holdout.structure.find(new, 11, params)
    for number in own.tolist():
        query = new[number : number + 1]
        naive.append(hits(structure.find(query, 11, params)[0], number))
        with holdout.hiding(number) as hidden:
            held.append(hits(hidden.find(query, 11, params)[0], number))
    # What the copy is for; of 4-bit codes, which rank the ten nearest less well, it shows less.
    assert np.mean(naive) > truly + (0.05 if codes == "sq4" else 0.07)
    assert abs(np.mean(held) - truly) < 0.03
    np.testing.assert_array_equal(holdout.structure.find(new, 11, params), before)
    np.testing.assert_array_equal(structure.find(new, 11, params), before)


@pytest.mark.parametrize("name", GRAPHS)
def test_hidden_rows_are_not_found(name: str, built: Builder) -> None:
    case = built(name, DIM)
    rows = np.arange(0, 3000, 60)
    holdout = Holdout(case.structure, rows)
    found = 0
    for row in rows.tolist():
        query = case.vectors.rows[row : row + 1]
        with holdout.hiding(row) as hidden:
            found += row in hidden.find(query, 10, HnswParams(64))
            assert row in case.structure.find(query, 10, HnswParams(64))
        assert row in holdout.structure.find(query, 10, HnswParams(64))
    assert found <= 1  # the walk's start may be among them


def test_only_graphs_are_copied(built: Builder) -> None:
    for name in SPECS:
        structure = built(name, DIM).structure
        holdout = Holdout(structure, np.arange(5))
        assert holdout.rewires == (name in GRAPHS)
        assert (holdout.structure is structure) == (name not in GRAPHS)
        none = Holdout(structure, np.empty(0, np.int64))
        assert none.structure is structure
        assert not none.rewires


def test_a_failure_puts_the_links_back(built: Builder) -> None:
    case = built("hnsw", DIM)
    holdout = Holdout(case.structure, np.arange(20))
    before = holdout.structure.find(case.queries, 10, HnswParams(32))
    with pytest.raises(KeyError), holdout.hiding(7):
        raise KeyError
    np.testing.assert_array_equal(holdout.structure.find(case.queries, 10, HnswParams(32)), before)
