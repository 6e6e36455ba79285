"""The part `fuzz` of the longer commands: a share of time for each target, added up by code."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .fuzz import replay_command, run
from .results import Results, fingerprint
from .targets import TARGETS

BY_TARGET = "by target"
"""Each target has the fingerprint of what it reads with."""

_WANTED_S = 600  # of the processor, for each target
_TURN_S = 150  # by the clock


def _facts(results: Results, target: str) -> dict[str, Any]:
    """Return what is known of a target whose code is what it was."""
    code = fingerprint(TARGETS[target].code)
    fresh = {"code": code, "seconds": 0, "inputs": 0, "corpus": 0, "coverage": 0, "failures": 0}
    known = results.values.setdefault("targets", {})
    if known.get(target, {}).get("code") != code:
        known[target] = fresh
        begins = f"python -m tests.torture.fuzz {target} "
        failures = results.values["failures"]
        failures[:] = [one for one in failures if not one["replay"].startswith(begins)]
    facts: dict[str, Any] = known[target]
    return facts


def all_fuzzed(results: Results) -> bool:
    """Return whether every target had its ten minutes, or has failed."""
    return not _to_do(results)


def _to_do(results: Results) -> list[str]:
    """Return the targets that are not done, those first that were fuzzed least."""
    facts = {target: _facts(results, target) for target in TARGETS}
    left = [t for t in TARGETS if facts[t]["seconds"] < _WANTED_S and not facts[t]["failures"]]
    return sorted(left, key=lambda target: float(facts[target]["seconds"]))


def fuzz(results: Results, seed: int, options: argparse.Namespace) -> None:
    """Fuzz the targets that were fuzzed least, as many at a time as there are jobs."""
    turn = max(1.0, min(_TURN_S, results.left))
    with ThreadPoolExecutor(options.jobs) as pool:
        turns = {
            target: pool.submit(run, [target], seconds=turn, seed=seed)
            for target in _to_do(results)[: options.jobs]
        }
    for target, future in turns.items():
        outcome = future.result()[target]
        facts = _facts(results, target)
        facts["seconds"] += outcome.seconds
        facts["inputs"] += outcome.executions
        facts["corpus"], facts["coverage"] = outcome.corpus, outcome.coverage
        facts["failures"] += len(outcome.crashes)
        for crash in outcome.crashes:
            failed = AssertionError(f"{target}: {outcome.told[-500:]}")
            results.fail(seed, failed, replay_command(target, crash))
    results.values["replay"] = "python -m tests.torture.fuzz READER --replay BASE64"
    known = results.values["targets"].values()
    results.values["counts"] = {
        "inputs": sum(facts["inputs"] for facts in known), "targets": len(known)
    }  # fmt: skip
