"""Small models made from a configuration and a seed, saved as their libraries do it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WORDS = ["king", "queen", "man", "woman", "bank", "river", "money", "the", "of", "a", "un", "##un"]


def save_bert(directory: Path, *, positions: int = 24) -> Path:
    """A BERT of two layers that knows the words above."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    directory.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer.from_pretrained(str(directory)).save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(directory)
    return directory


def save_gpt(directory: Path) -> Path:
    """A GPT-2 of one layer that knows the words above; without special tokens or padding."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    whole.save_pretrained(directory)
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    GPT2Model(GPT2Config(vocab_size=len(vocabulary), **size, **ends)).save_pretrained(directory)
    return directory


def save_vit(directory: Path) -> Path:
    """A vision transformer of one layer for images of 16 by 16 points."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        initializer_range=0.5,
    )
    ViTModel(config).save_pretrained(directory)
    # As the hub's models have it; the processor without torchvision is asked for by name.
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 16, "width": 16},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_resize": True,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    return directory


def save_clip(directory: Path) -> Path:
    """A CLIP of one layer each, for letters and images of 16 by 16 points."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    directory.mkdir()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(str(directory), model_max_length=16)
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    layer = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    text = {"vocab_size": len(tokens), "max_position_embeddings": 16}
    text |= {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    config = CLIPConfig(
        text_config={**layer, **text},
        vision_config={**layer, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(directory)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "size": {"shortest_edge": 16},
        "crop_size": {"height": 16, "width": 16},
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    return directory


def save_static(directory: Path) -> Path:
    """A static model of eight dimensions that knows the words above."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    vocabulary = {word: place for place, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(vocabulary), 8)).astype(np.float32)
    model = StaticModel(vectors, tokenizer, max_length=10)
    model.save_pretrained(directory, model_name="tiny")
    return directory


def images(count: int) -> list:
    """Seeded images of 20 by 30 points."""
    from PIL import Image

    rng = np.random.default_rng(1)
    return [
        Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)) for _ in range(count)
    ]
