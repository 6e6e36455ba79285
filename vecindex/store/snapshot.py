"""Snapshots: the newest state in a directory of its own, taken while the writer goes on.

Whatever never changes is linked where that is possible, so that it costs no space and no time.
Logs are copied up to what was acknowledged: they grow, and recovery cuts them. So nothing that
either index does later can be seen in the other.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vecindex.errors import CorruptIndexError, IndexPathError, StorageFailedError
from vecindex.store.files import Directory, copy_file, storage_errors
from vecindex.store.log import read_log
from vecindex.store.manifest import Manifest, write_manifest
from vecindex.store.state import State

_TRIES = 20
_BESIDE = "build.json"  # what `vecindex.build` must not change at the next build
_IN_THE_WAY = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


def take_snapshot(source: Directory, newest: Callable[[], State], path: Path) -> None:
    """Make a copy of an index's newest state; it appears at `path` at once, when all is durable.

    Parameters
    ----------
    source : Directory
        The index directory.
    newest : callable
        Returns what was acknowledged last; called again if files vanish under our hands.
    path : Path
        Where there is nothing yet, or an empty directory.

    Raises
    ------
    IndexPathError
        If there is something at `path`, or it is in the index itself.
    CorruptIndexError
        If bytes that are copied are not what they were.
    StorageFullError, StorageFailedError
        If it cannot be written. There is nothing at `path` then, or all of it, if only whether
        it would survive a power failure is in doubt.
    """
    _refuse(source, path)
    partial = Directory(path.with_name(f"{path.name}.partial-{os.urandom(4).hex()}"))
    try:
        partial.make()
        _fill(source, newest, partial)
        partial.move(path)
    except BaseException as error:
        partial.discard()
        if getattr(error, "errno", None) in _IN_THE_WAY and os.path.lexists(path):
            raise _exists(path) from error  # since we looked
        raise


def _refuse(source: Directory, path: Path) -> None:
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source.path)):
        raise IndexPathError(f"{path} is in the index itself; choose a path outside of it")
    with storage_errors(f"cannot look at {path}"):
        empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if os.path.lexists(path) and not empty:
        raise _exists(path)


def _exists(path: Path) -> IndexPathError:
    return IndexPathError(f"{path} exists and is no empty directory; choose another path")


def _fill(source: Directory, newest: Callable[[], State], partial: Directory) -> None:
    problem: OSError | None = None
    for _ in range(_TRIES):
        for name in partial.names():  # of the try before
            partial.remove(name)
        state = newest()
        try:
            manifest = copy_logs(source, partial, state)
        except (FileNotFoundError, CorruptIndexError) as error:
            problem = error  # a commit has removed it, or a call that a reader saw was taken back
            continue
        try:
            missing = _take_files(source, partial, state.manifest)
        except FileNotFoundError as error:
            problem = error
            continue
        if not missing or newest().manifest == state.manifest:
            partial.sync()  # what is left by a kill opens only if it is whole
            write_manifest(partial, manifest)
            return
    if isinstance(problem, CorruptIndexError):
        raise CorruptIndexError(str(problem).replace(str(partial.path), str(source.path)))
    raise StorageFailedError(
        f"{source.path} could not be copied in {_TRIES} tries, as its files are removed before "
        f"they are reached: {problem}"
    )


def _take_files(source: Directory, partial: Directory, manifest: Manifest) -> bool:
    """Link or copy what does not change; return whether a file that is only a cache is missing."""
    with suppress(FileNotFoundError):
        partial.write(_BESIDE, source.read(_BESIDE))
    caches, held = manifest.caches(), {}
    for entry in manifest.files():  # all of them first: then it does not matter what is removed
        try:
            held[entry] = source.map(entry.name)
        except FileNotFoundError:
            if entry not in caches:
                raise
    for entry, data in held.items():
        with suppress(FileNotFoundError):
            if source.link(entry.name, partial):
                continue
        if copy_file(data, partial, entry.name) != entry and entry not in caches:
            raise CorruptIndexError(
                f"{source.path / entry.name} is damaged: what was copied of it has another "
                "checksum; verify() says where"
            )
    return len(held) < len(manifest.files())


def copy_logs(source: Directory, target: Directory, state: State) -> Manifest:
    """Copy a state's logs, without what came after it, and return the manifest that goes with them.

    Parameters
    ----------
    source : Directory
        The index directory.
    target : Directory
        Where there are no such files yet.
    state : State
        What the copies hold; its other files are not touched.

    Returns
    -------
    Manifest
        Less than all of the copies is damage.

    Raises
    ------
    FileNotFoundError, CorruptIndexError
        If a log is not what it was when the state was read.
    """
    *closed, active = state.manifest.logs
    logs = (*closed, replace(active, synced=state.offset))
    for log in logs:
        size = log.synced if log.size is None else log.size
        appender = target.create(log.name)
        try:
            appender.append([source.read(log.name)[:size]])
            appender.sync()
        finally:
            appender.close()
        for _ in read_log(target, log, log.sequence, owner=state.manifest.owner):
            pass  # a reader's state may hold a call that was taken back while it was copied
    return replace(state.manifest, logs=logs)
