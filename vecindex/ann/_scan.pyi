from typing import Any

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int32Array, Int64Array, UInt8Array

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
        dim: int,
        queries: Float32Array,
        matrix: Float32Array,
        alive: BoolArray,
        scores: Float32Array,
        rows: Int64Array,
        counts: Int32Array,
        places: Int32Array,
        /,
    ) -> None: ...
