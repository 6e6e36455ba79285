"""Word vectors: every format is read, every damage is named, a text is the mean of its words."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.embed import WordVectors, check_same, resolve
from vecindex.embed import words as words_module
from vecindex.errors import EmbedderError

# Two meanings, royal and female, and a third in which all words differ a little.
ROYAL = {
    "king": (1.0, 0.0, 0.1),
    "queen": (1.0, 1.0, -0.1),
    "man": (0.0, 0.0, 0.5),
    "woman": (0.0, 1.0, 0.4),
    "prince": (0.8, 0.1, 0.9),
    "Ärztin": (-0.5, 1.0, 1.25),
    ". . .": (0.25, -1.0, 0.0),
}


def as_text(header: str = "", *, end: str = "\n") -> bytes:
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in ROYAL.items()]
    return (header + end.join(lines) + end).encode()


def as_binary(*, end: bytes = b"") -> bytes:
    found = f"{len(ROYAL) - 1} 3\n".encode()  # a word with spaces cannot be in this form
    for word, row in list(ROYAL.items())[:-1]:
        found += word.encode() + b" " + np.array(row, dtype="<f4").tobytes() + end
    return found


FORMATS = {
    "glove": as_text(),
    "glove on Windows": as_text(end="\r\n"),
    "word2vec text": as_text("7 3\n"),
    "fasttext .vec": as_text("7 3\n", end=" \n"),
    "word2vec binary": as_binary(),
    "word2vec binary with line ends": as_binary(end=b"\n"),
}


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes(as_text())
    return WordVectors(path)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_format_gives_the_same_vectors(form, pack, tmp_path):
    path = tmp_path / "vectors"
    path.write_bytes(pack(FORMATS[form]))
    embedder = resolve(f"words:{path}")
    assert (embedder.name, embedder.dim) == (f"words:{path}", 3)
    assert embedder.words == list(ROYAL)[: len(embedder.words)]
    assert len(embedder.words) >= 6
    for word in embedder.words:
        assert np.array_equal(embedder.vector(word), np.array(ROYAL[word], dtype=np.float32))
    assert embedder.vector("King").tolist() == embedder.vector("king").tolist()


def test_many_words_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("vecindex.embed.word_files._BLOCK", 64)
    vectors = np.random.default_rng(0).normal(size=(300, 5)).astype("<f4")
    rows = [f"w{at} ".encode() + row.tobytes() for at, row in enumerate(vectors)]
    (tmp_path / "v.bin").write_bytes(b"300 5\n" + b"".join(rows))
    embedder = WordVectors(tmp_path / "v.bin")
    assert np.array_equal(embedder.embed_documents([f"w{at}" for at in range(300)]), vectors)


def test_king_minus_man_plus_woman_is_queen(words, tmp_path):
    with VectorIndex.create(tmp_path / "i.vx", embedder=words) as index:
        index.add(texts=words.words[:6], ids=words.words[:6])
        asked = words.vector("king") - words.vector("man") + words.vector("woman")
        best = [hit.id for hit in index.search(asked, k=3) if hit.id not in {"king", "woman"}]
        assert best[0] == "queen"
        assert index.search("Prince!", k=1)[0].id == "prince"
    with pytest.raises(EmbedderError, match=r"words:.*cannot be restored by name.*embedder="):
        VectorIndex.open(tmp_path / "i.vx").search("queen")
    with VectorIndex.open(tmp_path / "i.vx", embedder=words.name) as index:
        assert index.search("queen", k=1)[0].id == "queen"


def test_a_text_is_the_mean_of_its_known_words(words):
    rows = words.embed_documents(["The king, the MAN and a queen_!", "Ärztin", "ärztin king"])
    assert np.abs(rows[0] - np.mean([ROYAL["king"], ROYAL["man"]], axis=0)).max() < 1e-6
    assert np.array_equal(rows[1], np.array(ROYAL["Ärztin"], dtype=np.float32))
    assert np.array_equal(rows[2], np.array(ROYAL["king"], dtype=np.float32))
    assert list(words.unknown.items())[:2] == [("The", 1), ("the", 1)]
    words.embed_queries(["queen and the king and man and"])
    assert next(iter(words.unknown.items())) == ("and", 4)
    assert words.unknown["queen_"] == 1


def test_a_text_without_a_known_word_is_named(words):
    with pytest.raises(EmbedderError, match="'Hello, new World': none of its words is known") as at:
        words.embed_documents(["king", "queen", "Hello, new World"])
    assert str(at.value).endswith("'Hello', 'new', 'World'")
    assert "the text at position 2" in at.value.__notes__[0]
    with pytest.raises(EmbedderError, match=r"cannot embed '\?!': it has no word"):
        words.embed_queries(["?!"])
    with pytest.raises(EmbedderError, match="has no vector of the word 'emperor'"):
        words.vector("emperor")


def test_unknown_words_are_bounded(words, monkeypatch):
    monkeypatch.setattr(words_module, "_MOST_UNKNOWN", 10)
    words.embed_documents([f"king often often rare{at}" for at in range(50)])
    assert len(words.unknown) <= 10
    assert words.unknown["often"] == 100


def test_other_vectors_are_another_model(words, tmp_path):
    other = tmp_path / "other.txt"
    other.write_bytes(as_text().replace(b"king 1.0", b"king -1.0"))
    check_same(words.fingerprint(), WordVectors(words.name).fingerprint())
    with pytest.raises(EmbedderError, match="differently"):
        check_same(words.fingerprint(), WordVectors(other).fingerprint())


HEADED = as_text("7 3\n")
DAMAGED = [
    (b"", "holds no word vectors"),
    (b"\n\n", "holds no word vectors"),
    (b"king\nqueen\n", "line 1: expected a word and its numbers, found 0"),
    (as_text().replace(b"queen 1.0 ", b"queen "), "line 2: expected a word and 3 numbers, found 2"),
    (as_text().replace(b"queen", b"queen 7"), "line 2: expected a word and 3 numbers, found 4"),
    (as_text().replace(b"queen 1.0", b"queen one"), "line 2: the word 'queen' has something else"),
    (as_text().replace(b"queen 1.0", b"queen nan"), "line 2: the word 'queen' has NaN"),
    (as_text().replace(b"queen 1.0", b"queen 1e99"), "line 2: the word 'queen' has NaN or an inf"),
    (b"not a file of vectors at all\n", "line 1: the word 'not' has something else"),
    (HEADED.replace(b"7 3", b"8 3"), "announces 8 words in line 1, but holds 7"),
    (HEADED.replace(b"7 3", b"6 3"), "announces 6 words in line 1, but holds 7"),
    (HEADED.replace(b"7 3", b"7 4"), "line 2: expected a word and 4 numbers, found 3"),
    (HEADED.replace(b"7 3", b"7 x"), "line 1: the word '7' has something else than numbers"),
    (HEADED.replace(b"7 3", b"7 0"), "line 2: expected a word"),
    (HEADED.replace(b"7 3", b"7 " + 19 * b"4"), "expected a word and 1 numbers, found 3"),
    (HEADED.replace(b"7 3", b"7 " + 5000 * b"4"), "line 1: the word '7' has NaN or an infinity"),
    (HEADED[: len(HEADED) // 2], "line 5: expected a word|announces 7 words"),
    (as_binary()[:-1], "word 6 of 6: the file ends too early"),
    (as_binary()[:40], "word 3 of 6: the file ends too early"),
    (as_binary() + b"more 12345678", "announces 6 words in line 1, but holds more"),
    (as_binary().replace(b"6 3", b"6 2"), "word 4 of 6: .* is no word; line 1 says 2 dimensions"),
    (as_binary().replace(b"6 3", b"6 4"), "word 2 of 6|word 3 of 6|word 4 of 6"),
    (
        as_binary().replace(np.float32(0.8).tobytes(), np.float32("inf").tobytes()),
        "word 5 of 6, 'prince' has NaN or an infinity",
    ),
    (gzip.compress(as_text(), mtime=0)[:-12], "cannot read the word vectors"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_damage_is_named_by_its_place(content, message, tmp_path):
    path = tmp_path / "damaged.vec"
    path.write_bytes(content)
    with pytest.raises(EmbedderError, match=message) as caught:
        WordVectors(path).embed_queries(["king"])
    assert str(path) in str(caught.value)


def test_a_word_that_comes_twice_has_its_first_vector(tmp_path):
    path = tmp_path / "twice.txt"
    path.write_bytes(b"king 1 0\nking 0 1\nqueen 1 1\n")
    assert WordVectors(path).vector("king").tolist() == [1, 0]
    assert WordVectors(path).words == ["king", "queen"]
