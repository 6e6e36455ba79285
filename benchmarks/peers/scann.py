"""ScaNN: anisotropic 4-bit codes, rescored; pruned by a tree or scanned whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scann import scann_ops_pybind

from benchmarks.peers.base import SAVED, Ask, Peer, Setting
from benchmarks.timing import folder_bytes
from benchmarks.truth import K
from vecindex.arrays import Float32Array

_REORDER = (20, 30, 50, 100, 200, 400)
_LEAVES = (5, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class ScannPeer(Peer):
    """What its documentation advises: 2 dimensions a code, threshold 0.2, float32 reordering.

    A tree of about 2 sqrt(n) leaves is the ratio of its own example (2,000 leaves for 1.18
    million rows); for fewer than 100,000 rows it advises to scan the codes without a tree.
    """

    packages = ("scann",)
    rising = False

    def __init__(self, tree: bool, soar: bool = False) -> None:
        self.tree, self.soar = tree, soar
        what = "codes without a tree" if not tree else "tree of 2 sqrt(n) leaves, codes"
        self.note = f"{what}{', SOAR lambda 1.5' if soar else ''}, AH(2, 0.2), float32 reordering"
        self.leaves = 0
        self.searcher_: Any = None

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Train and build with all cores, its default."""
        builder = scann_ops_pybind.builder(rows, K, "dot_product")
        if self.tree:
            self.leaves = max(1, int(2 * len(rows) ** 0.5))
            more = {"soar_lambda": 1.5, "overretrieve_factor": 2.0} if self.soar else {}
            builder = builder.tree(
                num_leaves=self.leaves,
                num_leaves_to_search=max(1, self.leaves // 20),
                training_sample_size=min(len(rows), 250_000),
                **more,
            )
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        self.searcher_ = builder.reorder(100).build()
        return {}

    def settings(self) -> list[Setting]:
        """The grid of leaves visited and candidates reordered."""
        if not self.tree:
            return [{"reorder": reorder} for reorder in _REORDER]
        leaves = [n for n in _LEAVES if n < self.leaves] + [self.leaves]
        return [{"leaves": n, "reorder": reorder} for n in leaves for reorder in _REORDER]

    def searcher(self, setting: Setting) -> Ask:
        """One query is searched on one thread."""
        searcher = self.searcher_
        reorder, leaves = setting["reorder"], setting.get("leaves", -1)
        return lambda query: searcher.search(
            query[0], K, pre_reorder_num_neighbors=reorder, leaves_to_search=leaves
        )[0]

    def save(self, folder: Path) -> dict[str, int]:
        """A folder, in which the float32 rows are a file of their own."""
        path = folder / SAVED
        path.mkdir()
        self.searcher_.serialize(str(path))
        size, rows = folder_bytes(path), folder_bytes(path / "dataset.npy")
        return {"index": size, "structure": size - rows}

    def load(self, folder: Path, dim: int) -> None:
        """Into memory."""
        self.searcher_ = scann_ops_pybind.load_searcher(str(folder / SAVED))
