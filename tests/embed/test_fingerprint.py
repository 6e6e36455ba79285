"""Fingerprints: what they keep, and which differences they notice."""

from __future__ import annotations

import dataclasses
import hashlib

import msgpack
import numpy as np
import pytest

from vecindex.embed import CANARIES, Fingerprint, check_same
from vecindex.embed.fingerprint import lowest_cosine, take
from vecindex.errors import EmbedderError, EmbedderMismatchError

ROWS = np.array([[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 4]], dtype=np.float32)


def fingerprint(**changes: object) -> Fingerprint:
    base = Fingerprint("st:org/model", "abc", 4, {"query": "query: "}, ROWS)
    return dataclasses.replace(base, **changes)


def test_survives_msgpack_bit_by_bit():
    old = fingerprint()
    new = Fingerprint.from_dict(msgpack.unpackb(msgpack.packb(old.to_dict())))
    assert (new.name, new.revision, new.dim, new.prompts) == (
        old.name,
        old.revision,
        old.dim,
        old.prompts,
    )
    assert new.canaries.dtype == np.float32
    assert np.array_equal(new.canaries, ROWS)
    assert fingerprint().to_dict()["canaries"][:4] == b"\x00\x00\x80\x3f"  # 1.0, little-endian


@pytest.mark.parametrize(
    "damage",
    [
        {"canaries": b"123"},
        {"canaries": None},
        {"dim": 5},
        {"dim": "4"},
        {"name": 3},
        {"prompts": {"query": 3}},
        {"prompts": None},
        {"revision": 3},
    ],
)
def test_unreadable_fields_are_an_error(damage):
    with pytest.raises(EmbedderError, match="fingerprint cannot be read"):
        Fingerprint.from_dict({**fingerprint().to_dict(), **damage})


def test_a_missing_field_is_an_error():
    data = fingerprint().to_dict()
    del data["canaries"]
    with pytest.raises(EmbedderError, match="canaries"):
        Fingerprint.from_dict(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "function:app.embed"},
        {"revision": None},
        {"canaries": ROWS * np.float32(7.5)},
        {"canaries": ROWS + np.float32(0.01)},
        {"prompts": {"query": "query: ", "document": ""}},
    ],
)
def test_the_same_model_passes(changes):
    check_same(fingerprint(), fingerprint(**changes))
    check_same(fingerprint(**changes), fingerprint())


def test_other_vectors_are_a_mismatch_that_says_all():
    turned = ROWS.copy()
    turned[1] = [0.1, 2, 0, 0]  # a cosine of 0.99875
    with pytest.raises(EmbedderMismatchError) as caught:
        check_same(fingerprint(), fingerprint(name="function:app.embed", canaries=turned))
    message = str(caught.value)
    for part in ("'st:org/model'", "'function:app.embed'", "dimension 4", "0.9988", "0.999"):
        assert part in message
    assert "Open the index with the embedder" in message
    assert "build a new index" in message
    assert "prompt" not in message


def test_another_dimension_is_a_mismatch():
    wider = np.zeros((3, 5), dtype=np.float32)
    with pytest.raises(EmbedderMismatchError, match="4 stored, 5 given"):
        check_same(fingerprint(), fingerprint(dim=5, canaries=wider))


def test_another_prompt_is_a_mismatch_even_with_equal_canaries():
    with pytest.raises(EmbedderMismatchError, match=r"query prompt differs \('query: ' stored, ''"):
        check_same(fingerprint(), fingerprint(prompts={}))
    with pytest.raises(EmbedderMismatchError, match="document prompt differs"):
        check_same(fingerprint(), fingerprint(prompts={"query": "query: ", "document": "d: "}))


def test_lowest_cosine():
    assert lowest_cosine(ROWS, ROWS) == pytest.approx(1)
    assert lowest_cosine(ROWS, -ROWS) == pytest.approx(-1)
    assert lowest_cosine(ROWS, np.zeros_like(ROWS)) == 0
    huge = np.full((1, 4), 3e38, dtype=np.float32)
    assert lowest_cosine(huge, huge) == pytest.approx(1)


def test_the_canaries_never_change():
    assert len(CANARIES) == 3
    assert hashlib.sha256("\n".join(CANARIES).encode()).hexdigest()[:16] == "39e894ad4eada660"
    assert not CANARIES[2].isascii()
    assert any(letter.isdigit() for letter in CANARIES[1])


def test_take_embeds_the_canaries_and_drops_empty_prompts():
    asked = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return ROWS

    taken = take("name", embed, revision="r", prompts={"query": "q", "document": ""})
    assert asked == list(CANARIES)
    assert (taken.name, taken.revision, taken.dim, taken.prompts) == (
        "name",
        "r",
        4,
        {"query": "q"},
    )
    assert not np.shares_memory(taken.canaries, ROWS)


def test_an_embedder_that_fails_on_the_canaries_is_told_why_it_was_asked():
    def embed(texts: list[str]) -> np.ndarray:
        raise KeyError(texts[0])

    with pytest.raises(KeyError) as caught:
        take("mine", embed)
    assert "to learn which model 'mine' is" in caught.value.__notes__[0]
