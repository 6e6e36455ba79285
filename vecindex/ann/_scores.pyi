from vecindex.arrays import BoolArray, Float32Array, Int64Array

def score(
    matrix: Float32Array,
    queries: Float32Array,
    rows: Int64Array,
    dim: int,
    scores: Float32Array,
    /,
) -> None: ...
def nearest(
    matrix: Float32Array,
    queries: Float32Array,
    dim: int,
    alive: BoolArray,
    k: int,
    best_scores: Float32Array,
    best_rows: Int64Array,
    /,
) -> None: ...
def top(
    scores: Float32Array,
    rows: Int64Array,
    k: int,
    best_scores: Float32Array,
    best_rows: Int64Array,
    /,
) -> None: ...
