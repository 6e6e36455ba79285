"""What a process does besides searching, and when: a clock around the stages of adding and folding."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from vecindex import VectorIndex, ann
from vecindex.ann import codebook, ivf_build
from vecindex.index import tails
from vecindex.index.maintenance import Maintenance
from vecindex.index.rebase import Rebase
from vecindex.index.view import View
from vecindex.store.store import Store

STAGES: tuple[tuple[Any, str, str], ...] = (
    (VectorIndex, "add", "add"),
    (Maintenance, "seal", "seal"),
    (Maintenance, "rebase", "fold"),
    (Store, "freeze", "new log"),
    (Store, "rewrite", "writing a segment"),
    (codebook, "train", "training"),
    (ivf_build, "_train", "training"),
    (ann, "build", "building"),
    (ann, "questions", "exact answers"),
    (ann, "calibrate", "calibration"),
    (ann, "choose", "choosing"),
    (Rebase, "commit", "commit"),
    (Store, "commit", "commit"),
    (View, "__init__", "stepping on"),
    (tails.TailCodes, "_encode", "encoding the tail"),
    (Store, "refresh", "refresh"),
)
"""Where each stage is, and what it is called."""


@dataclass
class Moment:
    """One stage: its name, and when it began and ended (`time.perf_counter`)."""

    name: str
    start: float
    end: float = inf


@contextmanager
def watched() -> Iterator[list[Moment]]:
    """Note each stage in the list, from the beginning of the block to its end."""
    moments: list[Moment] = []

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            moment = Moment(name, time.perf_counter())
            moments.append(moment)
            try:
                return function(*arguments, **options)
            finally:
                moment.end = time.perf_counter()

        return run

    before = [(place, attribute, getattr(place, attribute)) for place, attribute, _ in STAGES]
    for (place, attribute, function), (_, _, name) in zip(before, STAGES, strict=True):
        setattr(place, attribute, timed(function, name))
    try:
        yield moments
    finally:
        for place, attribute, function in before:
            setattr(place, attribute, function)
