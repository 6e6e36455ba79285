"""How FAISS is loaded: threads sleep, products use the processor, nobody else is concerned."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from numpy._core._multiarray_umath import __cpu_features__ as FEATURES  # noqa: N812
from threadpoolctl import threadpool_info

import vecindex.ann  # noqa: F401 - loads FAISS

SCRIPT = """
import os, subprocess, sys
name = sys.argv[1]
before = dict(os.environ)
seen = []
class Finder:
    def find_spec(self, module, path=None, target=None):
        if module == "faiss":
            seen.append(os.environ.get(name))
sys.meta_path.insert(0, Finder())
import vecindex.ann
assert dict(os.environ) == before
show = f"import os; print(os.environ.get({name!r}))"
child = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
print(*seen, child.stdout.strip())
"""


def seen(name: str, given: str | None) -> str:
    """Return a variable as FAISS finds it when it is loaded, and as a later child does."""
    environment = {key: value for key, value in os.environ.items() if key != name}
    if given is not None:
        environment[name] = given
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "passive None"), ("active", "active active"), ("passive", "passive passive")],
)
def test_waiting_threads_sleep_in_this_process_only(given: str | None, expected: str) -> None:
    assert seen("OMP_WAIT_POLICY", given) == expected


def test_products_are_told_of_the_processor_in_this_process_only() -> None:
    assert seen("OPENBLAS_CORETYPE", "Nehalem") == "Nehalem Nehalem"
    wanted = "SkylakeX" if FEATURES.get("AVX512_SKX") else "Haswell"
    if not (FEATURES.get("AVX2") and FEATURES.get("FMA3")):
        wanted = "None"
    assert seen("OPENBLAS_CORETYPE", None) == f"{wanted} None"


def test_products_use_what_the_processor_has() -> None:
    """The library of FAISS's wheels does not know newer ones, and would take SSE3 there."""
    used = [
        library["architecture"]
        for library in threadpool_info()
        if library["internal_api"] == "openblas" and "faiss" in library["filepath"]
    ]
    if not used or not FEATURES.get("AVX2"):
        pytest.skip("FAISS brings no OpenBLAS, or the processor has no AVX2")
    assert not {"Prescott", "Core2", "Nehalem", "Barcelona"} & set(used)
