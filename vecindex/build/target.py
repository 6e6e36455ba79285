"""Where a build works: an index that is there, one that was begun, or a new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecindex.build.options import Settled
from vecindex.embed import Embedder, Fingerprint, check_same, from_manifest, resolve
from vecindex.errors import EmbedderMismatchError, IndexPathError
from vecindex.index import VectorIndex
from vecindex.store import manifest as manifests
from vecindex.store.files import Directory

SUFFIX = ".partial"


@dataclass(frozen=True)
class Target:
    """The directory of a build.

    Parameters
    ----------
    out : Path
        The index that there shall be.
    path : Path
        Where the work is done: `out` if that is an index, else `out` with `.partial` behind it.
    begun : bool
        Whether there is an index at `path` already.
    """

    out: Path
    path: Path
    begun: bool

    @classmethod
    def of(cls, out: Path) -> Target:
        """Return the target for an index's path.

        Raises
        ------
        IndexPathError
            If there is something else.
        """
        there = os.path.lexists(out)  # a symbolic link to nothing, too
        if (out / manifests.NAME).exists():  # looked at last: another may just have made it
            return cls(out, out, True)
        if there:
            raise IndexPathError(f"{out} exists and is not an index; choose another path")
        path = out.with_name(out.name + SUFFIX)
        return cls(out, path, (path / manifests.NAME).exists())

    @property
    def updates(self) -> bool:
        """Whether a whole index is changed in place."""
        return self.path == self.out

    @property
    def directory(self) -> Directory:
        """The directory, for files beside the index's own."""
        return Directory(self.path)

    def embedder(self, given: Any) -> Embedder | None:
        """Return the embedder: the one given, else the index's own; None if it cannot be restored.

        Raises
        ------
        EmbedderMismatchError
            If another one was given than the index holds embeddings of. Where the names are equal
            that shows when the first text is embedded: a build without new texts loads no model.
        """
        resolved, stored = resolve(given), self._fingerprint()
        if stored is None:
            return resolved
        if resolved is None:
            return from_manifest(stored["name"])
        if stored["name"] != resolved.name:
            check_same(Fingerprint.from_dict(stored), resolved.fingerprint())
        return resolved

    @property
    def bound(self) -> bool:
        """Whether there is an index that holds embeddings of a model, and needs the same again."""
        return self._fingerprint() is not None

    def _fingerprint(self) -> dict[str, Any] | None:
        return manifests.read_manifest(self.directory).embedder if self.begun else None

    def beside(self, path: Path) -> Path:
        """Return a path for a directory of other things; within the index it is where that is."""
        same = os.path.abspath(path) == os.path.abspath(self.out)  # noqa: PTH100  # may not exist
        return self.path if same else path

    @contextmanager
    def opened(
        self, embedder: Embedder | None, settled: Settled, **new: Any
    ) -> Iterator[VectorIndex]:
        """Open the index for writing, or make one as `new` says.

        An error says what stays and how to go on. One that comes before the first row leaves
        nothing, if there was nothing.
        """
        if Target.of(self.out) != self:  # reading the sources may have taken long
            raise IndexPathError(
                f"another build of {self.out} began or ended meanwhile; run this one again"
            )
        if self.begun:
            index = VectorIndex.open(self.path, "r+", embedder=embedder, maintenance="manual")
        else:
            index = VectorIndex.create(self.path, embedder=embedder, maintenance="manual", **new)
        rows = 0
        try:
            with index:
                settled.check(self.directory, len(index))
                settled.keep(self.directory)
                try:
                    yield index
                finally:
                    rows = len(index)
        except BaseException as error:
            if rows:
                error.add_note(self._advice(rows, error))
            elif not self.begun:
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    @contextmanager
    def read(self, embedder: Embedder | None, settled: Settled) -> Iterator[VectorIndex | None]:
        """Open the index for reading; None if there is none yet."""
        if not self.begun:
            yield None
            return
        with VectorIndex.open(self.path, embedder=embedder) as index:
            settled.check(self.directory, len(index))
            yield index

    def finish(self) -> None:
        """Give the closed index its name."""
        if not self.updates:
            Directory(self.path).move(self.out)

    def _advice(self, rows: int, error: BaseException) -> str:
        what = f"{self.path} holds {rows:,} rows"
        if isinstance(error, EmbedderMismatchError):
            return f"{what}; build with the embedder that it was begun with, or remove it"
        return f"{what}, all of them whole; the same build goes on from there"
