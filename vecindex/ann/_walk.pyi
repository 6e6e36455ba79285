from typing import Any

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int32Array, Int64Array

Array = np.ndarray[Any, Any]

class Graph:
    def __init__(
        self,
        links: Array,
        offsets: Array,
        levels: Array,
        codes: Array,
        scales: Float32Array,
        bits: int,
        dim: int,
        entry: int,
        top: int,
        /,
    ) -> None: ...
    def walk(self, queries: Float32Array, ef: int, found: Int64Array, /) -> None: ...
    def best(
        self,
        ef: int,
        slots: int,
        queries: Float32Array,
        matrix: Float32Array,
        alive: BoolArray,
        scores: Float32Array,
        rows: Int64Array,
        counts: Int32Array,
        places: Int32Array,
        /,
    ) -> None: ...
