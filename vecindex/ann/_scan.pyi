from typing import Any

import numpy as np

from vecindex.arrays import Float32Array, Int64Array, UInt8Array

Addresses = np.ndarray[Any, np.dtype[np.uint64]]

class Lists:
    def __init__(
        self,
        words: Float32Array,
        centroids: UInt8Array,
        scales: Float32Array,
        codes: Addresses,
        ids: Addresses,
        sizes: Int64Array,
        dim: int,
        quantizers: int,
        block_rows: int,
        /,
    ) -> None: ...
    def find(self, queries: Float32Array, nprobe: int, found: Int64Array, /) -> None: ...
    def best(
        self,
        asked: Float32Array,
        nprobe: int,
        slots: int,
        queries: Float32Array,
        dim: int,
        matrix: Float32Array,
        scores: Float32Array,
        rows: Int64Array,
        /,
    ) -> None: ...
