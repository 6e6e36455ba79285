"""The recipes of docs/embedders.md run and print what the page says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from vecindex.embed import PROVIDERS

PAGE = (Path(__file__).parents[2] / "docs" / "embedders.md").read_text()
RECIPES = re.findall(r"```python\n((?:(?!```).)*)```\n```text\n(.*?)```", PAGE, flags=re.DOTALL)

GLOVE = "king 1 0 0.1\nqueen 1 1 -0.1\nman 0 0 0.5\nwoman 0 1 0.4\n"


def has(recipe: str) -> bool:
    """Whether all that a recipe imports is installed; of spaCy also its model."""
    wanted = set(re.findall(r"^(?:from|import) (\w+)", recipe, flags=re.MULTILINE))
    wanted |= set(re.findall(r'spacy.load\("(\w+)"', recipe))
    return all(importlib.util.find_spec(name) for name in wanted)


@pytest.mark.parametrize(("recipe", "output"), RECIPES, ids=["words", "sklearn", "spacy", "bio"])
def test_recipes(recipe, output, tmp_path, monkeypatch, capsys):
    if not has(recipe):
        pytest.skip("what the recipe imports is not installed")
    monkeypatch.chdir(tmp_path)
    Path("glove.txt").write_text(GLOVE)
    exec(compile(recipe, "recipe", "exec"), {"__name__": "recipe"})
    assert capsys.readouterr().out == output


def test_the_light_recipes_are_not_skipped():
    assert has(RECIPES[0][0])
    assert "sklearn" in RECIPES[1][0]
    assert has(RECIPES[1][0])


def test_the_page_names_every_provider_pooling_and_option():
    for name, provider in PROVIDERS.items():
        assert f"`{name}:" in PAGE, name
        for option in provider.options:
            assert f"`{option}`" in PAGE, option
    for pooling in ("mean", "cls", "token:i", "last_hidden_mean"):
        assert f"`{pooling}`" in PAGE
