"""Passages: verbatim, whole, of the size asked for, and overlapping."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecindex.embed import chunks, resolve
from vecindex.embed.window import Window
from vecindex.errors import EmbedderError

LETTERS = "ab,. \n日本é"


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Texts of white space, ASCII and other letters, in which each letter comes once."""
    kinds = draw(st.text("a日 ", max_size=80))
    return "".join(
        kind if kind == " " else chr((ord("!") if kind == "a" else 0x4E00) + place)
        for place, kind in enumerate(kinds)
    )


def check(text: str, passages: list[str]) -> None:
    """Nothing but white space is lost, and no passage holds only what others hold."""
    begin = end = 0
    for passage in passages:
        assert text.index(passage) >= begin
        begin = text.index(passage)
        assert not text[end:begin].strip()
        assert begin + len(passage) > end or passages == [text]
        end = begin + len(passage)
    assert not text[end:].strip()


@settings(max_examples=150, deadline=None)
@given(st.text(LETTERS, max_size=80), st.integers(1, 6), st.data())
def test_words(text, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    passages = chunks.words(text, size, overlap, "mine")
    if len(text.split()) <= size:
        assert passages == [text]
        return
    assert all(1 <= len(passage.split()) <= size for passage in passages)
    words = text.split()
    assert passages[0].split() == words[:size]
    assert passages[1].split() == words[size - overlap : 2 * size - overlap]
    assert sum(len(p.split()) for p in passages) == len(words) + overlap * (len(passages) - 1)


def letters_window(
    limit: int | None = None, prompt: str = "", characters: int | None = None
) -> Window:
    """Of a tokenizer that makes a token of every two letters of a word."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    pairs = Split(Regex("..?"), "isolated")
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), pairs])
    return Window(tokenizer, limit, special=2, prompt=prompt, characters=characters)


@settings(max_examples=150, deadline=None)
@given(texts(), st.integers(1, 6), st.data())
def test_tokens(text, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    window = letters_window()
    passages = window.passages(text, size, overlap, "mine")
    check(text, passages)
    counted = [sum((len(word) + 1) // 2 for word in passage.split()) for passage in passages]
    assert max(counted) <= size


def test_words_are_only_cut_where_one_is_longer_than_a_passage():
    window = letters_window()
    assert window.passages("aaaa bbbb cccc d", 5, 3, "mine") == ["aaaa bbbb", "bbbb cccc d"]
    assert window.passages("aaaa bbbbbbbb cc", 3, 1, "mine") == ["aaaa", "bbbbbb", "bbbb cc"]
    assert window.passages("aaaa bbbb", 4, 2, "mine") == ["aaaa bbbb"]


def test_the_window_leaves_room_for_special_tokens_and_prompt():
    window = letters_window(limit=8, prompt="to do: ")  # a limit of 8 - 2 - 3
    assert window.passages("aa bb cc dd", None, 0, "mine") == ["aa bb cc", "dd"]
    assert window.count_cut(["aa bb cc", "aa bb cc dd", "", "a" * 6, "a" * 7, "a b c d"]) == 3
    with pytest.raises(EmbedderError, match="mine reads at most 3 tokens of a text: passages of 4"):
        window.passages("aa", 4, 0, "mine")
    assert letters_window().passages("aa " * 99, None, 0, "mine") == ["aa " * 99]
    assert letters_window().count_cut(["aa " * 99]) == 0


def test_characters_of_several_tokens_stay_whole():
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = {sign: place for place, sign in enumerate(ByteLevel.alphabet())}
    tokenizer = Tokenizer(BPE(alphabet, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    window = Window(tokenizer, None)
    assert window.passages("😀😁😂", 4, 0, "mine") == ["😀", "😁", "😂"]
    assert window.passages("😀😁😂", 3, 0, "mine") == ["😀", "😁", "😂"]  # not less than one
    assert window.passages("😀😁😂", 8, 0, "mine") == ["😀😁", "😂"]


def test_a_limit_of_characters_makes_passages_shorter():
    window = letters_window(limit=8, characters=7)
    assert window.passages("aaaa bbbb cccc dd", None, 0, "mine") == ["aaaa", "bbbb", "cccc dd"]
    assert window.count_cut(["aaaa bb", "aaaa bbb"]) == 1


def test_characters_that_are_taken_apart_count_as_what_they_become():
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import NFKC
    from tokenizers.pre_tokenizers import Split

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = NFKC(), Split(Regex("."), "isolated")
    window = Window(tokenizer, 10)
    assert window.count_cut(["\ufdfa", "a" * 10]) == 1  # one character of three bytes: 18 letters


def test_who_has_no_tokenizer_counts_words():
    embedder = resolve(lambda texts: [[1.0]] * len(texts))
    assert chunks.passages(embedder, "a b c d e", 3, 1) == ["a b c", "c d e"]
    assert chunks.passages(embedder, "", 3, 1) == [""]
    assert [len(p) for p in chunks.passages(embedder, "x" * 150, 1, 0)] == [64, 64, 22]
    with pytest.raises(EmbedderError, match=r"function:.*give the size of a passage, in words"):
        chunks.passages(embedder, "a b", None, 0)


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (0, 0, "at least 1 token or word, not 0"),
        (3, 3, "of 3 can overlap by 0 to 2 tokens or words, not by 3"),
        (3, -1, "not by -1"),
    ],
)
def test_sizes_that_cannot_be(size, overlap, message):
    for passages in (letters_window().passages, chunks.words):
        with pytest.raises(EmbedderError, match=message):
            passages("a b c", size, overlap, "mine")
