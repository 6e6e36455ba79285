"""The page: parsed as a browser would, and its frontier checked against the definition."""

from html.parser import HTMLParser
from itertools import pairwise

import pytest
from bench_data import condition, report, row
from hypothesis import given
from hypothesis import strategies as st

from vecindex.bench.axes import RecallAxis, TimeAxis
from vecindex.bench.frontier import frontier
from vecindex.bench.page import to_html
from vecindex.bench.plot import COLORS, SHAPES, explanation

POINTS = st.lists(
    st.tuples(st.sampled_from([0.5, 0.8, 0.9, 0.99, 1.0]) | st.floats(0, 1),
              st.sampled_from([0.1, 0.2, 1.0]) | st.floats(1e-3, 1e3)),
    max_size=30,
)  # fmt: skip
VOID = {"meta", "path", "circle", "polyline"}


class Page(HTMLParser):
    """What a page holds: points with their titles, cells, attributes; tags must be balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.points, self.cells, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.attributes += attrs
        classes = (attributes.get("class") or "").split()
        if tag == "g" and "point" in classes:
            self.points.append({"best": "best" in classes, "title": "", "marks": []})
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "path" and "mark" in classes and "g" in self.open:
            self.points[-1]["marks"].append((attributes["class"], attributes["d"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["title"] and "g" in self.open:
            self.points[-1]["title"] += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


ROWS = [
    row(1.0, 5.0, structure="exact", name="exact"),
    row(0.97, 0.3),
    row(0.9, 0.2, name="ef_search=16"),
    row(0.96, 0.4, name="ef_search=32"),
    row(0.8, 0.1, structure="ivf", name="nprobe=1"),
    row(0.99, 0.9, structure="ivf"),
]


def test_every_point_has_its_figures():
    page = Page(to_html(report(*ROWS)))
    assert [point["title"] for point in page.points] == [explanation(one) for one in ROWS]
    title = page.points[1]["title"]
    for figure in (
        "hnsw · default", "recall@10: 0.9700 ± 0.0010", "p50 / p95 / p99: 0.300 / 0.600 / 0.900 ms",
        "batch: 5,000 queries/s", "build: 1.5 s", "disk: 2.0 MB", "hnsw over 100 of 100 rows",
    ):  # fmt: skip
        assert figure in title
    assert "memory" not in title  # not known


def test_the_frontier_is_marked():
    page = Page(to_html(report(*ROWS)))
    assert [point["best"] for point in page.points] == [True, True, True, False, True, True]


def test_each_series_has_a_colour_and_a_shape_of_its_own():
    page = Page(to_html(report(*ROWS)))
    marks = [point["marks"] for point in page.points]
    assert all(len(one) == 1 for one in marks)
    assert marks[1] == marks[2] == marks[3]
    assert len({mark[0] for one in marks for mark in one}) == 3
    assert len({mark[1] for one in marks for mark in one}) == 3
    assert len(set(SHAPES)) == len(SHAPES) == COLORS - 1


def test_the_table_has_the_same_figures():
    cells = Page(to_html(report(*ROWS, conditions=[condition(returned=7)]))).cells
    for text in ("ef_search=16", "0.9000", "0.200", "1.5", "2.0", "filter 10%", "7 (10)"):
        assert text in cells


def test_nothing_is_loaded_from_elsewhere():
    text = to_html(report(*ROWS, conditions=[condition()]))
    page = Page(text)
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "href", "xlink:href", "srcset", "action", "data"}
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert ("name", "viewport") in page.attributes
    assert "prefers-color-scheme: dark" in text


def test_text_is_escaped():
    bad = '</title><script>alert("1")</script>&amp;'
    rows = [row(structure=bad), row(0.9, 0.1, name=bad, structure=bad)]
    text = to_html(report(*rows, data=bad, query_source=bad, notes=[bad], command=bad))
    assert text.count("<script>") == 1
    assert "alert(" in text
    assert Page(text).points[1]["title"].startswith(f"{bad} · {bad}\n")


def test_other_k_are_there_to_unfold():
    text = to_html(report(row(k=1), row(k=10), row(k=100)))
    assert text.index("recall@10 against") < text.index("recall@1 against")
    assert text.count("<details>") == 2
    assert len(Page(text).points) == 3


@pytest.mark.parametrize(
    "rows", [[row(0.0)], [row(1.0)], [row(1.0), row(1.0)], [row(0.2), row(1.0, 900.0)]]
)
def test_a_plot_of_few_points(rows):
    assert len(Page(to_html(report(*rows))).points) == len(rows)


@given(POINTS)
def test_the_frontier_is_what_nothing_beats(points):
    def beaten(at):
        recall, time = points[at]
        return any(
            other >= recall and took <= time and (other, took) != (recall, time)
            for other, took in points
        )

    found = frontier(points)
    assert sorted(found) == [at for at in range(len(points)) if not beaten(at)]
    assert [points[at][0] for at in found] == sorted(points[at][0] for at in found)


@given(st.lists(st.floats(0, 1), min_size=1), st.lists(st.floats(1e-3, 1e4), min_size=1))
def test_all_points_are_on_the_axes_in_their_order(recalls, times):
    across, up = RecallAxis.over(recalls, 0, 100), TimeAxis.over(times, 100, 0)
    places = [across.at(recall) for recall in sorted(recalls)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    heights = [up.at(time) for time in sorted(times)]
    assert heights == sorted(heights, reverse=True)
    assert all(0 <= height <= 100 for height in heights)


@given(st.lists(st.floats(0, 1), min_size=1))
def test_ticks_are_apart_and_one_is_among_them(recalls):
    ticks = RecallAxis.over(recalls, 0, 400).ticks(40)
    assert ticks[-1][1] == "1"
    places = [place for place, _ in ticks]
    assert all(b - a >= 40 for a, b in pairwise(places))


def test_stretching():
    axis = RecallAxis.over([0.9, 0.99, 0.999], 0, 100)
    first, second, third, one = (axis.at(recall) for recall in (0.9, 0.99, 0.999, 1.0))
    assert second - first == pytest.approx(third - second, abs=0.02)
    assert third < one
