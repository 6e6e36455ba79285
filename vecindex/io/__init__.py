"""Files in and out: readers that stream batches of records, and exports."""

from vecindex.io.columnar import read_array
from vecindex.io.export import export
from vecindex.io.records import Batch, Columns
from vecindex.io.sources import SUFFIXES, column_names, read_batches
from vecindex.io.strict_json import json_text

__all__ = [
    "read_batches",
    "column_names",
    "read_array",
    "Columns",
    "Batch",
    "SUFFIXES",
    "export",
    "json_text",
]
