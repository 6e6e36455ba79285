"""The arguments of opening an index, checked before anything is touched."""

from __future__ import annotations

import os
from numbers import Real
from pathlib import Path

from vecindex.errors import InputError


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path that a change of the working directory does not change."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links


def check_mode(mode: str) -> None:
    """Raise `InputError` unless an index can be opened in this mode."""
    if mode not in ("r", "r+"):
        raise InputError(f'mode must be "r" or "r+", not {mode!r}')


def check_modes(durability: str, maintenance: str) -> None:
    """Raise `InputError` unless these are ways of writing."""
    if durability not in ("sync", "os"):
        raise InputError(f'durability must be "sync" or "os", not {durability!r}')
    if maintenance not in ("background", "manual"):
        raise InputError(f'maintenance must be "background" or "manual", not {maintenance!r}')


def check_refresh(refresh: str) -> None:
    """Raise `InputError` unless this is a way of stepping to newer states."""
    if refresh not in ("manual", "auto"):
        raise InputError(f'refresh must be "manual" or "auto", not {refresh!r}')


def check_timeout(timeout: float) -> float:
    """Return seconds to wait; raise `InputError` unless they are a number from 0 on."""
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not timeout >= 0:
        raise InputError(f"timeout must be a number of seconds >= 0, not {timeout!r}")
    return float(timeout)
