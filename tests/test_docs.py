"""The public class documents each parameter, each result and each error."""

from __future__ import annotations

import inspect

import pytest
from numpydoc.validate import validate

from vecindex import VectorIndex

METHODS = sorted(
    name
    for name, value in inspect.getmembers(VectorIndex)
    if not name.startswith("_") and not isinstance(value, property)
)
WANTED = {"GL08", "SS03", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "YD01"}


def test_the_public_class_is_about_twenty_methods_and_some_ways_in_and_out() -> None:
    assert {"create", "open", "add", "search", "optimize", "verify", "close"} <= set(METHODS)
    assert len(METHODS) <= 30


@pytest.mark.parametrize("method", METHODS)
def test_public_methods_are_documented_in_full(method: str) -> None:
    errors = validate(f"vecindex.VectorIndex.{method}")["errors"]
    found = [f"{code} {text}" for code, text in errors if code in WANTED]
    if method in {"close", "flush", "compact", "optimize", "scan"}:  # nothing, or a Yields section
        found = [error for error in found if not error.startswith("RT01")]
    assert found == []
