"""The embedding cache: what is found again, what never is, and that it never stops the work."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.embed import FunctionEmbedder
from vecindex.embed.cache import CachedEmbedder
from vecindex.embed.cache_file import NAME
from vecindex.errors import EmbedderError, InputError

DIM = 16


class Model:
    """A function that gives each text a direction, and remembers what it was asked."""

    def __init__(self, seed: int = 0, noise: float = 0.0, scale: float = 1.0) -> None:
        self.seed, self.noise, self.scale, self.asked = seed, noise, scale, []

    def __call__(self, texts):
        self.asked += texts
        rows = [np.random.default_rng([self.seed, *t.encode()]).normal(size=DIM) for t in texts]
        return self.scale * (np.array(rows) + self.noise)


def cached(path, model=None, name="m", **options) -> CachedEmbedder:
    embedder = CachedEmbedder(FunctionEmbedder(model or Model(), name=name), path, **options)
    embedder.fingerprint()
    return embedder


def test_each_text_goes_through_the_model_once(tmp_path) -> None:
    model, progress = Model(), []
    with closing(cached(tmp_path / "deep" / "cache", model)) as first:
        asked = len(model.asked)
        rows = first.embed_documents(["a", "b", "a"], progress=lambda *p: progress.append(p))
        assert model.asked[asked:] == ["a", "b"]
        assert (first.hits, first.misses) == (1, 2)
        assert progress[-1] == (3, 3)
        np.testing.assert_array_equal(rows, model(["a", "b", "a"]).astype("f4"))
        np.testing.assert_array_equal(first.embed_documents(["b", "c", "é", ""])[0], rows[1])
        assert first.embed_documents([]).shape == (0, DIM)
    model = Model(noise=1e-4)  # as of another batch size or device
    with closing(cached(tmp_path / "deep" / "cache", model)) as second:
        asked = len(model.asked)
        np.testing.assert_array_equal(second.embed_documents(["a", "b", "a"]), rows)
        assert model.asked[asked:] == []
        second.embed_queries(["a"])  # the same text in another role
        assert model.asked[asked:] == ["a"]


def test_texts_longer_than_the_model_reads_are_counted_when_found_too(tmp_path) -> None:
    class ThreeLetters(FunctionEmbedder):
        def count_cut(self, texts):
            return sum(len(text) > 3 for text in texts)

    for _ in range(2):
        with closing(CachedEmbedder(ThreeLetters(Model(), name="m"), tmp_path)) as embedder:
            embedder.embed_documents(["long", "abc", "long", "longer"])
            embedder.embed_queries(["long", "long"])
            assert embedder.truncated == 3


@pytest.mark.parametrize(
    "other", [{"model": Model(seed=1)}, {"model": Model(scale=2)}, {"name": "n"}]
)
def test_another_model_never_hits(tmp_path, other) -> None:
    with closing(cached(tmp_path)) as first, closing(cached(tmp_path, **other)) as second:
        first.embed_documents(["a"])
        rows = second.embed_documents(["a"])
        assert (second.hits, second.misses) == (0, 1)
        np.testing.assert_array_equal(rows, other.get("model", Model())(["a"]).astype("f4"))
    with closing(cached(tmp_path)) as first, closing(cached(tmp_path, **other)) as second:
        first.embed_documents(["a"])
        np.testing.assert_array_equal(second.embed_documents(["a"]), rows)
        assert first.hits == second.hits == 1


def test_an_index_does_not_notice_it(tmp_path) -> None:
    embedder = FunctionEmbedder(Model(), name="m")
    path = tmp_path / "kb.vx"
    with VectorIndex.create(path, embedder=embedder) as index:
        index.add(texts=["a", "b"], ids=["a", "b"])
    inside = CachedEmbedder(embedder, path)  # in the index's own directory
    with VectorIndex.open(path, "r+", embedder=inside) as index:
        index.add(texts=["c"])
        index.optimize()
        assert index.search("c", k=1)[0].text == "c"
        assert index.verify().ok
    assert (path / NAME).exists()
    inside.close()


def test_a_damaged_value_is_a_miss(tmp_path) -> None:
    with closing(cached(tmp_path)) as embedder:
        rows = embedder.embed_documents(["a", "b", "c"])
    with closing(sqlite3.connect(tmp_path / NAME)) as db, db:
        (first, second) = db.execute("SELECT rowid, vector FROM vectors LIMIT 2").fetchall()
        flipped = bytes([first[1][0] ^ 1]) + first[1][1:]
        db.execute("UPDATE vectors SET vector = ? WHERE rowid = ?", (flipped, first[0]))
        db.execute("UPDATE vectors SET vector = 'text' WHERE rowid = ?", (second[0],))
    with closing(cached(tmp_path)) as embedder:
        np.testing.assert_array_equal(embedder.embed_documents(["a", "b", "c"]), rows)
        assert (embedder.hits, embedder.misses) == (1, 2)
    with closing(cached(tmp_path)) as embedder:  # and was put right
        embedder.embed_documents(["a", "b", "c"])
        assert embedder.misses == 0


@pytest.mark.parametrize("damage", ["header", "middle", "half", "open"])
def test_a_damaged_file_is_set_aside(tmp_path, damage) -> None:
    texts = [f"text {number}" for number in range(400)]
    with closing(cached(tmp_path)) as embedder:
        rows = embedder.embed_documents(texts)
        size = (tmp_path / NAME).stat().st_size
    if damage == "half":
        os.truncate(tmp_path / NAME, size // 2)
    reading = cached(tmp_path) if damage == "open" else None
    with (tmp_path / NAME).open("r+b") as file:
        file.seek({"header": 0, "middle": 8192, "half": 8192, "open": 8192}[damage])
        file.write(b"\xff" * (size if damage in ("middle", "open") else 9000))
    with pytest.warns(RuntimeWarning, match="was damaged"):
        again = reading or cached(tmp_path)
        np.testing.assert_array_equal(again.embed_documents(texts), rows)
    again.close()
    assert (tmp_path / f"{NAME}.damaged").exists()
    with closing(cached(tmp_path)) as embedder:
        np.testing.assert_array_equal(embedder.embed_documents(texts), rows)
        assert again.misses + embedder.misses >= 400
    with closing(cached(tmp_path)) as embedder:
        embedder.embed_documents(texts)
        assert embedder.misses == 0


def test_without_a_place_to_write_there_is_one_warning(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(RuntimeWarning, match="going on without the embedding cache") as seen:
        embedder = cached(tmp_path / "file" / "cache")
        for _ in range(3):
            embedder.embed_documents(["a"])
    assert len(seen) == 1
    assert (embedder.hits, embedder.misses) == (0, 3)


def test_a_full_disk_stops_the_cache_only(tmp_path) -> None:
    with closing(cached(tmp_path)) as embedder:
        embedder.embed_documents(["a"])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.warns(RuntimeWarning, match="going on without the embedding cache"):
                rows = embedder.embed_documents([f"text {number}" for number in range(3000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        np.testing.assert_array_equal(rows[-1], Model()(["text 2999"]).astype("f4")[0])
    with closing(cached(tmp_path)) as embedder:  # what was there is still whole
        embedder.embed_documents(["a"])
        assert embedder.hits == 1


def test_what_was_not_used_for_longest_goes_first(tmp_path) -> None:
    limit = 120_000  # some 500 rows of this dimension
    with closing(cached(tmp_path, max_bytes=limit)) as embedder:
        embedder.embed_documents([f"old {number}" for number in range(300)])
        with closing(sqlite3.connect(tmp_path / NAME)) as db, db:
            db.execute("UPDATE vectors SET used = used - 100000")
        embedder.embed_documents(["old 0"])  # used again
        for start in range(0, 300, 50):
            embedder.embed_documents([f"new {start + number}" for number in range(50)])
        before = embedder.misses
        embedder.embed_documents(["old 0", *(f"new {number}" for number in range(300))])
        assert embedder.misses == before
        embedder.embed_documents(["old 1", "old 2"])
        assert embedder.misses == before + 2
        for start in range(0, 3000, 500):
            embedder.embed_documents([f"more {start + number}" for number in range(500)])
    assert (tmp_path / NAME).stat().st_size < 2 * limit


_CHILD = """
import sys, zlib
import numpy as np
from vecindex.embed import FunctionEmbedder
from vecindex.embed.cache import CachedEmbedder

def model(texts):
    return np.array([np.random.default_rng(zlib.crc32(t.encode())).normal(size=16) for t in texts])

path, first, last, rounds = sys.argv[1], *map(int, sys.argv[2:])
embedder = CachedEmbedder(FunctionEmbedder(model, name="m"), path)
for _ in range(rounds):
    for start in range(first, last, 25):
        texts = [f"text {n}" for n in range(start, start + 25)]
        assert np.array_equal(embedder.embed_documents(texts), model(texts).astype("f4"))
        print(start, flush=True)
print(embedder.hits, embedder.misses)
"""


def child(path, *numbers: int) -> subprocess.Popen:
    words = [sys.executable, "-W", "error", "-c", _CHILD, str(path), *map(str, numbers)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_share_it(tmp_path) -> None:
    children = [child(tmp_path, 0, 500, 2), child(tmp_path, 250, 750, 2)]
    for process in children:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        hits, misses = map(int, out.splitlines()[-1].split())
        assert hits >= 500, "its own texts, the second time"
        assert hits + misses == 1000
    out, err = child(tmp_path, 0, 750, 1).communicate(timeout=60)
    assert out.splitlines()[-1] == "750 0", err


def test_a_killed_process_leaves_it_whole(tmp_path) -> None:
    for number in range(3):
        process = child(tmp_path, 0, 2000, 100)
        for _ in range(10 * number + 3):
            assert process.stdout is not None
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    out, err = child(tmp_path, 0, 75, 1).communicate(timeout=60)
    assert out.splitlines()[-1] == "75 0", err
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_threads_and_forks_share_it(tmp_path) -> None:
    with closing(cached(tmp_path)) as embedder:
        expected = Model()(["a", "b"]).astype("f4")
        wrong: list[object] = []

        def work() -> None:
            for number in range(20):
                rows = embedder.embed_documents(["a", f"text {number}", "b"])
                if not np.array_equal(rows[[0, 2]], expected):
                    wrong.append(rows)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert embedder.hits + embedder.misses == 240
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child_id = os.fork()
        if not child_id:
            rows = embedder.embed_documents(["a", "b", "of the child"])
            own = embedder._file._opened[0] == os.getpid()
            os._exit(0 if own and np.array_equal(rows[:2], expected) else 1)
        assert os.waitpid(child_id, 0)[1] == 0
        before = embedder.misses
        embedder.embed_documents(["of the child"])
        assert embedder.misses == before


def test_wrong_use(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="the embedding cache is a directory, but"):
        CachedEmbedder(Model(), tmp_path / "file")
    with pytest.raises(InputError, match="max_bytes must be at least 1, not 0"):
        CachedEmbedder(Model(), tmp_path, max_bytes=0)
    with pytest.raises(EmbedderError, match="not None"):
        CachedEmbedder(None, tmp_path)
    embedder = cached(tmp_path)
    with pytest.raises(EmbedderError, match="position 1 is None"):
        embedder.embed_documents(["a", None])
    assert embedder.misses == 0


def test_what_the_model_must_not_return_is_not_kept(tmp_path) -> None:
    class Own:
        name, dim = "own", DIM

        def fingerprint(self):
            return FunctionEmbedder(Model(), name="m").fingerprint()

        def embed_queries(self, texts):
            return Model()(texts)

        def embed_documents(self, texts, *, progress=None):
            return np.full((len(texts), DIM), np.nan)

    with closing(CachedEmbedder(Own(), tmp_path)) as embedder:
        for _ in range(2):
            with pytest.raises(EmbedderError, match="NaN or an infinity"):
                embedder.embed_documents(["a"])


def test_reading_writes_nothing(tmp_path) -> None:
    with closing(cached(tmp_path)) as embedder:
        embedder.embed_documents(["a", "b"])
    before = (tmp_path / NAME).read_bytes()
    time.sleep(0.01)
    with closing(cached(tmp_path)) as embedder:
        embedder.embed_documents(["a", "b"])
    assert (tmp_path / NAME).read_bytes() == before
