"""What `vecindex bench` is given: vectors, queries and lists, read into what measuring takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vecindex.cli.options import split_names
from vecindex.cli.queries import is_npy, read_query_file
from vecindex.errors import InputError

if TYPE_CHECKING:
    from vecindex.bench import Dataset, Workload
    from vecindex.index import VectorIndex


def shares(text: str | None, option: str) -> tuple[float, ...]:
    """Return the shares that an option lists, as in `50%,10%`; anything else is wrong usage."""
    from vecindex.bench.workload import parse_shares

    try:
        return parse_shares(text) if text is not None else ()
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def structures(text: str | None, *, alternatives: bool) -> tuple[str, ...]:
    """Return the specs that are listed, or the usual ones; an unknown one is wrong usage."""
    from vecindex.bench import STRUCTURES
    from vecindex.errors import SpecError
    from vecindex.spec import parse_spec

    if text is None:
        return STRUCTURES if alternatives else ()
    names = split_names([text])
    try:
        for name in names:
            parse_spec(name)
    except SpecError as error:
        raise typer.BadParameter(str(error), param_hint="--structures") from error
    if not names:
        raise typer.BadParameter("no structure is named", param_hint="--structures")
    return names


def workload(**choices: Any) -> Workload:
    """Return the workload of the options; values that it refuses are wrong usage."""
    from vecindex.bench import Workload

    try:
        return Workload(**choices)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def read_dataset(vectors: Path, queries: Path | None, work: Workload) -> Dataset:
    """Return the data set of a `.npy` file or of an HDF5 file.

    Parameters
    ----------
    vectors : Path
        The file.
    queries : Path or None
        A `.npy` file of queries; an HDF5 file brings its own.
    work : Workload
        Its sample and seed draw queries.

    Returns
    -------
    Dataset
        Of unit rows.

    Raises
    ------
    InputError
        If a file is not what its name says.
    """
    from vecindex.bench import from_arrays, read_hdf5
    from vecindex.bench.hdf5 import SUFFIXES
    from vecindex.io import read_array

    if vectors.suffix.lower() in SUFFIXES:
        if queries is not None:
            raise typer.BadParameter(f"{vectors} brings its own queries", param_hint="--queries")
        return read_hdf5(vectors, sample=work.sample, seed=work.seed)
    for path in (vectors, queries):
        if path is not None and not is_npy(path):
            raise InputError(
                f"{path}: expected vectors in a .npy file, or a data set of ann-benchmarks in a "
                f"file that ends in {', '.join(SUFFIXES)}"
            )
    asked = None if queries is None else read_array(queries, dims=(2,))
    rows = read_array(vectors, dims=(2,))
    return from_arrays(rows, asked, name=vectors.name, sample=work.sample, seed=work.seed)


def model_of(index: Path, named: str | None) -> Any:
    """Return the embedder named, or else the one that the index names."""
    from vecindex.embed import from_manifest, resolve
    from vecindex.index import VectorIndex

    with VectorIndex.open(index) as opened:
        stored = opened.info().embedder
    return resolve(named) or (from_manifest(stored) if stored else None)


def read_queries(index: VectorIndex, path: Path, model: Any) -> Any:
    """Return the queries of a `.npy` file, or the embedded lines of a text file.

    Parameters
    ----------
    index : VectorIndex
        Makes sure that the model is its own.
    path : Path
        The file.
    model : Embedder
        Embeds texts.

    Returns
    -------
    ndarray of shape (q, dim)
        Vectors.

    Raises
    ------
    InputError
        If the file is neither, or holds no queries.
    """
    asked = read_query_file(path)
    if not isinstance(asked, list):
        return asked
    index.search(asked[0], k=1)  # the index makes sure that the model is its own
    return model.embed_queries(asked)
