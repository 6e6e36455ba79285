"""Link the rows of a graph that walks do not find, where they are and from their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecindex.ann.base import CALIBRATED_K, Watch
from vecindex.ann.ivf_build import build_ivf
from vecindex.ann.links import Links
from vecindex.ann.rescored import Wanted
from vecindex.ann.scores import score_rows
from vecindex.arrays import Float32Array, Int32Array, Int64Array, MappedRows, unit_rows
from vecindex.spec import HnswParams, IvfParams, IvfSpec

if TYPE_CHECKING:
    from vecindex.ann.base import Structure
    from vecindex.ann.hnsw import Hnsw
    from vecindex.ann.rescored import Best

_SPREADS = (0.0, 0.7, 0.7)  # how far from each row it is looked for
_SHORT = HnswParams(CALIBRATED_K)  # what a short walk finds, a longer one nearly always finds
_CHUNK = 4096  # rows looked for between two looks at the clock
_LISTED = 20_000  # fewer rows have hardly a neighbour that walks do not come to
_PROBED = IvfParams(8)  # lists that are asked for a row's neighbours
_CANDIDATES = 2 * CALIBRATED_K  # of lists, and of the walk that they are compared with
_FEW = 8  # a part of a row's places for links; rows with fewer links ask lists


def link_lost_rows(graph: Hnsw, first: int, threads: int | None, watch: Watch) -> None:
    """Look for rows by short walks, and link those that are lost from rows that were found.

    Parameters
    ----------
    graph : Hnsw
        Its links are written to, so nobody else may have it yet.
    first : int
        The first row that is new. Earlier ones are looked for once more, as new rows lead walks
        elsewhere, and only where they are.
    threads : int or None
        None takes all cores. The links are the same for any number.
    watch : Watch
        Is told of all rows as often as they are looked for.

    Raises
    ------
    BuildInterrupted
        If `watch` says stop.

    Notes
    -----
    A row may be near to what is asked and yet lie where no walk comes by: a row links others in
    unlike directions, so a dense group may have hardly a link from outside. Each row is looked for
    where it is, and twice where a query might be: away from it by a part of the difference of two
    rows that it links. If it is not found though it is better than the worst row that is, the
    nearest of these with room for a link gets one to it. Most have: of 64 places, linking fills
    16 to 18.

    A group may also be found from its own rows, but not from a row nearby, whose walk ends among
    others: linking found that row's neighbours by such a walk. Lists of codes know them without
    one. A new row with few links asks them, and gets a link to the nearest neighbour that the walk
    from it did not come to.

    Of a million rows, most of them made from others (`benchmarks.data.extended`), 4.5 % were lost.
    Linking them took recall from 0.923 to 0.962, from 0.962 to 0.982 and from 0.985 to 0.991
    (`hnsw/sq4` with `ef_search` 10, 16 and 32). Of 195,099 real ones 1.1 % were lost, and it took
    recall from 0.906 to 0.910 (`ef_search` 16). Then 11,656 of the million were linked from rows
    with few links, which took recall from 0.9913 to 0.9937, from 0.9973 to 0.9987 and from 0.9982
    to 0.9995 (`ef_search` 32, 256 and 512). All of it is a fifth of the time of the build.
    """
    vectors, links, rng = graph.vectors.rows, Links(graph.index), np.random.default_rng(first)
    lists = _lists(graph.vectors, threads, watch)
    for spread in _SPREADS:
        slots = CALIBRATED_K if lists is None or spread else _CANDIDATES
        for chunk in watch.chunks(first if spread else 0, graph.rows, _CHUNK):
            rows = np.arange(chunk.start, chunk.stop)
            asked = _beside(vectors, rows, links, spread, rng)
            found = graph.find(asked, slots, _SHORT, threads)
            nearest = found[:, :CALIBRATED_K]
            lost = _lost(vectors, asked, rows, nearest)
            for row, near in zip(rows[lost].tolist(), nearest[lost].tolist(), strict=True):
                _link(links, near, row)
            if lists is not None and not spread:
                few = (links.lowest(rows) >= 0).sum(axis=1) <= links.width // _FEW
                some = np.flatnonzero(few & (rows >= first))
                best = _neighbours(lists, vectors, asked[some], threads)
                for row, neighbour in _missed(vectors, asked[some], rows[some], best, found[some]):
                    _link(links, [row], neighbour)


def _lists(vectors: MappedRows, threads: int | None, watch: Watch) -> Structure | None:
    """Return what names a row's neighbours without a walk."""
    if len(vectors.rows) < _LISTED:
        return None
    silent = Watch(None, watch.should_stop)
    return build_ivf(IvfSpec(codes="pq4"), vectors, None, threads, silent)


def _neighbours(
    lists: Structure, vectors: Float32Array, asked: Float32Array, threads: int | None
) -> Best:
    """Return the nearest rows of each row, which is one of them."""
    wanted = Wanted(vectors, asked, _CANDIDATES, CALIBRATED_K + 1)
    return lists.best(wanted, _PROBED, threads)


def _missed(
    vectors: Float32Array, asked: Float32Array, rows: Int64Array, best: Best, found: Int64Array
) -> list[tuple[int, int]]:
    """Return rows with their best neighbour that was not found, if ten that were are not better."""
    there = (best.rows[:, :, None] == found[:, None, :]).any(axis=2)
    missed = (best.rows >= 0) & (best.rows != rows[:, None]) & ~there
    some = np.flatnonzero(missed.any(axis=1))
    place = missed[some].argmax(axis=1)
    walked = np.sort(score_rows(vectors, asked[some], found[some]), axis=1)[:, -CALIBRATED_K]
    better = best.scores[some, place] > walked
    neighbours = best.rows[some, place][better]
    return list(zip(rows[some[better]].tolist(), neighbours.tolist(), strict=True))


def _beside(
    vectors: Float32Array, rows: Int64Array, links: Links, spread: float, rng: np.random.Generator
) -> Float32Array:
    """Return each row moved by `spread` of the difference of two rows that it links."""
    if not spread:
        return vectors[rows]
    ends = links.lowest(rows)
    counts = (ends >= 0).sum(axis=1)
    picked = (rng.random((2, len(rows))) * counts).astype(np.int64)
    one, other = np.where(counts, ends[np.arange(len(rows)), picked], rows)
    moved = vectors[rows] + np.float32(spread) * (vectors[one] - vectors[other])
    nowhere = ~moved.any(axis=1)
    moved[nowhere] = vectors[rows[nowhere]]
    return unit_rows(moved)


def _lost(
    vectors: Float32Array, asked: Float32Array, rows: Int64Array, found: Int64Array
) -> Int64Array:
    """Return the places of rows that were not found though others were that are worse."""
    missing = np.flatnonzero((found != rows[:, None]).all(axis=1))
    asked, candidates = asked[missing], np.column_stack([rows[missing], found[missing]])
    scores = score_rows(vectors, asked, candidates)
    lost: Int64Array = missing[scores[:, 0] > scores[:, 1:].min(axis=1)]
    return lost


def _link(links: Links, near: list[int], row: int) -> None:
    """Let the first of some rows that has room link a row, unless a nearer one does."""
    for other in near:
        if other < 0:
            return
        ends: Int32Array = links.of(other)
        if row in ends:
            return
        if ends[-1] < 0:
            ends[np.argmax(ends < 0)] = row
            return
