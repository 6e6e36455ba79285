"""`build`: what a second one leaves alone, what errors name, and what a plan foresees."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from build_data import Model, records

from vecindex import VectorIndex
from vecindex.build import BuildOptions, build, plan_build
from vecindex.build.target import Target
from vecindex.embed import FunctionEmbedder
from vecindex.errors import (
    DuplicateIdError,
    EmbedderError,
    EmbedderMismatchError,
    IndexPathError,
    InputError,
)
from vecindex.io import Columns

COLUMNS_OF_TWO = Columns(text="text", id="id")
COLUMNS = Columns(text="text", id="id", metadata=("year",))


def counts(report) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.removed


def rows(path="kb.vx") -> dict:
    with VectorIndex.open(path) as index:
        assert index.verify().ok
        return {record.id: (record.text, record.metadata) for record in index.scan()}


def vectors(path="kb.vx") -> dict:
    with VectorIndex.open(path) as index:
        return {record.id: record.vector for record in index.scan(vectors=True)}


@pytest.fixture
def run(model):
    """Build `kb.vx` with the columns of `records`."""

    def call(sources, columns=COLUMNS, out="kb.vx", **options):
        embedder = options.pop("embedder", None) or model.embedder()
        spec = options.pop("spec", None)
        options = BuildOptions(**options)
        return build(sources, out, columns, embedder=embedder, spec=spec, options=options)

    return call


# -- again ---------------------------------------------------------------------------------------


def test_a_second_build_embeds_only_what_is_new_or_changed(run, model, source) -> None:
    data = records(30)
    assert counts(run(source(data), batch_rows=7)) == (30, 0, 0, 0)
    assert len(model.taken()) == 30
    before = vectors()
    data[3]["text"] = "another text"
    data[4]["year"] = 1900
    report = run(source([*data[:20], *records(32)[30:]]), batch_rows=7)
    assert counts(report) == (2, 2, 18, 0)
    assert (report.rows, report.embedded) == (32, 3)
    assert model.taken() == ["another text", "text 30", "text 31"]
    now, stored = vectors(), rows()
    assert stored["r3"] == ("another text", {"year": 2003})
    assert stored["r4"] == ("text 4", {"year": 1900})
    same = [name for name in before if np.abs(before[name] - now[name]).max() < 1e-6]
    assert len(same) == 29
    assert "r3" not in same


def test_a_build_without_news_changes_no_byte_and_loads_no_model(run, model, source) -> None:
    name = source(records(20))
    run(name)
    model.asked.clear()
    before = {path.name: path.read_bytes() for path in Path("kb.vx").iterdir()}
    before.pop("LOCK")
    assert counts(run(name)) == (0, 0, 20, 0)
    assert model.asked == []
    now = {path.name: path.read_bytes() for path in Path("kb.vx").iterdir()}
    assert {name: now[name] for name in before} == before


def test_prune_removes_what_is_gone(run, source) -> None:
    run(source(records(30)))
    assert counts(run(source(records(10)))) == (0, 0, 10, 0)
    assert counts(run(source(records(10)), prune=True)) == (0, 0, 10, 20)
    assert sorted(rows()) == sorted(record["id"] for record in records(10))


def test_without_ids_positions_over_all_sources_count(run, model, source) -> None:
    columns = Columns(text="text")
    sources = [source(records(5), "a.jsonl"), source(records(3), "b.jsonl")]
    run(sources, columns, batch_rows=2)
    assert sorted(rows()) == list(range(8))
    assert rows()[5] == ("text 0", None)
    model.taken()
    assert counts(run(sources[:1], columns, prune=True)) == (0, 0, 5, 3)
    assert model.taken() == []


def test_given_vectors_are_compared(run, source) -> None:
    data = [{"id": n, "v": [1.0 + n, 2, 3]} for n in range(10)]
    columns = Columns(id="id", vector="v")
    build(source(data), "kb.vx", columns)
    data[2]["v"], data[3]["v"] = [0, 0, 7], [8.0, 4, 6]  # the second one is half of 3's, twice
    data[3]["v"] = [2 * x for x in [4.0, 2, 3]]
    assert counts(build(source(data), "kb.vx", columns)) == (0, 1, 9, 0)
    assert vectors()[2].tolist() == [0, 0, 1]
    with pytest.raises(InputError, match="dimension 2, but this index has dimension 3"):
        build(source([{"id": 1, "v": [1, 2]}]), "kb.vx", columns)


def test_metadata_that_storing_changes_is_no_change(run, source) -> None:
    data = [{"id": "a", "text": "x", "year": [1, None, {"n": 0.5}]}, {"id": "b", "text": "y"}]
    run(source(data))
    assert counts(run(source(data))) == (0, 0, 2, 0)


def test_another_structure_or_promise_is_taken_over(run, source) -> None:
    name = source(records(300))
    run(name)
    run(name, spec="ivf")
    with VectorIndex.open("kb.vx") as index:
        assert index.info().structure == "ivf"
    run(name)
    build(name, "kb.vx", COLUMNS, target_recall=0.8)
    with VectorIndex.open("kb.vx") as index:
        assert (index.info().structure, index.info().target_recall) == ("ivf", 0.8)


def test_many_new_rows_are_folded_in_and_few_are_not(source) -> None:
    for count, indexed in ((300, 300), (310, 300), (2000, 2000)):
        rng = np.random.default_rng(0)
        data = [{"id": n, "v": rng.normal(size=4).tolist()} for n in range(count)]
        build(source(data), "kb.vx", Columns(id="id", vector="v"), spec="ivf")
        with VectorIndex.open("kb.vx") as index:
            assert (len(index), index.info().indexed) == (count, indexed)


def test_an_index_made_otherwise_is_updated_by_ids_only(run, model, source) -> None:
    with VectorIndex.create("kb.vx", embedder=model.embedder()) as index:
        index.add(texts=["mine"], ids=[0])
    with pytest.raises(InputError, match="name the column of ids"):
        run(source(records(3)), Columns(text="text"))
    assert rows() == {0: ("mine", None)}
    assert counts(run(source(records(3)))) == (3, 0, 0, 0)
    assert len(rows()) == 4


# -- passages ------------------------------------------------------------------------------------


def test_passages_follow_their_text(run, model, source) -> None:
    long = {"id": "long", "text": "one two three four five six seven", "year": 1}
    options = {"chunk": 3, "overlap": 1}
    run(source([long, *records(1)]), **options)
    assert rows() == {
        "long#0": ("one two three", {"year": 1, "parent": "long"}),
        "long#1": ("three four five", {"year": 1, "parent": "long"}),
        "long#2": ("five six seven", {"year": 1, "parent": "long"}),
        "r0#0": ("text 0", {"year": 2000, "parent": "r0"}),
    }
    model.taken()
    shorter = long | {"text": "one two three"}
    report = run(source([shorter, *records(1)]), **options)
    assert counts(report) == (0, 0, 2, 2)
    assert sorted(rows()) == ["long#0", "r0#0"]
    assert model.taken() == []
    report = run(source(records(1)), **options, prune=True)
    assert counts(report) == (0, 0, 1, 1)
    assert sorted(rows()) == ["r0#0"]


def test_passages_of_integers_by_position(run, source) -> None:
    run(source(records(2)), Columns(text="text"), chunk=1)
    assert rows()["1#1"] == ("1", {"parent": 1})
    assert counts(run(source(records(1)), Columns(text="text"), chunk=1, prune=True))[3] == 2


def test_time_to_split_counts_as_the_models(source) -> None:
    class Splitting(Model):
        def passages(self, text, _size, _overlap):
            time.sleep(0.02)
            return text.split()

    model = Splitting()
    embedder = model.embedder()
    embedder.passages = model.passages
    options = BuildOptions(chunk=1)
    report = build(source(records(2)), "kb.vx", COLUMNS, embedder=embedder, options=options)
    assert report.rows == 4
    assert report.model_seconds > 0.04


def test_other_passages_need_another_index(run, source) -> None:
    name = source(records(3))
    run(name, chunk=3)
    with pytest.raises(InputError, match=r"kb.vx was built with chunk=3, not with chunk=None"):
        run(name)
    with pytest.raises(InputError, match=r"built with ids=column, not with ids=position"):
        run(name, Columns(text="text"), chunk=3)
    assert len(rows()) == 3


def test_passages_cannot_be_had(run, source) -> None:
    taken = [{"id": "a", "text": "x", "parent": "y"}]
    with pytest.raises(InputError, match=r"source.jsonl, line 1: .* key 'parent' already"):
        run(source(taken), Columns(text="text", id="id", metadata=("parent",)), chunk=3)
    with pytest.raises(InputError, match="not for given vectors"):
        run(source([{"v": [1, 2]}]), Columns(vector="v"), chunk=3)
    with pytest.raises(InputError, match="overlap must be less than chunk, 3: 3"):
        BuildOptions(chunk=3, overlap=3)
    for name, value in (("batch_rows", "5"), ("chunk", 2.5), ("chunk", True), ("overlap", -1)):
        with pytest.raises(InputError, match=f"{name} must be an int of at least ., not {value!r}"):
            BuildOptions(**{name: value})
    assert not list(Path().glob("kb.vx*"))


# -- errors --------------------------------------------------------------------------------------


def test_twins_are_named_before_anything_is_embedded(run, model, source) -> None:
    a, b = (
        source(records(30), "a.jsonl"),
        source([{"id": "x", "text": "y"}, "", records(5)[4]], "b.jsonl"),
    )
    with pytest.raises(
        DuplicateIdError, match=r"'r4' occurs twice: in a.jsonl, line 5, and in b.jsonl, line 3"
    ):
        run([a, b], batch_rows=4)
    assert model.asked == []
    assert not list(Path().glob("kb.vx*"))


def test_ids_of_two_types(run, source) -> None:
    sources = [source(records(3), "a.jsonl"), source([{"id": 7, "text": "y"}], "b.jsonl")]
    with pytest.raises(InputError, match=r"b.jsonl, line 1: the id 7 .* 'r0' in a.jsonl, line 1"):
        run(sources, Columns(text="text", id="id"))


def test_the_embedder_the_row_and_the_line_are_named(run, model, source) -> None:
    data = records(30)
    run(source(data), batch_rows=10)
    data[14]["text"], data[15]["text"], data[16]["text"] = "new", "broken", "also broken"
    for options in ({}, {"cache": "cache"}):
        with pytest.raises(EmbedderError, match="function:m returned NaN") as caught:
            run(source([*data[:5], "", *data[5:]]), batch_rows=10, **options)
        assert caught.value.__notes__[-2:] == [
            "that is the record in source.jsonl, line 17",
            "kb.vx holds 30 rows, all of them whole; the same build goes on from there",
        ]


def test_a_build_that_fails_halfway_says_what_stays(run, source) -> None:
    data = records(12)
    data[8]["text"] = "broken"
    with pytest.raises(EmbedderError, match="NaN") as caught:
        run(source(data), batch_rows=5)
    assert caught.value.__notes__ == [
        "that is the record in source.jsonl, line 9",
        "kb.vx.partial holds 5 rows, all of them whole; the same build goes on from there",
    ]


def test_bad_records_are_left_out_if_asked(run, source) -> None:
    data = [*records(3), "nonsense", {"id": "null", "text": None}, {"id": "none"}, *records(5)[3:]]
    with pytest.raises(InputError, match=r"source.jsonl, line 4: not JSON"):
        run(source(data))
    with pytest.raises(InputError, match=r"source.jsonl, line 4: the text is missing"):
        run(source([*data[:3], *data[4:]]))
    report = run(source(data), skip_bad=True)
    assert (report.rows, report.skipped) == (5, 3)


def test_nothing_to_build(run, source) -> None:
    with pytest.raises(InputError, match=r"no records in source.jsonl: there is nothing to build"):
        run(source([]))
    with pytest.raises(InputError, match=r"no records in source.jsonl \(1 left out\)"):
        run(source(["nonsense"]), skip_bad=True)
    with pytest.raises(InputError, match="name at least one"):
        run([])
    with pytest.raises(InputError, match="an iterator can be read once"):
        run(iter(records(3)))
    os.mkfifo("pipe.jsonl")
    with pytest.raises(InputError, match=r"pipe.jsonl is a pipe, which can be read once"):
        run("pipe.jsonl")
    assert not list(Path().glob("kb.vx*"))


def test_another_build_that_began_meanwhile_is_noticed(run, model, source) -> None:
    name, begun = source(records(3)), []

    def meanwhile(stage: str, _done: int, _total: int | None) -> None:
        if stage == "check" and not begun:
            begun.append(run(name))

    with pytest.raises(IndexPathError, match=r"another build of kb.vx began or ended meanwhile"):
        build(name, "kb.vx", COLUMNS, embedder=model.embedder(), progress=meanwhile)
    assert len(rows()) == 3
    assert not list(Path().glob("*.partial"))


def test_rows_in_memory_are_a_source(run, source) -> None:
    data = records(5)
    assert counts(run(data)) == (5, 0, 0, 0)
    with pytest.raises(DuplicateIdError, match=r"row 0, and in .*row 5"):
        run([*data, data[0]])


def test_texts_need_an_embedder(source) -> None:
    with pytest.raises(EmbedderError, match="need an embedder, or a column of vectors"):
        build(source(records(3)), "kb.vx", COLUMNS)


def test_an_embedder_that_cannot_be_restored_must_be_given(run, source) -> None:
    run(source(records(3)), chunk=2)
    with pytest.raises(EmbedderError, match="need an embedder"):
        build(source(records(3)), "kb.vx", COLUMNS, options=BuildOptions(chunk=2))
    run(source(records(3)), out="plain.vx")
    build(source(records(3)), "plain.vx", COLUMNS)  # nothing to embed
    with pytest.raises(EmbedderError, match="cannot be restored by name"):
        build(source(records(4)), "plain.vx", COLUMNS)


def test_a_text_without_a_direction_is_placed(source) -> None:
    def lengths(texts):
        return [[len(text) - 1, 0.0] for text in texts]

    data = [{"id": n, "text": "x" * (n + 2)} for n in range(5)] + [{"id": 9, "text": "x"}]
    with pytest.raises(EmbedderError, match="must not be all zeros") as caught:
        build(source(data), "kb.vx", COLUMNS_OF_TWO, embedder=lengths)
    assert caught.value.__notes__ == ["that is the record in source.jsonl, line 6"]
    assert not list(Path().glob("kb.vx*"))


def test_errors_of_a_function_are_placed(source) -> None:
    def failing(texts):
        if "text 7" in texts:
            raise KeyError("in position 0")
        return [[1.0, len(text)] for text in texts]

    options = BuildOptions(batch_rows=4)
    with pytest.raises(KeyError) as caught:
        build(source(records(9)), "kb.vx", COLUMNS, embedder=failing, options=options)
    assert caught.value.__notes__[0] == "while records from source.jsonl, line 5 on were put in"


def test_wrong_settings_change_nothing(run, source) -> None:
    name = source(records(3))
    run(name)
    for wrong in ({"spec": "nope"}, {"target_recall": 0}):
        for path in ("kb.vx", "new.vx"):
            with pytest.raises(InputError):
                build(source(records(5)), path, COLUMNS, embedder=Model().embedder(), **wrong)
    assert len(rows()) == 3
    assert not list(Path().glob("new.vx*"))


def test_texts_that_were_cut_are_counted_anew(source) -> None:
    class Short(FunctionEmbedder):
        def count_cut(self, texts):
            return sum(len(text) > 3 for text in texts)

    embedder = Short(Model(), name="short")
    for path in ("a.vx", "b.vx"):
        data = [{"id": n, "text": "x" * n} for n in range(6)]
        report = build(source(data), path, COLUMNS_OF_TWO, embedder=embedder)
        assert report.truncated == 2
    for path in ("c.vx", "d.vx"):  # the second one finds them in the cache
        options = BuildOptions(cache="cache")
        report = build(source(data), path, COLUMNS_OF_TWO, embedder=embedder, options=options)
        assert (report.truncated, report.cache_misses == 0) == (2, path == "d.vx")


def test_another_model_is_refused(run, model, source, tmp_path) -> None:
    name = source(records(5))
    run(name)
    run(name, embedder=model.embedder())
    with pytest.raises(EmbedderMismatchError):  # another name: refused even without news
        run(name, embedder=Model(seed=1))
    with pytest.raises(EmbedderMismatchError) as caught:
        run(source(records(6)), embedder=Model(seed=1).embedder())
    assert caught.value.__notes__[-1] == (
        "kb.vx holds 5 rows; build with the embedder that it was begun with, or remove it"
    )
    assert len(rows()) == 5


def test_what_is_no_index_is_left_alone(run, source) -> None:
    Path("kb.vx").mkdir()
    with pytest.raises(IndexPathError, match="exists and is not an index"):
        run(source(records(3)))


def test_an_index_that_appears_meanwhile_is_one(tmp_path, monkeypatch) -> None:
    """Files that appear while the path is looked at are those of an index."""
    exists = os.path.lexists

    def meanwhile(path) -> bool:
        monkeypatch.undo()
        VectorIndex.create(path).close()
        return exists(path)

    monkeypatch.setattr(os.path, "lexists", meanwhile)
    assert Target.of(tmp_path / "kb.vx").updates


# -- the cache -----------------------------------------------------------------------------------


def test_a_cache_is_shared_between_indexes(run, model, source) -> None:
    data = records(20)
    first = run(source([*data, data[0] | {"id": "twin"}]), cache="cache")
    assert (first.cache_hits, first.cache_misses, first.embedded) == (1, 20, 20)
    model.taken()
    moved = [record | {"id": f"other {n}"} for n, record in enumerate(records(22))]
    second = run(source(moved), out="other.vx", cache="cache")
    assert (second.cache_hits, second.cache_misses) == (20, 2)
    assert model.taken() == ["text 20", "text 21"]


def test_a_cache_in_the_index_itself(run, source) -> None:
    run(source(records(5)), cache="kb.vx")
    assert run(source(records(6)), cache="kb.vx").cache_misses == 1
    assert [path.name for path in Path().iterdir() if path.is_dir()] == ["kb.vx"]
    assert len(rows()) == 6


# -- plans ---------------------------------------------------------------------------------------


def test_a_plan_counts_and_leaves_nothing(model, source) -> None:
    embedder, data = model.embedder(), records(600)
    name = source(data)
    plan = plan_build(name, "kb.vx", COLUMNS, embedder=embedder)
    assert [path.name for path in Path().iterdir()] == [name]
    assert (plan.records, plan.added, plan.changed, plan.to_embed) == (600, 600, 0, 600)
    assert len(model.taken()) <= 256
    build(name, "kb.vx", COLUMNS, embedder=embedder)
    with VectorIndex.open("kb.vx") as index:
        assert 0.5 < plan.disk_bytes / index.info().size_bytes < 2
    data[0]["text"], data[1]["year"] = "new", 0
    name = source([*data[:100], *records(603)[600:]])
    before = {path.name: path.stat().st_mtime_ns for path in Path("kb.vx").iterdir()}
    options = BuildOptions(prune=True)
    plan = plan_build(name, "kb.vx", COLUMNS, embedder=embedder, options=options)
    assert (plan.added, plan.changed, plan.unchanged, plan.to_embed) == (3, 2, 98, 4)
    assert {path.name: path.stat().st_mtime_ns for path in Path("kb.vx").iterdir()} == before
    report = build(name, "kb.vx", COLUMNS, embedder=embedder, options=options)
    assert counts(report)[:3] == (plan.added, plan.changed, plan.unchanged)


def test_a_plan_of_passages_is_estimated(model, source) -> None:
    texts = [f"{n} " + "word " * (n % 40) for n in range(1000)]
    data = [{"id": n, "text": text} for n, text in enumerate(texts)]
    options, columns = BuildOptions(chunk=10), Columns(text="text", id="id")
    name = source(data)
    plan = plan_build(name, "kb.vx", columns, embedder=model.embedder(), options=options)
    report = build(name, "kb.vx", columns, embedder=model.embedder(), options=options)
    assert 0.8 < plan.added / report.added < 1.25
    assert plan.to_embed == plan.added


def test_progress_and_report(model, source) -> None:
    said = []
    options = BuildOptions(batch_rows=10, cache="cache")
    report = build(
        source(records(25)), "kb.vx", COLUMNS, embedder=model.embedder(), options=options,
        progress=lambda *stage: said.append(stage),
    )  # fmt: skip
    assert [stage for stage in said if stage[0] == "check"][-1] == ("check", 25, None)
    assert [stage for stage in said if stage[0] == "rows"][-1] == ("rows", 25, 25)
    assert [stage for stage in said if stage[0] == "cached"][-1] == ("cached", 0, 25)
    assert 0 < report.model_seconds < report.seconds
    assert json.loads(json.dumps(report.to_dict()))["path"] == "kb.vx"
    assert report.truncated == 0
