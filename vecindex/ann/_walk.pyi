from typing import Any

import numpy as np

from vecindex.arrays import Float32Array, Int64Array

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
        queries: Float32Array,
        ef: int,
        slots: int,
        matrix: Float32Array,
        scores: Float32Array,
        rows: Int64Array,
        /,
    ) -> None: ...
