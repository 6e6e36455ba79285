"""Images and texts in one space, with a small CLIP through sentence-transformers."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import images as seeded_images
from tiny_models import save_clip

from vecindex import VectorIndex
from vecindex.embed import SentenceTransformerEmbedder
from vecindex.errors import EmbedderError, MissingExtraError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    directory = save_clip(tmp_path_factory.mktemp("models") / "clip")
    return SentenceTransformerEmbedder(str(directory), device="cpu", batch_size=2)


def test_images_are_embedded_as_clip_does_it(clip):
    import torch
    from transformers import CLIPModel

    given = seeded_images(5)
    rows = clip.embed_images(given)
    assert (rows.shape, rows.dtype) == ((5, 8), np.float32)
    square = [image.resize((16, 24), 3).crop((0, 4, 16, 20)) for image in given]
    points = torch.tensor(np.stack([np.asarray(image) for image in square])).permute(0, 3, 1, 2)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    model = CLIPModel.from_pretrained(clip.name.removeprefix("st:")).eval()
    with torch.inference_mode():
        expected = model.get_image_features(pixel_values=(points / 255 - mean) / deviation)
    assert np.abs(rows - expected.pooler_output.numpy()).max() < 1e-4
    assert np.abs(clip.embed_images([given[3]]) - rows[3]).max() < 1e-5


def test_texts_and_images_meet_in_one_index(clip, tmp_path):
    given = seeded_images(5)
    given[2].save(tmp_path / "two.png")
    with VectorIndex.create(tmp_path / "i.vx", embedder=clip) as index:
        index.add(vectors=clip.embed_images(given), ids=list("abcde"))
        index.add(texts=["dog", "cat"], ids=["dog", "cat"])
        assert index.search("dog", k=1)[0].id == "dog"
        assert index.search(clip.embed_images([tmp_path / "two.png"]), k=1)[0][0].id == "c"
    with VectorIndex.open(tmp_path / "i.vx", embedder=clip) as index:
        assert index.search("cat", k=1)[0].id == "cat"


def test_letters_beyond_the_window_are_counted(clip):
    before = clip.truncated
    clip.embed_documents(["abcdefghijklmn", "abcdefghijklmno"])
    assert clip.truncated - before == 1


def test_what_embeds_no_images_says_so(minilm, clip, monkeypatch):
    with pytest.raises(EmbedderError, match="MiniLM-L6-v2 embeds no images, only text"):
        minilm.embed_images(seeded_images(1))
    with pytest.raises(EmbedderError, match="position 1: expected a PIL image or a file's path"):
        clip.embed_images([*seeded_images(1), np.zeros((3, 3))])
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[text\]'"):
        clip.embed_images(seeded_images(1))
