"""JSON that every parser reads: what records and reports hold, as text."""

from __future__ import annotations

import base64
import json
import math
from datetime import date, datetime
from typing import Any

import numpy as np


def json_text(value: Any, indent: int | None = None) -> str:
    """Return strict JSON for records, hits and reports.

    Parameters
    ----------
    value : object
        Dicts, lists and plain values; a `datetime` or `date` becomes ISO 8601 text, `bytes` become
        base64 text, numpy numbers and arrays numbers and lists, NaN and the infinities null.
    indent : int or None
        Spaces per level; None writes one line.

    Returns
    -------
    str
        Text without a newline at its end; not only ASCII.

    Raises
    ------
    TypeError
        If a value is of another type.
    """
    options: dict[str, Any] = {"ensure_ascii": False, "default": _json_default, "indent": indent}
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_without_nan(json.loads(json.dumps(value, **options))), **options)


def _json_default(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
