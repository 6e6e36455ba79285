"""Files in and out: readers that stream batches of records, and exports."""

from vecindex.io.columnar import read_array
from vecindex.io.columns import Columns, find_columns
from vecindex.io.export import export
from vecindex.io.opened import Source
from vecindex.io.records import Batch, Skipped
from vecindex.io.sources import SUFFIXES, column_names, open_source, read_batches
from vecindex.io.strict_json import json_text

__all__ = [
    "read_batches",
    "open_source",
    "column_names",
    "find_columns",
    "read_array",
    "Columns",
    "Batch",
    "Source",
    "Skipped",
    "SUFFIXES",
    "export",
    "json_text",
]
