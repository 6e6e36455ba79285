"""Files of queries: vectors, or texts one a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecindex.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_npy(path: Path) -> bool:
    """Return whether a file holds an array, by its name."""
    return path.suffix.lower() == ".npy"


def read_query_file(path: Path) -> NDArray[Any] | list[str]:
    """Return the vectors of a `.npy` file, or the lines of a text file that are not blank.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray of shape (q, dim), or list of str
        At least one query.

    Raises
    ------
    InputError
        If the file is neither, or holds no queries.
    """
    from vecindex.io import read_array

    if is_npy(path):
        array: NDArray[Any] = read_array(path, dims=(2,))
        if not len(array):
            raise InputError(f"{path} holds no queries; expected one a row")
        return array
    if path.suffix.lower() != ".txt":
        raise InputError(f"{path}: expected queries as texts in a .txt file or vectors in a .npy")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise InputError(f"{path} holds no queries; expected one a line")
    return texts
