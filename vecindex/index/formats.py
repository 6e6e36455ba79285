"""The ways into an index from other formats, and out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vecindex import embed
from vecindex.errors import EmbedderError, InputError
from vecindex.index import exchange, loading
from vecindex.index.opening import absolute, check_mode
from vecindex.index.rebase import Progress
from vecindex.io import arrow_out, export, faiss_files, find_columns, hub, open_source
from vecindex.io.rows import Rows
from vecindex.results import Id, IndexInfo, Metadata
from vecindex.spec import Spec
from vecindex.store.store import Store

if TYPE_CHECKING:
    from vecindex.index.index import VectorIndex


class OtherFormats(Rows):
    """What `VectorIndex` can be made from, and what can be made of it."""

    create: ClassVar[Callable[..., VectorIndex]]
    open: ClassVar[Callable[..., VectorIndex]]
    info: Callable[[], IndexInfo]
    _check_open: Callable[[], None]
    _store: Store

    def to_dataset(self) -> Any:
        """Return the rows as a data set that reads them while it is iterated.

        Returns
        -------
        datasets.IterableDataset
            Columns `id`, `text`, `metadata` (JSON text) and `embedding` (the unit row), in
            insertion order. Each pass opens the index anew and sees its newest state, so the data
            set outlives this object and works in other processes.

        Raises
        ------
        MissingExtraError
            If `datasets` is not installed.
        InputError
            From an iteration, if the ids are both strings and integers.
        """
        self._check_open()
        again = partial(exchange.reopen, self.path, trusted=self._store.trusted)
        return arrow_out.to_dataset(self, again)

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        vectors: bool | Literal["only"] = True,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Write the rows to a Parquet file, which is there whole or not at all.

        Parameters
        ----------
        path : str or path
            The file. Columns as of `to_dataset`.
        vectors : bool or {"only"}
            Whether there is a column `embedding`, and whether it is the only one.
        overwrite : bool
            Replace the file if it exists.
        progress : callable or None
            Called with `"export"`, rows written and rows in total.

        Returns
        -------
        int
            The number of rows written.

        Raises
        ------
        InputError
            If there is something at `path`, or the ids are both strings and integers.
        MissingExtraError
            If pyarrow is not installed.
        """
        return self._export(path, ".parquet", vectors, overwrite, progress)

    def to_csv(
        self,
        path: str | os.PathLike[str],
        *,
        vectors: bool | Literal["only"] = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Write the rows to a CSV file, which is there whole or not at all.

        Parameters
        ----------
        path : str or path
            The file, with columns `id`, `text` and `metadata` (JSON text).
        vectors : bool or {"only"}
            True adds one column for each dimension, named `0`, `1`...; `"only"` writes nothing
            else, as in an `embeddings.csv`. The numbers read back to the same float32.
        overwrite : bool
            Replace the file if it exists.
        progress : callable or None
            Called with `"export"`, rows written and rows in total.

        Returns
        -------
        int
            The number of rows written.

        Raises
        ------
        InputError
            If there is something at `path`.
        """
        return self._export(path, ".csv", vectors, overwrite, progress)

    def _export(
        self,
        path: str | os.PathLike[str],
        form: str,
        vectors: bool | Literal["only"],
        overwrite: bool,
        progress: Progress | None,
    ) -> int:
        return export(
            self, absolute(path), form=form, vectors=vectors, overwrite=overwrite, progress=progress
        )

    def export_faiss(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Write the vectors as a plain FAISS index, and the ids of its labels beside it.

        Parameters
        ----------
        path : str or path
            An `IndexFlatIP` of the unit rows, for `faiss.read_index` or
            `datasets.Dataset.load_faiss_index`; its labels are 0, 1, 2... in insertion order. Line
            `label` of `<path>.ids.jsonl` is the id as JSON.
        overwrite : bool
            Replace the two files if they exist.
        progress : callable or None
            Called with `"export"`, rows written and rows in total.

        Returns
        -------
        int
            The number of rows written.

        Raises
        ------
        InputError
            If there is something at one of the two paths, or the index has never had a row.
        """
        return faiss_files.export_faiss(
            self, absolute(path), overwrite=overwrite, progress=progress
        )

    @classmethod
    def import_faiss(
        cls,
        path: str | os.PathLike[str],
        index_path: str | os.PathLike[str],
        *,
        ids: Iterable[Id] | None = None,
        texts: Iterable[str | None] | None = None,
        metadata: Iterable[Metadata | None] | None = None,
        embedder: Any = None,
        spec: str | Spec = "auto",
        progress: Progress | None = None,
    ) -> VectorIndex:
        """Return a new, optimized index of the vectors of a FAISS file, open for writing.

        Parameters
        ----------
        path : str or path
            An `IndexFlatIP`, `IndexFlatL2`, `IndexHNSWFlat` or `IndexIVFFlat`, or an `IndexIDMap`
            over one of them. Its lengths are checked, and FAISS itself never reads it.
        index_path : str or path
            The directory to make. It appears when everything is in.
        ids : iterable of (str or int), or None
            One for each vector, in the order of the labels, of an `IndexIDMap` in the order in
            which they were added. None takes the labels.
        texts : iterable of (str or None), or None
            In the same order.
        metadata : iterable of (dict or None), or None
            In the same order.
        embedder : str, callable, Embedder or None
            What made the vectors, to ask with texts.
        spec : str or Spec
            As for `create`.
        progress : callable or None
            Called with a stage's name, what is done and the total.

        Returns
        -------
        VectorIndex
            With all vectors in it, as unit rows: scores are cosines, whatever FAISS compared by.

        Raises
        ------
        InputError
            If the file is of another type, such as codes without vectors; or a column has another
            length; `VectorValueError` if a vector is not finite or all zeros.
        CorruptIndexError
            If the file cannot be right.
        IndexPathError
            If something is at `index_path` already. After any error there is no new index.
        """
        resolved = embed.resolve(embedder)
        create = partial(cls.create, embedder=resolved, spec=spec, maintenance="manual")
        given = {"ids": ids, "texts": texts, "metadata": metadata}
        exchange.load_faiss(create, absolute(index_path), path, given, progress)
        return cls.open(index_path, "r+", embedder=resolved)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Put the rows and their vectors into a data set repository on the Hugging Face Hub.

        Parameters
        ----------
        repo_id : str
            As in `"user/name"`; made if there is none. One Parquet file and a card, which says
            how to load them, replace what an earlier push put there.
        private : bool
            Whether only you may see a repository that is made; one that exists stays as it is.
        token : str or None
            None takes what `hf auth login` or `HF_TOKEN` gave. Neither stored nor shown.

        Returns
        -------
        str
            The commit's address.

        Raises
        ------
        HubError
            If the Hub refuses or cannot be reached; nothing was committed then.
        InputError
            If the ids are both strings and integers, or the token is not one.
        MissingExtraError
            If huggingface_hub or pyarrow is not installed.
        """
        embedder = self.info().embedder
        return hub.push_rows(self, repo_id, embedder, private=private, token=token)

    def push_index_to_hub(
        self, repo_id: str, *, private: bool = True, token: str | None = None
    ) -> str:
        """Put the index itself, as it is now, into a repository on the Hugging Face Hub.

        Parameters
        ----------
        repo_id : str
            As for `push_to_hub`; take another repository than for the rows.
        private : bool
            As for `push_to_hub`.
        token : str or None
            As for `push_to_hub`.

        Returns
        -------
        str
            The commit's address.

        Raises
        ------
        HubError
            As for `push_to_hub`, or if a fold removed a file meanwhile.
        InputError
            If the token is not one.
        MissingExtraError
            If huggingface_hub is not installed.
        """
        self._check_open()
        with exchange.reopen(self.path) as newest:  # this one may show an older state
            embedder = newest.info().embedder
            return hub.push_index(newest, repo_id, embedder, private=private, token=token)

    @classmethod
    def from_hub(
        cls,
        repo_id: str,
        path: str | os.PathLike[str],
        mode: Literal["r", "r+"] = "r",
        *,
        revision: str | None = None,
        token: str | None = None,
        embedder: Any = None,
    ) -> VectorIndex:
        """Return an index that `push_index_to_hub` put on the Hub, after fetching it.

        Parameters
        ----------
        repo_id : str
            As in `"user/name"`. FAISS reads the structure in it: fetch only what comes from
            somebody whom you trust.
        path : str or path
            The directory to make. It appears when every byte was checked by `verify`.
        mode : {"r", "r+"}
            As for `open`.
        revision : str or None
            A branch, a tag or a commit; None takes the newest.
        token : str or None
            As for `push_to_hub`.
        embedder : str, callable, Embedder or None
            As for `open`.

        Returns
        -------
        VectorIndex
            Opened at `path`.

        Raises
        ------
        IndexPathError
            If something is at `path` already, or the repository holds no index.
        CorruptIndexError
            If what came is not what was pushed.
        HubError
            If the Hub refuses or cannot be reached.
        InputError, EmbedderError
            If an argument cannot be used.
        MissingExtraError
            If huggingface_hub is not installed.
        """
        check_mode(mode)
        resolved = embed.resolve(embedder)
        hub.fetch_index(repo_id, absolute(path), exchange.verify, revision=revision, token=token)
        return cls.open(path, mode, embedder=resolved)

    @classmethod
    def from_dataset(  # noqa: PLR0913  # each is one thing that a data set leaves open
        cls,
        path: str | os.PathLike[str],
        dataset: Any,
        *,
        text: str | Literal[False] | None = None,
        id: str | Literal[False] | None = None,
        metadata: str | Iterable[str] | None = None,
        vector: str | Literal[False] | None = None,
        split: str | None = None,
        embedder: Any = None,
        spec: str | Spec = "auto",
        target_recall: float = 0.95,
        batch_rows: int = 1000,
        skip_bad: Callable[[InputError], None] | None = None,
        progress: Progress | None = None,
    ) -> VectorIndex:
        """Return a new, optimized index of a data set's records, open for writing.

        Parameters
        ----------
        path : str or path
            The directory to make. It appears when everything is in.
        dataset : str, path or object
            A data set of `datasets`, a table, an iterable of dicts, a file, a directory, or a
            name on the hub: whatever `vecindex.io.read_batches` reads, a batch at a time.
        text : str, False or None
            The column of texts; None finds it if it has a plain name, see
            `vecindex.io.find_columns`; False takes none.
        id : str, False or None
            The column of ids, likewise; without one they are made.
        metadata : str, iterable of str, or None
            Columns to keep; `"*"` keeps every column that is nothing else.
        vector : str, False or None
            The column of vectors, looked for if no column of texts is named; `"*"` stands for
            the columns `0`, `1`, `2`... of one dimension each. Without one the texts are embedded.
        split : str or None
            Which split of a data set that has several.
        embedder : str, callable, Embedder or None
            As for `create`.
        spec : str or Spec
            As for `create`.
        target_recall : float
            As for `create`.
        batch_rows : int
            Records in memory, and added, at a time.
        skip_bad : callable or None
            Called with the error of each record that cannot be read or used, which is left out;
            `vecindex.io.Skipped()` counts them. None stops at the first.
        progress : callable or None
            Called with a stage's name, what is done, and the total if it is known.

        Returns
        -------
        VectorIndex
            With every record in it.

        Raises
        ------
        IndexPathError
            If something is at `path` already.
        InputError
            If a column or a split is not there, or not plain; if a record cannot be used, naming
            its place; or if there are none. After any error there is nothing at `path`.
        EmbedderError
            If there are texts to embed, and no embedder, or one that fails.
        MissingExtraError
            If the data set needs a package that is not installed.
        """
        source = open_source(dataset, split=split)
        columns = find_columns(
            source.names(), text=text, id=id, metadata=metadata, vector=vector, source=source.name
        )
        resolved = embed.resolve(embedder)
        if resolved is None and columns.vector is None:
            raise EmbedderError(
                f"{source.name}: the texts of column {columns.text!r} must be embedded: give an "
                "embedder, or name the column of their vectors (vector=...)"
            )

        def create(work: Path) -> VectorIndex:
            """Return an empty index, without upkeep in the background."""
            return cls.create(
                work,
                embedder=resolved,
                spec=spec,
                target_recall=target_recall,
                maintenance="manual",
            )

        batches = source.batches(columns, batch_rows, skip_bad)
        loading.load(create, absolute(path), source, batches, progress)
        return cls.open(path, "r+", embedder=resolved)
