"""Functions as embedders: what is passed on, and every wrong output that is refused."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest

from vecindex.embed import FunctionEmbedder, check_same, is_embedder
from vecindex.errors import EmbedderError, EmbedderMismatchError


def letters(texts: list[str]) -> list[list[float]]:
    """Embed by length and by counts of two letters."""
    return [[len(text), text.count("a"), text.count("b"), 1.0] for text in texts]


class Encoder:
    """An object as other libraries have them."""

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array(letters(texts), dtype=np.float64)


def test_rows_belong_to_their_texts():
    embedder = FunctionEmbedder(letters)
    rows = embedder.embed_documents(("abba", "", "aa"))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[4, 2, 2, 1], [0, 0, 0, 1], [2, 2, 0, 1]]
    assert np.array_equal(rows, FunctionEmbedder(Encoder()).embed_documents(["abba", "", "aa"]))


def test_batches_and_progress():
    sizes: list[int] = []
    steps: list[tuple[int, int]] = []

    def counted(texts: list[str]) -> list[list[float]]:
        assert type(texts) is list
        sizes.append(len(texts))
        return letters(texts)

    texts = ["a" * i for i in range(600)]
    rows = FunctionEmbedder(counted).embed_documents(
        texts, progress=lambda done, total: steps.append((done, total))
    )
    assert sizes == [256, 256, 88]
    assert steps == [(256, 600), (512, 600), (600, 600)]
    assert rows[:, 1].tolist() == list(range(600))


def test_queries_go_to_their_own_function():
    embedder = FunctionEmbedder(letters, query_function=lambda texts: [[9, 9, 9, 9] for _ in texts])
    assert embedder.embed_queries(["a"]).tolist() == [[9, 9, 9, 9]]
    assert embedder.embed_documents(["a"]).tolist() == [[1, 1, 0, 1]]
    assert FunctionEmbedder(letters).embed_queries(["a"]).tolist() == [[1, 1, 0, 1]]


def test_names():
    here = __name__
    assert FunctionEmbedder(letters).name == f"function:{here}.letters"
    assert FunctionEmbedder(functools.partial(letters)).name == f"function:{here}.letters"
    assert FunctionEmbedder(Encoder()).name == f"function:{here}.Encoder"
    assert FunctionEmbedder(Encoder().encode).name == f"function:{here}.Encoder.encode"
    assert FunctionEmbedder(letters, name="mine").name == "function:mine"
    assert FunctionEmbedder(letters, name="function:mine").name == "function:mine"
    assert FunctionEmbedder(letters, name="st:org/model").name == "function:st:org/model"


def test_dim_and_empty_lists_need_no_text_first():
    assert FunctionEmbedder(letters).dim == 4
    empty = FunctionEmbedder(letters).embed_documents([])
    assert (empty.shape, empty.dtype) == ((0, 4), np.float32)
    assert FunctionEmbedder(letters).embed_queries([]).shape == (0, 4)


def test_fingerprint_tells_functions_apart():
    stored = FunctionEmbedder(letters).fingerprint()
    check_same(stored, FunctionEmbedder(Encoder(), name="other").fingerprint())
    assert stored.name.endswith(".letters")
    with pytest.raises(EmbedderMismatchError, match="lowest cosine"):
        check_same(
            stored, FunctionEmbedder(lambda texts: np.array(letters(texts))[:, ::-1]).fingerprint()
        )


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([[1.0, 2.0]], "was given 2 texts, but returned 1 embeddings"),
        ([[1.0]] * 3, "was given 2 texts, but returned 3 embeddings"),
        ([], r"of shape \(2, dim\), not of shape \(0,\)"),
        ([1.0, 2.0], r"not of shape \(2,\)"),
        (np.ones((2, 3, 4)), r"not of shape \(2, 3, 4\)"),
        (np.ones((2, 0)), "dimension 0; expected at least 1"),
        ([[1.0], [1.0, 2.0]], r"must return an array of numbers of shape \(2, dim\)"),
        ([[1.0], ["x"]], "must return an array of numbers"),
        ([[1.0], [None]], "must return an array of numbers"),
        ([[True], [False]], "not bool"),
        (np.ones((2, 2), dtype=complex), "not complex128"),
        (None, "not NoneType"),
        ([[1.0], [float("nan")]], "NaN or an infinity for the text at position 1;"),
        ([[float("inf")], [float("nan")]], "at position 0 and for 1 more;"),
        ([[1.0], [1e39]], "position 1"),
    ],
)
def test_wrong_output_is_named(output, message):
    embedder = FunctionEmbedder(lambda texts: output, name="broken")
    with pytest.raises(EmbedderError, match=message) as caught:
        embedder.embed_documents(["a", "b"])
    assert "function:broken" in str(caught.value)
    with pytest.raises(EmbedderError):
        embedder.embed_queries(["a", "b"])


def test_positions_count_over_batches():
    def broken(texts: list[str]) -> np.ndarray:
        return np.array([[np.nan if text == "bad" else 1.0] for text in texts])

    texts = ["good"] * 300 + ["bad"] + ["good"] * 10
    with pytest.raises(EmbedderError, match="position 300;"):
        FunctionEmbedder(broken).embed_documents(texts)


def test_one_dimension_for_all_calls():
    embedder = FunctionEmbedder(lambda texts: np.ones((len(texts), len(texts))), name="moving")
    embedder.embed_documents(["a", "b"])
    with pytest.raises(EmbedderError, match="dimension 3; expected 2, as before"):
        embedder.embed_queries(["a", "b", "c"])
    assert embedder.dim == 2


@pytest.mark.parametrize("embed", ["embed_documents", "embed_queries"])
def test_texts_must_be_str(embed):
    method = getattr(FunctionEmbedder(letters), embed)
    with pytest.raises(EmbedderError, match="position 1 is None"):
        method(["a", None])
    with pytest.raises(EmbedderError, match="position 0 is of type bytes"):
        method([b"a"])
    with pytest.raises(EmbedderError, match="a list of str, not one str"):
        method("a text")
    with pytest.raises(EmbedderError, match="a list of str, not one NoneType"):
        method(None)


def test_the_functions_own_errors_go_through():
    def failing(texts: list[str]) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        FunctionEmbedder(failing).embed_documents(["a"])


@pytest.mark.parametrize("thing", [3, "name", Encoder, None])
def test_what_cannot_be_called_is_refused(thing):
    with pytest.raises(EmbedderError, match="function or an object with an encode method"):
        FunctionEmbedder(thing)


def test_threads_cannot_bring_in_two_dimensions():
    barrier = threading.Barrier(2)
    errors: list[Exception] = []

    def by_first(texts: list[str]) -> np.ndarray:
        barrier.wait()
        return np.ones((len(texts), int(texts[0])))

    embedder = FunctionEmbedder(by_first)

    def run(text: str) -> None:
        try:
            embedder.embed_documents([text])
        except EmbedderError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(text,)) for text in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1


def test_is_an_embedder():
    assert is_embedder(FunctionEmbedder(letters))
    assert not is_embedder(FunctionEmbedder)
    assert not is_embedder(letters)
