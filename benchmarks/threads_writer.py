"""The other process of `benchmarks.threads`: adds batches to an index until its stdin is closed."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np

from benchmarks.threads import batches
from vecindex import VectorIndex


def main() -> None:
    """Add; the arguments are the index and an `.npy` file of rows."""
    path, rows = Path(sys.argv[1]), np.load(sys.argv[2])
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    with VectorIndex.open(path, "r+") as index:
        for number, batch in enumerate(batches(rows, len(index))):
            if stop.is_set():
                break
            index.add(**batch)
            if not number:
                print("adding", flush=True)


if __name__ == "__main__":
    main()
