"""The heavy libraries behind extras, imported when they are first needed."""

from __future__ import annotations

import importlib
from typing import Any

from vecindex.errors import missing_extra


def library(module: str, package: str, extra: str) -> Any:
    """Return an imported module, or say how to install it.

    Parameters
    ----------
    module : str
        As in `"sentence_transformers"`.
    package : str
        Its name in the package registry, for the message.
    extra : str
        The extra of vecindex that brings it.

    Returns
    -------
    module
        Imported.

    Raises
    ------
    MissingExtraError
        If it is not installed. What an installed one lacks itself is a ModuleNotFoundError.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise missing_extra(package, extra) from error
