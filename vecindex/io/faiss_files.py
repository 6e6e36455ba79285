"""Writing an index's vectors as a plain FAISS index, with the ids of its labels beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vecindex.ann.native import flat_header
from vecindex.errors import InputError
from vecindex.io.export import Progress, check_count, check_free, whole
from vecindex.io.rows import Rows, chunks

IDS_SUFFIX = ".ids.jsonl"
"""What is put behind the name of a FAISS file to name the list of its ids."""


def export_faiss(
    index: Rows,
    destination: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the live rows as an `IndexFlatIP`, and their ids beside it.

    Parameters
    ----------
    index : Rows
        An open index that has had rows.
    destination : str or Path
        The FAISS file; its labels 0, 1, 2... are the rows in insertion order. Line `label` of
        `<destination>.ids.jsonl` is the row's id as JSON.
    overwrite : bool
        Replace the two files if they exist.
    progress : callable or None
        Called as `progress("export", done, total)` from time to time.

    Returns
    -------
    int
        The number of rows written.

    Raises
    ------
    InputError
        If the index has never had a row, or a destination exists or lies inside the index.
    VecindexError
        If rows were added or removed meanwhile.
    OSError
        If a file cannot be written.
    """
    destination = Path(destination)
    ids_file = destination.with_name(destination.name + IDS_SUFFIX)
    total, dim = len(index), index.dim
    if dim is None:
        raise InputError(f"{index.path} has no rows yet, so a FAISS index of it has no dimension")
    for path in (destination, ids_file):
        check_free(index, path, overwrite)
    done = 0
    with whole(destination) as partial, whole(ids_file) as partial_ids:
        with partial.open("wb") as file, partial_ids.open("w", encoding="utf-8") as ids_out:
            file.write(flat_header(total, dim).data)
            for records in chunks(index, vectors=True):
                vectors = [record.vector for record in records if record.vector is not None]
                file.write(np.array(vectors, dtype="<f4").data)
                ids_out.writelines(json.dumps(record.id) + "\n" for record in records)
                done += len(records)
                if progress is not None:
                    progress("export", done, total)
        check_count(done, total)
    return done
