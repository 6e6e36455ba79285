"""Checksums: whoever computes them, they are zlib's."""

from __future__ import annotations

import subprocess
import sys
import zlib

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.checksum import crc32

BYTES = np.random.default_rng(0).bytes(1 << 20)
WITHOUT = """
import sys, zlib
sys.modules["zlib_ng"] = None  # as where there is no build of it
from vecindex.checksum import crc32
assert crc32 is zlib.crc32
from vecindex import VectorIndex
print(VectorIndex.open(sys.argv[1]).search([1.0, 0.0], k=1)[0].text)
"""


@pytest.mark.parametrize("size", [0, 1, 15, 16, 63, 64, 65, 1000, 5121, 65_536, 262_144, 1 << 20])
def test_the_numbers_are_those_of_zlib(size: int) -> None:
    for start in (0, 1, 7):
        data = memoryview(BYTES)[start : start + size]
        assert crc32(data) == zlib.crc32(data)
        assert crc32(data, 0xDEADBEEF) == zlib.crc32(data, 0xDEADBEEF)
        assert crc32(data[size // 3 :], crc32(data[: size // 3])) == zlib.crc32(data)


def test_it_goes_without_zlib_ng(tmp_path) -> None:
    with VectorIndex.create(tmp_path / "x.vx", dim=2) as index:
        index.add(texts=["east", "north"], vectors=[[1, 0], [0, 1]])
        index.optimize()
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "x.vx")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "east\n"
